"""A local HTTP server with byte ranges that can be told to misbehave."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served and how.

    Attributes:
        break_after: bytes of the body after which each of the next answers breaks off, one entry an answer.
        statuses: status codes of the next answers in place of the file.
        redirects: where the next answers send to in place of the file, one entry an answer.
        requests: the Range header of each request so far.
    """

    body: bytes
    etag: str | None = '"v1"'
    ranges: bool = True
    lengths: bool = True
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirects: list[str] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        wanted = self.headers.get("Range")
        site.requests.append(wanted)
        if site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if site.statuses:
            self.send_response(site.statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        same = self.headers.get("If-Range") in (None, site.etag)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges and same else 0
        total = len(site.body)
        if start >= total and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if site.lengths:
            self.send_header("Content-Length", str(total - start))
        if site.etag is not None:
            self.send_header("ETag", site.etag)
        self.end_headers()
        body = site.body[start:]
        self.wfile.write(body[: site.break_after.pop(0)] if site.break_after else body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def served(site: Site) -> Iterator[Site]:
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/stage1_train.zip?token=secret"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A mail server and a webhook of a test, on 127.0.0.1: what arrives lies in a queue."""

import asyncio
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from apprise.plugins.base import NotifyBase

DEADLINE_S = 60
PASSWORD = "hunter2"


@dataclass(frozen=True)
class Mail:
    """A message that arrived, for whom, and what was to be seen elsewhere just then."""

    message: EmailMessage
    to: list[str]
    seen: str = ""

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        found = self.message.get_body(preferencelist=("plain",))
        assert found is not None, self.message.as_string()
        return str(found.get_content())


class MailServer:
    """Takes mail of `ada` with PASSWORD; while `open` is not set it does not greet back."""

    def __init__(self) -> None:
        self.inbox: queue.Queue[Mail] = queue.Queue()
        self.greeted = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.port = 0
        self.look: Callable[[], str] = str

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.greeted.set()
        while not self.open.is_set():
            await asyncio.sleep(0.01)
        session.host_name = hostname
        return responses

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.inbox.put(Mail(message, list(envelope.rcpt_tos), self.look()))
        return "250 taken"

    def url(self, to: str = "team@example.org", password: str = PASSWORD) -> str:
        return f"mailto://ada:{password}@127.0.0.1:{self.port}/?from=lifecycle@example.org&to={to}"

    def get(self) -> Mail:
        return self.inbox.get(timeout=DEADLINE_S)


def send_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names is for the world outside; Apprise waits for seconds between two messages."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(NotifyBase, "request_rate_per_sec", 0)


def _password(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ada", PASSWORD.encode())
    return AuthResult(success=good, handled=False)


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """A mail server that knows one user and their password."""
    mail = MailServer()
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # its own words are not the project's
    loop = asyncio.new_event_loop()

    def session() -> SMTP:
        return SMTP(mail, hostname="mail.test", authenticator=_password, auth_require_tls=False, loop=loop)

    server = loop.run_until_complete(loop.create_server(session, "127.0.0.1", 0))
    mail.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield mail
    finally:
        mail.open.set()
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@dataclass
class Webhook:
    """Takes what is posted to it; `answer` writes the response."""

    port: int = 0
    inbox: "queue.Queue[dict[str, Any]]" = field(default_factory=queue.Queue)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/token-{PASSWORD}"

    def get(self) -> dict[str, Any]:
        return self.inbox.get(timeout=DEADLINE_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # closing does not wait for who is still being answered
    block_on_close = False


Answer = Callable[[BaseHTTPRequestHandler], None]


def take(handler: BaseHTTPRequestHandler) -> None:
    """Answer that all is well."""
    handler.send_response(200)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextmanager
def webhook(answer: Answer = take) -> Iterator[Webhook]:
    """An HTTP server that keeps what is posted to it."""
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.inbox.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join(DEADLINE_S)

"""Fetch a large file once: resumed where it stopped, checked before it is used, never half there.

    archive = download(url, sha256, Path("downloads/stage1_train.zip"), console=Console())

A file whose checksum nobody knows can be trusted the first time: `record` writes down what came, in
`<name>.sha256`, and `recorded` gives it back to whoever fetches it again.

While it runs, the bytes are in `<name>.part` and what they belong to in `<name>.part.json`; a later call
goes on from there (RFC 9110, sections 13.1.5 and 14: Range with If-Range, so that two versions never mix).
"""

import errno
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import httpx
from filelock import Timeout
from rich.console import Console

from pipelines.data.addresses import check_address, check_trusted
from pipelines.locks import lock_in_writable_folder
from pipelines.progress import progress_bar
from resunet.errors import DataError, SettingsError

MAX_BYTES: Final = 50 * 1024**3
_CHECKSUM: Final = re.compile(r"[0-9a-f]{64}")
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class _Part:
    """What a partial file belongs to. The address is kept as a digest: it may hold a signature."""

    address: str
    validator: str | None


class ChecksumError(DataError):
    """What came is not the file that was meant."""


class _InterruptedError(Exception):
    """The transfer stopped; what has arrived is kept."""


def download(
    url: str,
    sha256: str | None,
    destination: Path,
    console: Console | None = None,
    attempts: int = 5,
    timeout: float = 60.0,
    max_bytes: int = MAX_BYTES,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Fetch a file; at once if it is there already.

    Args:
        url: http or https.
        sha256: 64 hexadecimal digits, of the whole file; None takes what comes, but over https alone: every
            address on the way, redirects too, or one of this machine.
        destination: the file to write.
        attempts: how often to try when the connection breaks; each goes on where the last stopped.
        timeout: seconds without a byte after which a connection counts as broken.
        max_bytes: a longer answer is refused.
        pause: waits that many seconds between attempts.

    Returns:
        The destination.

    Raises:
        SettingsError: the address or the checksum is none, or the address cannot be trusted without a checksum.
        ChecksumError: it is not the file that was meant.
        DataError: it cannot be fetched, or there is no room for it.
    """
    wanted = None if sha256 is None else sha256.strip().lower()
    if wanted is not None and not _CHECKSUM.fullmatch(wanted):
        raise SettingsError("the checksum must be 64 hexadecimal digits (sha256)")
    check_address(url)
    if wanted is None:
        check_trusted(httpx.Request("GET", url))
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with lock_in_writable_folder(destination.with_name(destination.name + ".lock"), timeout=0):
            if destination.exists():
                return _already_there(destination, wanted)
            transfer = _Transfer(url, destination, timeout, max_bytes, console, wanted is not None)
            return _fetch(transfer, wanted, destination, attempts, pause)
    except Timeout:
        raise DataError(f"{destination.name} is being downloaded by another process; wait for it") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DataError(f"the disk of {destination.parent} is full; make room and run it again") from None
        raise DataError(f"{destination} cannot be written ({error.strerror})") from None


def record_file(destination: Path) -> Path:
    """Where the checksum of a file is written down, as `sha256sum -c` reads it."""
    return destination.with_name(destination.name + ".sha256")


def record(destination: Path) -> str:
    """Write down the checksum of a file that is there, and return it."""
    found = _sha256(destination)
    record_file(destination).write_text(f"{found}  {destination.name}\n", encoding="utf-8")
    return found


def recorded(destination: Path) -> str | None:
    """The checksum that was written down; None if none was.

    Raises:
        DataError: what is there is no checksum.
    """
    path = record_file(destination)
    if not path.is_file():
        return None
    found = path.read_text(encoding="utf-8", errors="replace")[:64]
    if not _CHECKSUM.fullmatch(found):
        raise DataError(f"{path} holds no checksum; move it, or choose another folder")
    return found


def _already_there(destination: Path, wanted: str | None) -> Path:
    if wanted is not None and _sha256(destination) != wanted:
        raise ChecksumError(f"{destination} exists with another checksum; remove it or choose another name")
    return destination


def _fetch(
    transfer: "_Transfer",
    wanted: str | None,
    destination: Path,
    attempts: int,
    pause: Callable[[float], None],
) -> Path:
    restarted = False
    attempt = 1
    while True:
        resumed = transfer.arrived > 0
        try:
            transfer.run()
        except (_InterruptedError, httpx.TransportError) as error:
            if attempt >= attempts:
                raise DataError(
                    f"the download of {destination.name} stopped after {transfer.arrived:,} bytes "
                    f"({_kind(error)}); run it again to go on from there"
                ) from None
            pause(min(30.0, 2.0 ** (attempt - 1)))
            attempt += 1
            continue
        # Names of hosts that cannot be encoded, redirects to them among these, are told as a UnicodeError.
        except (httpx.RequestError, httpx.InvalidURL, UnicodeError) as error:
            raise DataError(
                f"{destination.name} cannot be downloaded ({type(error).__name__}); check the address"
            ) from None
        found = _sha256(transfer.part)
        if wanted is None or found == wanted:
            transfer.part.replace(destination)
            transfer.forget()
            return destination
        transfer.forget()
        # A resumed file may have been spoilt by what was there before: that deserves one clean try.
        if not resumed or restarted:
            raise ChecksumError(
                f"{destination.name} has sha256 {found}, not {wanted}: the address serves another file "
                "or the checksum is wrong. Nothing was kept"
            )
        restarted = True


class _Transfer:
    """One file on its way: the partial file, and the requests that lengthen it."""

    def __init__(
        self,
        url: str,
        destination: Path,
        timeout: float,
        max_bytes: int,
        console: Console | None,
        vouched: bool,
    ) -> None:
        self.part = destination.with_name(destination.name + ".part")
        self._note = destination.with_name(destination.name + ".part.json")
        self._url, self._name = url, destination.name
        self._address = hashlib.sha256(url.encode()).hexdigest()
        self._timeout, self._max_bytes, self._console = timeout, max_bytes, console
        self._vouched = vouched

    @property
    def arrived(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def run(self) -> None:
        """Ask for what is missing and write it.

        Raises:
            _InterruptedError, httpx.TransportError: worth another try.
            DataError: not worth one.
        """
        validator = self._known_validator()
        # A compressed answer has no byte ranges of the file.
        headers = {"Accept-Encoding": "identity"}
        if self.arrived:
            headers["Range"] = f"bytes={self.arrived}-"
            if validator is not None:
                headers["If-Range"] = validator
        # Called before each request, those that follow a redirect too.
        hooks: dict[str, list[Callable[..., None]]] = {"request": [] if self._vouched else [check_trusted]}
        with (
            httpx.Client(follow_redirects=True, timeout=self._timeout, event_hooks=hooks) as client,
            client.stream("GET", self._url, headers=headers) as response,
        ):
            self._take(response)

    def _known_validator(self) -> str | None:
        """Of the partial file; one of another address is dropped.

        Raises:
            DataError: there is no note of it, as there is from the first byte of whatever was begun here.
        """
        if self.part.exists() and not self._note.exists():
            raise DataError(f"{self.part} was not begun here and would be lost; move it, or choose another folder")
        try:
            part = _Part(**json.loads(self._note.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            self.forget()
            return None
        if part.address != self._address:
            self.forget()
            return None
        return part.validator

    def _take(self, response: httpx.Response) -> None:
        start = self.arrived
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(start):
                return
            self.forget()
            raise _InterruptedError("the file on the server is shorter than what was here")
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != start:
                self.forget()
                raise _InterruptedError("the server sent another range than was asked for")
            total = None if match[3] == "*" else int(match[3])
        elif response.status_code == httpx.codes.OK:
            start = 0
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        elif response.status_code >= 500 or response.status_code in (408, 429):
            raise _InterruptedError(f"status {response.status_code}")
        else:
            raise DataError(f"the server answers {response.status_code} for {self._name}; check the address")
        self._check_room(start, total)
        if start == 0:
            note = _Part(self._address, _validator(response))
            self._note.write_text(json.dumps(asdict(note)), encoding="utf-8")
        self._write(response, start, total)

    def _check_room(self, start: int, total: int | None) -> None:
        if total is None:
            return
        if total > self._max_bytes:
            raise DataError(f"{self._name} is {total:,} bytes long; {self._max_bytes:,} are allowed")
        free = shutil.disk_usage(self.part.parent).free
        if total - start > free:
            raise DataError(
                f"{self._name} needs {total - start:,} bytes, {self.part.parent} has {free:,} free; make room"
            )

    def _write(self, response: httpx.Response, start: int, total: int | None) -> None:
        written = start
        with (
            self.part.open("ab" if start else "wb") as stream,
            progress_bar(self._console, self._name, total, start, of_bytes=True) as advance,
        ):
            # Without a chunk size: bytes that wait for a chunk to fill are lost when the connection breaks.
            for chunk in response.iter_raw():
                written += len(chunk)
                if written > self._max_bytes:
                    raise DataError(f"{self._name} is longer than the {self._max_bytes:,} bytes allowed")
                stream.write(chunk)
                advance(len(chunk))
        if total is not None and written < total:
            raise _InterruptedError("the connection was closed early")


def _validator(response: httpx.Response) -> str | None:
    """What If-Range may carry: a strong ETag, else the date."""
    etag: str | None = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return etag
    date: str | None = response.headers.get("Last-Modified")
    return date


def _kind(error: Exception) -> str:
    return str(error) if isinstance(error, _InterruptedError) else type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

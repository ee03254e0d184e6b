"""The file that keys are kept in: read as a whole, replaced as a whole, one writer at a time.

    stamp, entries = read(path)             # stamp: changes whenever the file does
    with locked(path):
        write(path, (*read(path)[1], entry))

A process that dies while it writes leaves the old file, and a `.part` beside it which the next writer replaces.
"""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator

from serving.access.scopes import Scope
from serving.errors import KeysError

LOCK_SECONDS: Final = 10.0
Stamp = tuple[int, ...]
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Key(_Stored):
    """All of an API key that is no secret; its times are aware. A revoked one stays, so that its id has a name."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("a name that a terminal would obey")
        return name

    @field_serializer("scopes")
    def _in_order(self, scopes: frozenset[Scope]) -> list[str]:
        return sorted(scopes)


class Entry(_Stored):
    """A key as the file holds it."""

    key: Key
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]


class _File(_Stored):
    format: Literal[1]
    keys: tuple[Entry, ...]

    @field_validator("keys")
    @classmethod
    def _each_id_once(cls, keys: tuple[Entry, ...]) -> tuple[Entry, ...]:
        if len({entry.key.id for entry in keys}) < len(keys):
            raise ValueError("two keys have one id")
        return keys


def stamp_of(path: Path) -> Stamp | None:
    """What changes whenever the file is written; None where there is no file.

    Raises:
        KeysError: the folder cannot be looked into.
    """
    try:
        return _stamp(path.stat())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def read(path: Path) -> tuple[Stamp | None, tuple[Entry, ...]]:
    """The file's stamp and keys; None and no keys where there is no file.

    Raises:
        KeysError: it cannot be read, is damaged, or others than its owner may write it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read()
    except FileNotFoundError:
        return None, ()
    except OSError as error:
        raise _unreadable(path, error) from error
    if status.st_mode & _OTHERS_WRITE:
        raise KeysError(
            f"{path} may be written by others, who could add keys: look whether all are yours, then chmod 600"
        )
    try:
        return _stamp(status), _File.model_validate_json(content).keys
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise KeysError(
            f"{path} is damaged or of a later release ({place or 'JSON'}: {first['type']}): restore it from a copy, or "
            "move it away and add every key anew"
        ) from None


def make_private(folder: Path) -> None:
    """Make a folder, or one that is there, its owner's alone.

    Raises:
        KeysError: that is not possible.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise _unwritable(folder, error) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other writers out; the folder is made, for its owner alone, where it is missing.

    Raises:
        KeysError: another writer did not end in time, or the folder cannot be used.
    """
    lock = FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS, mode=0o600)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_mode & _OTHERS_WRITE:
            raise KeysError(f"the folder {path.parent} may be written by others, who could add keys: chmod 700 it")
        lock.acquire()
    except Timeout as error:
        raise KeysError(
            f"another change of keys has held {lock.lock_file} for {LOCK_SECONDS:.0f} s: try again"
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Replace the file, mode 0600; on return it is on the disk. The caller holds `locked`.

    Raises:
        KeysError: the disk refuses; the old file is still there.
    """
    content = _File(format=1, keys=tuple(entries)).model_dump_json(indent=1).encode() + b"\n"
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            if path.exists():
                _follow(file.fileno(), path.stat())
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode


def _follow(fd: int, old: os.stat_result) -> None:
    """Make a new file differ from the one it replaces in its time, and not in its owner."""
    # Two writes within one tick of the file system's clock would look the same to those who compare times.
    now = max(time.time_ns(), old.st_mtime_ns + 1)
    os.utime(fd, ns=(now, now))
    if os.geteuid() == 0:
        # Typed by root beside a server of another user: that one has to read it still.
        os.fchown(fd, old.st_uid, old.st_gid)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unreadable(path: Path, error: OSError) -> KeysError:
    return KeysError(f"{path} cannot be read: {error.strerror}; run this as the user who owns it, or set RESUNET_HOME")


def _unwritable(path: Path, error: OSError) -> KeysError:
    return KeysError(
        f"{path} cannot be written: {error.strerror}; nothing was changed. Set RESUNET_HOME, or free the disk"
    )

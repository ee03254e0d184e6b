"""API keys: who has one, what it allows, until when.

    store = KeyStore(keys_path(home))
    key, token = store.add("clinic", {"predict", "labels"})     # the token is shown now and never again
    store.find(token, datetime.now(UTC))                        # the key, or None
    store.revoke("clinic")

Any number of processes may use one file. What another one changes is seen at the next look-up, which asks the file
system for the file's times, about two microseconds, and reads it only when they differ.

At rest there is the SHA-256 of each token and nothing to find the token from: `tokens.py` says why that is enough.
"""

import hmac
import secrets
import threading
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from resunet.errors import SettingsError
from serving.access.keyfile import Entry, Key, Stamp, locked, read, stamp_of, write
from serving.access.scopes import Scope, parse_scopes
from serving.access.tokens import PREFIX, digest, is_id, new_token, token_id
from serving.errors import KeysError

__all__ = ["GATEWAY_FOLDER", "Clock", "Key", "KeyStore", "is_valid", "keys_path", "utc_now"]

GATEWAY_FOLDER: Final = "gateway"
_FILE: Final = "keys.json"
_MAX_NAME: Final = 64
Clock = Callable[[], datetime]
# What the token of an unknown id is compared with. Of random bits: no token has this digest.
_NOBODYS: Final = digest(secrets.token_hex(32))


def utc_now() -> datetime:
    """The clock of a server and of the commands."""
    return datetime.now(UTC)


def keys_path(home: Path) -> Path:
    """The file of keys of a RESUNET_HOME."""
    return home / GATEWAY_FOLDER / _FILE


def is_valid(key: Key, now: datetime) -> bool:
    """Whether a key is neither revoked nor expired; it expires at the very moment."""
    return key.revoked is None and (key.expires is None or now < key.expires)


class KeyStore:
    """The keys of one file. Thread-safe.

    A store with keys does not become one without: when the file vanishes while a process runs, or every key in it is
    revoked, nobody is let in, rather than everybody. To go back to no keys, delete the file and restart the server.
    A server of several processes tells each one that it starts what it has seen, by `required`.

    Args:
        path: JSON file, mode 0600; its folder, if missing, is made with mode 0700 when the first key is added.
        clock: gives aware times.
        required: there were keys before this store was made; without them nobody is let in.
    """

    def __init__(self, path: Path, clock: Clock = utc_now, *, required: bool = False) -> None:
        self.path = path
        self._clock = clock
        self._required = required
        self._lock = threading.Lock()
        # Of no file, and of no missing one either: the first look-up reads.
        self._stamp: Stamp | None = ()
        self._entries: Mapping[str, Entry] = {}

    @property
    def configured(self) -> bool:
        """Whether callers need a key: there is one in the file, even if revoked or expired.

        Raises:
            KeysError: the file cannot be read or is damaged.
        """
        return bool(self._current())

    def look(self) -> bool:
        """Whether callers need a key from now on: there is one, or there was; what cannot be read changes nothing."""
        with suppress(KeysError):
            self._current()
        return self._required

    def add(self, name: str, scopes: Set[Scope], expires: datetime | None = None) -> tuple[Key, str]:
        """Make a key.

        Args:
            name: whose it is; several keys may have one name, such as an old and a new one.
            scopes: what it allows, one at least.
            expires: aware, in the future; None: never.

        Returns:
            the key, and its token, which is kept nowhere: whoever loses it needs a new one.

        Raises:
            SettingsError: name, scopes or expiry make no sense.
            KeysError: the file cannot be read or written, or is damaged.
        """
        name, granted, now = _checked_name(name), parse_scopes(scopes), self._clock()
        if expires is not None and (expires.tzinfo is None or expires <= now):
            raise SettingsError("a key expires in the future, at a time with a zone: give another --expires, or none")
        with locked(self.path):
            _, entries = read(self.path)
            identity, token = new_token()
            while any(entry.key.id == identity for entry in entries):
                identity, token = new_token()
            key = Key(id=identity, name=name, scopes=granted, created=now, expires=expires)
            write(self.path, (*entries, Entry(key=key, sha256=digest(token))))
        return key, token

    def list(self) -> tuple[Key, ...]:
        """All keys, revoked and expired ones too, the oldest first.

        Raises:
            KeysError: the file cannot be read or is damaged.
        """
        return tuple(entry.key for entry in self._current().values())

    def revoke(self, which: str) -> Key:
        """End a key: it is refused from the next look-up on, in every process.

        Args:
            which: its id, its name, or its token, which may be all that one has of a leaked key.

        Returns:
            the key as it is now; one that was revoked before keeps the time of that.

        Raises:
            SettingsError: no key fits, or several do. The message never repeats `which`, which may hold a secret.
            KeysError: the file cannot be read or written, or is damaged.
        """
        with locked(self.path):
            _, entries = read(self.path)
            found = _pick([entry.key for entry in entries], token_id(which) or which)
            if found.revoked is not None:
                return found
            ended = found.model_copy(update={"revoked": self._clock()})
            write(self.path, [e.model_copy(update={"key": ended}) if e.key.id == ended.id else e for e in entries])
        return ended

    def find(self, token: str, now: datetime) -> Key | None:
        """The key of a token, or None for whatever is not the token of a key that is valid.

        An unknown id costs the same hash and the same comparison as a known one with a wrong secret, and the
        comparison takes the same time wherever two digests begin to differ.

        Args:
            token: as a client sent it, of any form.
            now: aware.

        Raises:
            KeysError: the file cannot be read, is damaged, or has vanished: nobody can be told from anybody.
        """
        entry = self._current().get(token_id(token) or "")
        matches = hmac.compare_digest(digest(token), entry.sha256 if entry else _NOBODYS)
        return entry.key if entry and matches and is_valid(entry.key, now) else None

    def _current(self) -> Mapping[str, Entry]:
        with self._lock:
            if stamp_of(self.path) != self._stamp:
                stamp, entries = read(self.path)
                if self._required and not entries:
                    raise KeysError(
                        f"{self.path} held keys and holds none now: restore it, or restart the server without keys"
                    )
                self._stamp, self._entries = stamp, {entry.key.id: entry for entry in entries}
                self._required = bool(entries)
            return self._entries


def _checked_name(name: str) -> str:
    name = name.strip()
    # Names are shown in terminals and logs; one that looks like an id or holds a token would be mistaken for it.
    if not name or len(name) > _MAX_NAME or not name.isprintable() or is_id(name) or PREFIX in name:
        raise SettingsError(
            f"a key's name is 1 to {_MAX_NAME} printable characters, unlike an id or a token: name who will use it"
        )
    return name


def _pick(keys: list[Key], which: str) -> Key:
    by_id = next((key for key in keys if key.id == which), None)
    if by_id is not None:
        return by_id
    named = [key for key in keys if key.name == which.strip() and key.revoked is None]
    if not named:
        raise SettingsError("no key that is not revoked has this id or name: `python -m serving keys list` shows all")
    if len(named) > 1:
        raise SettingsError(
            f"{len(named)} keys have this name; revoke one by its id: {', '.join(key.id for key in named)}"
        )
    return named[0]

"""Versions that were fetched and verified, kept on this machine: what was good yesterday serves when all else is away.

    cache = VersionCache(home / "gateway" / "versions", trust)
    folder = cache.fetch(release)           # verified; fetched only if it is not here yet
    cache.keep_as_last_good(place, release)
    cache.last_good(place)                  # (release, folder), after a restart

A folder appears under its name only when it is whole. Whoever loads it compares its bytes again.
"""

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from records.signing import verify_files
from records.trust import Trust
from resunet.errors import SettingsError, VersionError
from serving.fetch import fetch_model
from serving.gateway.releases import Release

_LAST_GOOD: Final = "last_good.json"
_INCOMING: Final = "incoming-"
_LOCKS: Final = ".locks"
_PINS: Final = ".pins"
_ENDED: Final = "ended"
_SHORT_S: Final = 5.0


class VersionCache:
    """A folder of verified models; several processes may share it.

    Args:
        folder: made if missing.
        trust: who has to have signed a version; None asks for its digests alone.
    """

    def __init__(self, folder: Path, trust: Trust | None) -> None:
        self._folder = folder
        self._trust = trust
        self._pinned: dict[str, FileLock] = {}
        try:
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{folder} cannot be made ({error.strerror}): set RESUNET_HOME to a folder that can be written"
            ) from error

    def fetch(self, release: Release) -> Path:
        """The folder of a version, its files verified now.

        Raises:
            VersionError: a file was changed, is missing or not listed, or nobody who is trusted signed.
            StoreError: the files cannot be fetched now.
            SettingsError: there is no such version, or what is trusted cannot be read.
        """
        target = self._folder_of(release)
        with self._lock(target.name):
            if target.is_dir():
                try:
                    self.verify(target)
                    return target
                except VersionError:
                    shutil.rmtree(target)  # damaged here; the store may still have it whole
            self._fetch_to(release, target)
            return target

    def verify(self, folder: Path) -> None:
        """Compare a folder's files with their list, and the list with its signature where one is asked for.

        Raises:
            VersionError: they differ.
        """
        verify_files(folder, self._trust)

    def keep_as_last_good(self, place: str, release: Release) -> None:
        """Remember what to serve when what is live cannot be, at the next start.

        Args:
            place: URI of where it was live; gateways of several places may share the folder.
            release: that served.
        """
        with self._lock(_LAST_GOOD):
            self._write_notes(self._notes() | {place: asdict(release)})

    def mark_ended(self, place: str) -> None:
        """Remember that nothing was live there: whoever is to stop then does not serve the last good one either.

        Raises:
            OSError: it cannot be written.
        """
        if place not in self._notes() or self.has_ended(place):
            return
        with self._lock(_LAST_GOOD, timeout=_SHORT_S):
            notes = self._notes()
            if place in notes:
                self._write_notes(notes | {place: {**notes[place], _ENDED: True}})

    def has_ended(self, place: str) -> bool:
        """Whether nothing was live there when somebody looked last."""
        return self._notes().get(place, {}).get(_ENDED) is True

    def pin(self, purpose: str, folder: Path) -> None:
        """Keep a folder from `prune`, here and in all processes, as long as this one lives and it has that purpose."""
        pins = self._folder / _PINS
        pins.mkdir(exist_ok=True)
        with self._lock(folder.name):
            held = FileLock(pins / f"{folder.name}+{uuid.uuid4().hex}", fallback_to_soft=False)
            held.acquire()
        self.unpin(purpose)
        self._pinned[purpose] = held

    def unpin(self, purpose: str) -> None:
        """It serves that purpose no longer."""
        held = self._pinned.pop(purpose, None)
        if held is not None:
            held.release()
            Path(held.lock_file).unlink(missing_ok=True)

    def last_good(self, place: str) -> tuple[Release, Path] | None:
        """The version that was live there last, if its folder is still here; None where there is none."""
        release = self._all_last_good().get(place)
        if release is None or not (folder := self._folder_of(release)).is_dir():
            return None
        return release, folder

    def prune(self, keep: int, in_use: set[Path]) -> None:
        """Delete all but the latest few versions, those in use or pinned aside, the last good ones of all places, and
        what was never fetched whole.
        """
        good = {self._folder_of(release) for release in self._all_last_good().values()}
        here = [path for path in self._folder.iterdir() if path.is_dir() and path.name not in (_LOCKS, _PINS)]
        whole = [path for path in here if not path.name.startswith(_INCOMING)]
        whole.sort(key=_last_changed, reverse=True)
        for path in {*here} - {*whole[:keep]} - in_use - good:
            name = path.name.removeprefix(_INCOMING).rpartition("+")[0] or path.name
            with suppress(Timeout), self._lock(name, timeout=0):  # else somebody fetches or reads it just now
                if not self._is_pinned(path.name):
                    shutil.rmtree(path, ignore_errors=True)

    def _is_pinned(self, name: str) -> bool:
        """Whether a process that lives has pinned it; what dead ones have left is cleared away."""
        for path in (self._folder / _PINS).glob(f"{name}+*"):
            try:
                with FileLock(path, timeout=0, fallback_to_soft=False):
                    path.unlink(missing_ok=True)
            except Timeout:
                return True
        return False

    def _write_notes(self, notes: Mapping[str, Mapping[str, Any]]) -> None:
        path = self._folder / _LAST_GOOD
        new = path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            with new.open("w", encoding="utf-8") as file:
                json.dump(notes, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def _all_last_good(self) -> dict[str, Release]:
        """By the place where each was live."""
        return {place: _release(note) for place, note in self._notes().items()}

    def _notes(self) -> dict[str, dict[str, Any]]:
        """The same as it is written; none where one of them is damaged."""
        try:
            stored = json.loads((self._folder / _LAST_GOOD).read_text(encoding="utf-8"))
            if "registered_ms" in stored:  # an earlier release kept one, and did not say of which place
                stored = {f"models:/{stored['name']}/Production": stored}
            for note in stored.values():
                _release(note)
            return dict(stored)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _fetch_to(self, release: Release, target: Path) -> None:
        incoming = self._folder / f"{_INCOMING}{target.name}+{uuid.uuid4().hex}"
        incoming.mkdir()
        try:
            root = fetch_model(release.uri, incoming)
            self.verify(root)
            os.utime(root)
            root.replace(target)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _lock(self, name: str, timeout: float = -1) -> FileLock:
        """Of one version: a large one that comes slowly holds up no other."""
        return FileLock(self._folder / _LOCKS / f"{name}.lock", timeout=timeout, fallback_to_soft=False)

    def _folder_of(self, release: Release) -> Path:
        # A model's name may hold what a path may not.
        name = "".join(letter if letter.isalnum() else "_" for letter in release.name)[:60]
        return self._folder / f"{name}-{release.version}-{release.registered_ms}"


def _release(stored: dict[str, Any]) -> Release:
    return Release(str(stored["name"]), str(stored["version"]), int(stored["registered_ms"]))


def _last_changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it is being deleted by another process
        return 0.0

"""An owner on a machine of its own: a registry and a store that can go away, and processes that say what they do.

scene = OwnerScene(tmp_path)
scene.live(ONE).look()
scene.restart().registry_away().look()      # with what the machine kept
scene.health.serving, scene.alerts
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from access_scene import HandClock

from records.digests import write_digests
from resunet.errors import StoreError, VersionError
from serving.gateway.cache import VersionCache
from serving.gateway.fleet import Lane
from serving.gateway.owner import Health, Owner, OwnerSettings
from serving.gateway.releases import Release

ONE, TWO, THREE, FOUR = (Release("resunet", str(number), number) for number in (1, 2, 3, 4))
PRODUCTION, STAGING = "models:/resunet/Production", "models:/resunet/Staging"


@dataclass
class Store:
    """Where versions' files are fetched from."""

    away: str = ""

    def fetch(self, uri: str, incoming: Path) -> Path:
        if self.away:
            raise StoreError(f"the files of {uri} cannot be fetched ({self.away})")
        root = incoming / "model"
        root.mkdir()
        (root / "graph").write_text(uri)
        write_digests(root)
        return root


@dataclass
class Place:
    """Where a version is live."""

    uri: str
    release: Release | None = None
    away: bool = False

    def live(self) -> Release | None:
        if self.away:
            raise StoreError("the registry does not answer")
        return self.release


@dataclass
class Processes:
    """Who answers; some versions do not load."""

    broken: set[str] = field(default_factory=set)
    ready: str | None = None
    serving: str | None = None
    prepared: list[str] = field(default_factory=list)

    def prepare(self, lane: Lane, folder: Path) -> None:
        uri = (folder / "graph").read_text()
        self.prepared.append(uri)
        if uri in self.broken:
            raise VersionError("it does not give its golden output")
        self.ready = uri

    def switch(self, lane: Lane) -> None:
        self.serving, self.ready = self.ready, None

    def forget(self, lane: Lane) -> None:
        self.serving = self.ready = None


class OwnerScene:
    """A gateway's owner; `store` and the folder outlive its restarts.

    Args:
        folder: of the machine; several scenes may share it.
        uri: that is followed.
    """

    def __init__(self, folder: Path, uri: str = PRODUCTION, *, stop_when_archived: bool = False, keep: int = 3) -> None:
        self.folder, self.clock, self.alerts = folder, HandClock(), list[str]()
        self.place, self.processes = Place(uri), Processes()
        self._how = OwnerSettings(stop_when_archived=stop_when_archived, keep_versions=keep)
        self.restart()

    def restart(self) -> "OwnerScene":
        """Nothing is left but what the machine kept."""
        self.processes = Processes(self.processes.broken)
        self.owner = Owner(
            self.place, VersionCache(self.folder, None), self.processes, self._how, self._alert, self.clock
        )
        return self

    def live(self, release: Release | None) -> "OwnerScene":
        self.place.release, self.place.away = release, False
        return self

    def breaks(self, release: Release) -> "OwnerScene":
        self.processes.broken.add(release.uri)
        return self

    def look(self, after: float = 0.0) -> Health:
        """Look once more, so many seconds later."""
        self.clock.seconds += after
        self.owner.look()
        health = self.owner.health()
        assert self.processes.serving == (health.serving.uri if health.serving else None)
        return health

    def forget_copy(self, release: Release) -> None:
        """Have it fetched anew."""
        shutil.rmtree(self.copy_of(release))

    def copy_of(self, release: Release) -> Path:
        return self.folder / f"{release.name}-{release.version}-{release.registered_ms}"

    def _alert(self, subject: str, body: str) -> None:
        assert self.place.uri in subject
        self.alerts.append(body)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """Of all scenes of a test."""
    store = Store()
    monkeypatch.setattr("serving.gateway.cache.fetch_model", store.fetch)
    return store

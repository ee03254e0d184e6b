"""A director among what it directs: none of it does anything, and all of it remembers what it was told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from numpy.random import default_rng
from rollout_scene import NOON, TEXT, count

from resunet.errors import StoreError, VersionError
from serving.gateway.releases import Release
from serving.gateway.rollouts.crew import Crew
from serving.gateway.rollouts.director import Director
from serving.gateway.rollouts.standing import Standing
from serving.rollout.assignment import Assignment, candidate_cells
from serving.rollout.cells import CELLS
from serving.rollout.evidence import Evidence
from serving.rollout.file import RolloutFile
from serving.rollout.policy import PolicyFile

ONE, TWO, THREE = (Release("resunet", str(number), number) for number in (1, 2, 3))


@dataclass
class Place:
    """A stage of the registry."""

    release: Release | None
    uri: str = "models:/resunet/Staging"
    name: str = "resunet"
    away: bool = False
    elsewhere: str | None = None

    def live(self) -> Release | None:
        if self.away:
            raise StoreError("the registry does not answer")
        return self.release

    def stage_of(self, name: str, version: str) -> str | None:
        return self.elsewhere


@dataclass
class Cache:
    """Folders of versions; each holds its release's number."""

    away: bool = False
    pinned: dict[str, Path] = field(default_factory=dict)

    def fetch(self, release: Release) -> Path:
        if self.away:
            raise StoreError("it cannot be fetched")
        return Path(release.version)

    def pin(self, purpose: str, folder: Path) -> None:
        self.pinned[purpose] = folder

    def unpin(self, purpose: str) -> None:
        self.pinned.pop(purpose, None)


@dataclass
class Everybody:
    """Who answers, who answers aside, and who promotes: what they were told, and what they saw."""

    told: list[Any] = field(default_factory=list)
    seen: list[Evidence] = field(default_factory=list)
    trouble: str | None = None
    said: str | None = None
    breaks: bool = False
    full: bool = False
    deaths: int = 0
    meanwhile: Callable[[], object] = lambda: None

    def prepare(self, lane: str, folder: Path) -> None:
        if self.breaks:
            raise VersionError("it does not give its golden output")
        self.meanwhile()
        self.told.append(("prepare", lane, str(folder)))

    def switch(self, lane: str) -> None:
        self.told.append(("switch", lane))

    def forget(self, lane: str) -> None:
        self.told.append(("forget", lane))

    def direct(self, assignment: Assignment | None, twins: str | None) -> None:
        self.told.append(("direct", assignment and (assignment.canary, assignment.shadow), twins))

    def take(self) -> list[Evidence]:
        taken, self.seen = self.seen, []
        return taken

    def start(self, folder: Path, assignment: Assignment) -> str:
        if self.full:
            raise OSError("no space left on device")
        self.told.append(("shadow", str(folder)))
        return "socket"

    def stop(self) -> None:
        self.told.append("no shadow")

    def begin(self, version: str, reason: str) -> None:
        self.told.append(("promote", version))

    def cancel(self) -> None:
        if ("promote", "2") in self.told:
            self.told.append("cancelled")

    def refusal(self) -> str | None:
        said, self.said = self.said, None
        return said

    def heard(self) -> list[Any]:
        heard, self.told = [one for one in self.told if one != "no shadow"], []
        return heard


class Scene:
    """A director among what it directs."""

    def __init__(self, folder: Path, text: str = TEXT) -> None:
        self.folder = folder
        self.now = NOON
        self.stage, self.cache, self.all = Place(TWO), Cache(), Everybody()
        self.live: Release | None = ONE
        self.alerts: list[str] = []
        self.policy = folder / "policy.yaml"
        self.policy.write_text(text)
        self.director = self.new()

    def new(self) -> Director:
        return Director(
            Standing(self.stage, self.cache),
            Crew(self.all, self.all, self.all),
            lambda: self.live,
            RolloutFile(self.folder / "rollout.json"),
            PolicyFile(self.policy),
            lambda subject, body: self.alerts.append(body),
            now=lambda: self.now,
        )

    def later(self, minutes: float = 61) -> dict[str, Any]:
        self.now += timedelta(minutes=minutes)
        self.director.tick()
        self.director.look()
        self.director.tick()
        return self.director.order("status", "ada", "")

    def killed(self) -> None:
        """End as a killed process does, and begin anew."""
        self.director._held.close()
        self.all.heard()
        self.director = self.new()

    def see(self, requests: int = 40_000, failing: float = 0.0) -> None:
        """Let the processes have seen so many requests of what holds now."""
        rollout = RolloutFile(self.folder / "rollout.json").read().rollout
        assert rollout is not None
        evidence, rng = Evidence(rollout.assignment.epoch), default_rng(0)
        count(evidence.cells.counts, rng, requests, candidate_cells(rollout.canary), failing, 0.0, 0.0)
        evidence.routes["canary" if rollout.canary else "shadow"].requests += requests
        if not rollout.canary:
            for cells, harm in zip(evidence.twice, (failing, 0.0), strict=True):
                count(cells.counts, default_rng(1), requests, CELLS, harm, 0.0, 0.0)
        self.all.seen.append(evidence)

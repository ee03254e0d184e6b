"""Whom a director directs, as it sees them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.gateway.fleet import Lane
from serving.gateway.owner import Place
from serving.gateway.releases import Release
from serving.rollout.assignment import Assignment
from serving.rollout.evidence import Evidence


class Answering(Protocol):
    """The processes that answer clients; `deaths`: how many of them have ended by themselves so far."""

    @property
    def deaths(self) -> int: ...

    def prepare(self, lane: Lane, folder: Path) -> None: ...

    def switch(self, lane: Lane) -> None: ...

    def forget(self, lane: Lane) -> None: ...

    def direct(self, assignment: Assignment | None, twins: str | None) -> None: ...

    def take(self) -> list[Evidence]: ...


class Aside(Protocol):
    """The process that answers for nobody; see `serving.gateway.rollouts.shadow.Shadow`, which is one."""

    @property
    def trouble(self) -> str | None: ...

    def start(self, folder: Path, assignment: Assignment) -> str: ...

    def take(self) -> list[Evidence]: ...

    def stop(self) -> None: ...


class Promoter(Protocol):
    """Who asks the registry; see `serving.gateway.rollouts.promotion.Promotion`, which is one."""

    def begin(self, version: str, reason: str) -> None: ...

    def refusal(self) -> str | None: ...

    def cancel(self) -> None: ...


class Stage(Place, Protocol):
    """Where the candidate stands."""

    @property
    def name(self) -> str: ...

    def stage_of(self, name: str, version: str) -> str | None: ...


class Shelf(Protocol):
    """Where versions are fetched to; see `serving.gateway.cache.VersionCache`, which is one."""

    def fetch(self, release: Release) -> Path: ...

    def pin(self, purpose: str, folder: Path) -> None: ...

    def unpin(self, purpose: str) -> None: ...


@dataclass(frozen=True)
class Crew:
    """Who does what the director says."""

    answering: Answering
    shadow: Aside
    promotion: Promoter

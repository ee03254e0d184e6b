"""Where a rollout stands, and what a change of it asks others to do.

    rollout.phase, rollout.share, rollout.events[-1].reason
    rollout.assignment                # what the workers are told
    Rollout.from_json(rollout.to_json()) == rollout

`serving.rollout.transitions` makes one from another, `serving.rollout.file` keeps it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Self, get_args

from resunet.errors import ResunetError
from serving.rollout.assignment import Assignment, Epoch

Phase = Literal["shadow", "canary", "finishing", "finished", "aborted", "superseded"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
ENDED: Final[frozenset[Phase]] = frozenset({"finished", "aborted", "superseded"})
# A rollout that runs for months keeps its beginning out of the file's way.
_MOST_EVENTS: Final = 100


class RolloutError(ResunetError):
    """A rollout that cannot be started, ended or read; the message says what to do."""


@dataclass(frozen=True)
class Version:
    """A version of the model.

    Attributes:
        number: in the registry.
        digest: `sha256:…` of its bytes: another digest is another version.
    """

    number: str
    digest: str


@dataclass(frozen=True)
class Event:
    """Something that happened to a rollout, and why."""

    at: datetime
    phase: Phase
    reason: str


@dataclass(frozen=True)
class Rollout:
    """A candidate on its way to Production. None in its place is idle: the champion answers everybody.

    Attributes:
        id: makes callers' places; another rollout has another.
        sticky: what callers are told apart by, as the policy said at its start: else a change would move them.
        champion, candidate: what it is about; when either changes, it is superseded.
        phase: shadow: the candidate answers for nobody; canary: a share of the callers; finishing: it is for the
            registry, or for a person, to promote it, and the canary goes on; the others are ends.
        step: of the canary, from 0 on.
        canary, shadow: shares that hold.
        epoch: number of the shares; evidence of another one does not count.
        since: when the stage began.
        alpha: of this stage, spent when it began.
        spent: alpha of all stages so far.
        promoting: the registry was told to promote it.
        refused: the registry did not.
        asked: a person was asked.
        crashes: how often the gateway ended without saying so while the candidate answered callers.
        events: the latest last.
    """

    id: str
    sticky: str
    champion: Version
    candidate: Version
    phase: Phase
    step: int
    canary: float
    shadow: float
    epoch: int
    since: datetime
    alpha: float
    spent: float
    promoting: bool
    refused: bool
    asked: bool
    events: tuple[Event, ...]
    crashes: int = 0

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.phase not in ENDED

    @property
    def assignment(self) -> Assignment:
        """The shares that hold."""
        return Assignment(Epoch(self.id, self.epoch), self.canary, self.shadow, self.sticky)

    @property
    def reason(self) -> str:
        """Of the last event."""
        return self.events[-1].reason

    def noted(self, at: datetime, reason: str) -> tuple[Event, ...]:
        """The events with one more, of the phase it is in."""
        return (*self.events, Event(at, self.phase, reason))[-_MOST_EVENTS:]

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        content = asdict(self)
        content["since"] = self.since.isoformat()
        content["events"] = [{**asdict(event), "at": event.at.isoformat()} for event in self.events]
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError: it gave something else.
        """
        read = dict(content)
        if read["phase"] not in PHASES:
            raise ValueError(f"there is no phase {read['phase']}")
        read["champion"], read["candidate"] = Version(**read["champion"]), Version(**read["candidate"])
        read["since"] = datetime.fromisoformat(read["since"])
        read["events"] = tuple(Event(**{**one, "at": datetime.fromisoformat(one["at"])}) for one in read["events"])
        return cls(**read)


@dataclass(frozen=True)
class Direct:
    """Tell the workers the shares, and begin `Evidence.following(assignment.epoch)`."""

    assignment: Assignment


@dataclass(frozen=True)
class Promote:
    """Promote a version through the registry's gates; asked again it must change nothing."""

    version: Version
    reason: str


@dataclass(frozen=True)
class Ask:
    """Tell people that the rollout waits for one of them."""

    reason: str


@dataclass(frozen=True)
class Alert:
    """Tell people that the rollout has ended, and how."""

    reason: str


Effect = Direct | Promote | Ask | Alert


class Move(NamedTuple):
    """What has become of a rollout, and what is to be done.

    Keep the rollout first: what a killed process did not get to of Direct and Promote is given again by
    `transitions.resume`.
    """

    rollout: Rollout
    effects: tuple[Effect, ...]

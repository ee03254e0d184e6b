"""What a decision did, what there is to say of it, and where a model stands."""

from collections.abc import Callable
from dataclasses import dataclass, field

from registry.gates import Judged
from registry.versions import ModelState


@dataclass(frozen=True)
class Change:
    """What a decision did, and what there is to say.

    Attributes:
        action: as in the audit.
        changed: whether anything moved.
        displaced: versions that were archived to make room.
    """

    name: str
    version: str
    stage: str
    action: str
    changed: bool
    displaced: list[str] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """Where a model's versions stand, and what does not fit together."""

    state: ModelState
    mismatches: list[str]
    notices: list[str]


@dataclass(frozen=True)
class Told:
    """A decision, for those who want to hear of it."""

    action: str
    model: str
    version: str
    from_stage: str
    to_stage: str
    actor: str
    reason: str


Notify = Callable[[Told], None]

"""What a model's audit rows tell of its past: which versions were live, which were rolled back from.

The actions: `promote` (`override` where somebody let a version past a gate), and `displace` of the version whose place
is taken; `rollback`, to a version and from one; `archive`, out of use by command; `observed`, found moved by no
command. `refuse`, `approve`, `delete` and `rename` move nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

OBSERVED = "observed"
PROMOTED = "promote"
OVERRIDDEN = "override"
REFUSED = "refuse"
ROLLED_BACK = "rollback"
ARCHIVED = "archive"
APPROVED = "approve"
DELETED = "delete"
RENAMED = "rename"
# Rows that say something of a version and move none.
WORDS = frozenset({REFUSED, APPROVED, DELETED, RENAMED})
DISPLACED = "displace"


class Move(Protocol):
    """The part of an audit row that is about stages."""

    @property
    def action(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def from_stage(self) -> str | None: ...
    @property
    def to_stage(self) -> str | None: ...
    @property
    def digest(self) -> str | None: ...


M = TypeVar("M", bound=Move)


def recorded_stages(moves: Iterable[Move]) -> dict[str, str | None]:
    """The stage in which the rows leave each version; a version without a row is not in it.

    Args:
        moves: a model's audit rows, oldest first.
    """
    return {move.version: move.to_stage for move in moves if move.action not in WORDS}


def once_live(moves: Iterable[Move]) -> list[str]:
    """The versions that went live and were neither rolled back from nor taken out of use, the latest last.

    A version that is promoted again counts again.

    Args:
        moves: a model's audit rows, oldest first.
    """
    live: list[str] = []
    for move in happened(moves):
        if move.to_stage == "Production":
            live = [*(version for version in live if version != move.version), move.version]
        elif move.action in (ROLLED_BACK, ARCHIVED) or (move.action == OBSERVED and move.to_stage != "Archived"):
            live = [version for version in live if version != move.version]
        elif move.from_stage == "Production" and move.version not in live:
            live.append(move.version)
    return live


def happened(moves: Iterable[M]) -> list[M]:
    """The rows without refusals and without moves that never came about.

    A row is written before the move. If its command was interrupted in between, the next one finds the version in
    the stage that it had before and writes that down as observed: the two rows take each other back. Once a later
    command wrote a row of its own the move is known to have happened, since each first writes down what differs.
    """
    rows: list[M | None] = []
    unconfirmed: dict[str, int] = {}
    ended = True
    for move in moves:
        if move.action == OBSERVED:
            place = unconfirmed.pop(move.version, None)
            decided = None if place is None else rows[place]
            if place is not None and decided is not None and move.to_stage == decided.from_stage:
                rows[place] = None
                continue
        else:
            if ended:
                unconfirmed.clear()
            ended = not _makes_room(move)
            if move.action in WORDS:
                continue
            unconfirmed[move.version] = len(rows)
        rows.append(move)
    return [move for move in rows if move is not None]


def _makes_room(move: Move) -> bool:
    """Whether another row of the same command follows: of the version that takes this one's place."""
    return move.action == DISPLACED or (move.action == ROLLED_BACK and move.to_stage != "Production")


def unknown_past(moves: Iterable[Move], versions: Sequence[str]) -> list[str]:
    """Those of `versions` that no command ever moved: they may have been live without a record of it."""
    moved = {move.version for move in moves if move.action not in WORDS | {OBSERVED}}
    return [version for version in versions if version not in moved]


def gated_digest(moves: Iterable[Move], version: str) -> str | None:
    """The digest under which a version last passed the gates of Production, or was let past; None if it never was."""
    found = None
    for move in moves:
        if move.version == version and move.action in (PROMOTED, OVERRIDDEN) and move.to_stage == "Production":
            found = move.digest
    return found

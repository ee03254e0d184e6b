"""What a model's audit rows tell of its past: which versions were live, which were rolled back from."""

from collections.abc import Iterable, Sequence
from typing import Protocol

OBSERVED = "observed"
PROMOTED = "promote"
REFUSED = "refuse"
ROLLED_BACK = "rollback"
ARCHIVED = "archive"


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


def recorded_stages(moves: Iterable[Move]) -> dict[str, str | None]:
    """The stage in which the rows leave each version; a version without a row is not in it.

    Args:
        moves: a model's audit rows, oldest first.
    """
    return {move.version: move.to_stage for move in moves if move.action != REFUSED}


def once_live(moves: Iterable[Move]) -> list[str]:
    """The versions that were in Production and were not rolled back from, the latest last.

    A version that is promoted again after a rollback counts again. A row says what was decided and is written
    before the move: if the move never came about, the row of what was observed afterwards takes it back.

    Args:
        moves: a model's audit rows, oldest first.
    """
    live: list[str] = []
    for move in moves:
        if move.action == REFUSED:
            continue
        if move.to_stage == "Production":
            live = [*(version for version in live if version != move.version), move.version]
        elif move.action == ROLLED_BACK or (move.action == OBSERVED and move.to_stage != "Archived"):
            live = [version for version in live if version != move.version]
        elif move.from_stage == "Production" and move.version not in live:
            live.append(move.version)
    return live


def unknown_past(moves: Iterable[Move], versions: Sequence[str]) -> list[str]:
    """Those of `versions` that no command ever moved: they may have been live without a record of it."""
    moved = {move.version for move in moves if move.action not in (OBSERVED, REFUSED)}
    return [version for version in versions if version not in moved]


def gated_digest(moves: Iterable[Move], version: str) -> str | None:
    """The digest under which a version last passed the gates of Production; None if it never did."""
    found = None
    for move in moves:
        if move.version == version and move.action == PROMOTED and move.to_stage == "Production":
            found = move.digest
    return found

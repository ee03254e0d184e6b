"""The stage is the truth: what an interrupted command or a click in the UI left different follows it."""

from collections.abc import Sequence

from sqlalchemy import Engine

from records import audit
from registry.decisions import Clock, Decision
from registry.history import OBSERVED, Move, recorded_stages
from registry.shelf import Shelf
from registry.versions import STAGE_ALIASES, ModelState


def mismatches(state: ModelState, moves: Sequence[Move]) -> list[str]:
    """What is not as decisions leave it: aliases, two versions in one stage, moves without a record.

    Args:
        moves: the model's audit rows, oldest first.
    """
    found = []
    for stage, alias in STAGE_ALIASES.items():
        there, named = state.in_stage(stage), state.aliases.get(alias)
        wanted = there[0] if there else None
        if named != wanted:
            actual = _version(wanted) or "no version"
            found.append(f"@{alias} is {_version(named) or 'unset'}, but {actual} is in {stage}")
        if len(there) > 1:
            found.append(f"versions {', '.join(there)} are in {stage}; MLflow takes the highest: archive the others")
    return found + [text for _, _, _, text in _unrecorded(state, moves)]


def mend_locked(shelf: Shelf, records: Engine, state: ModelState, actor: str, clock: Clock) -> list[str]:
    """Let the aliases follow the stages, and write down the moves that no decision made; the lock is held.

    Returns:
        a sentence for each thing mended.
    """
    mended = []
    for version, last, stage, text in _unrecorded(state, audit.moves(records, state.name)):
        Decision(records, state.name, version, last, stage, actor, "", clock).write(
            OBSERVED, reason="moved outside these commands, or a command was interrupted"
        )
        mended.append(f"mended: {text}; written down as observed")
    return mended + shelf.align(state.name)


def _unrecorded(state: ModelState, moves: Sequence[Move]) -> list[tuple[str, str, str, str]]:
    recorded = recorded_stages(moves)
    found = []
    for version in sorted(state.versions, key=int):
        stage, last = state.versions[version].stage, recorded.get(version) or "None"
        if stage != last:
            found.append((version, last, stage, f"version {version} is in {stage}, the records say {last}"))
    return found


def _version(number: str | None) -> str | None:
    return number and f"version {number}"

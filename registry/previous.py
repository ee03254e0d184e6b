"""Which version a rollback goes back to, and whether these are the records that know.

By default records lie in `.resunet` of the current folder: a command typed elsewhere finds others, or none. Nothing is
guessed then; what is said names the place.
"""

from collections.abc import Sequence

from sqlalchemy import Engine

from records import audit
from records.database import describe
from registry.history import OBSERVED, Move, once_live, unknown_past
from registry.settings import RegistrySettings
from registry.versions import ModelState
from resunet.errors import RefusedError


def version_before(state: ModelState, moves: Sequence[Move], asked: str | None, where: str) -> str:
    """The version to go back to.

    Args:
        moves: the model's audit rows, oldest first.
        asked: a version that was named; None takes the latest that was live.
        where: the rows are kept, for people.

    Raises:
        RefusedError: there is none, or not the one asked for.
    """
    name = state.name
    earlier = [one for one in once_live(moves) if one in state.versions and one != state.live]
    unknown = unknown_past(moves, sorted(state.in_stage("Archived"), key=lambda one: state.versions[one].changed_ms))
    if asked is not None:
        # Archived without a record it may never have been live: good enough only where nothing better is known.
        if asked in (earlier or unknown):
            return asked
        raise RefusedError(
            f"version {asked} of {name} is live, was never live, or was rolled back from or archived by command: "
            f"`python -m registry promote {name} {asked} Production` asks its gates"
        )
    if earlier:
        return earlier[-1]
    left = f" before version {state.live}" if state.live else ""
    if unknown:
        raise RefusedError(
            f"the records know of no version of {name} that was live{left}; looked in {where}. If decisions were "
            "written elsewhere, go there or set RESUNET_HOME or RESUNET_DATABASE; else say which, the last archived "
            f"first: `python -m registry rollback {name} --version N`, N one of {', '.join(reversed(unknown))}"
        )
    raise RefusedError(
        f"{name} has no version to go back to: none was live{left} that was not itself rolled back "
        f"from or archived by command; looked in {where}. Promote a version by its number instead"
    )


def strange_records(records_engine: Engine, state: ModelState, where: str) -> list[str]:
    """What to say where a version is live and the records tell of no command: they may be another folder's."""
    if state.live is None or any(move.action != OBSERVED for move in audit.moves(records_engine, state.name)):
        return []
    return [
        f"the records tell of no decision on {state.name}, whose version {state.live} is live: they are kept in "
        f"{where}. If decisions were written elsewhere, go there or set RESUNET_HOME or "
        "RESUNET_DATABASE, so that rollback and audit know them"
    ]


def place(records_engine: Engine, settings: RegistrySettings) -> str:
    """Where decisions are kept, for people."""
    return f"{describe(records_engine)} (RESUNET_HOME is {settings.home.absolute()})"

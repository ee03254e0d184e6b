"""The stage is the truth: what an interrupted command or a click in the UI left different follows it."""

from collections.abc import Sequence

from mlflow import MlflowClient
from sqlalchemy import Engine

from records import audit
from registry.decisions import Clock, Decision, alone
from registry.history import OBSERVED, recorded_stages
from registry.settings import RegistrySettings
from registry.versions import STAGE_ALIASES, ModelState, read_model


def mismatches(state: ModelState, rows: Sequence[audit.AuditRow]) -> list[str]:
    """What is not as the commands leave it: aliases, two versions in one stage, moves without a record.

    Args:
        rows: the model's audit rows, oldest first.
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
    return found + [text for _, _, _, text in _unrecorded(state, rows)]


def mend(
    client: MlflowClient,
    records_engine: Engine,
    name: str,
    actor: str,
    clock: Clock,
    settings: RegistrySettings | None = None,
) -> list[str]:
    """Let the aliases follow the stages, and write down the moves that no command made.

    Returns:
        a sentence for each thing mended.
    """
    with alone(settings or RegistrySettings.load()):
        return mend_locked(client, records_engine, read_model(client, name), actor, clock)


def mend_locked(client: MlflowClient, records_engine: Engine, state: ModelState, actor: str, clock: Clock) -> list[str]:
    """`mend` for who holds the lock already."""
    mended = []
    for version, last, stage, text in _unrecorded(state, audit.history(records_engine, state.name)):
        Decision(records_engine, state.name, version, last, stage, actor, "", clock).write(
            OBSERVED, reason="moved outside these commands, or a command was interrupted"
        )
        mended.append(f"mended: {text}; written down as observed")
    return mended + align_aliases(client, state)


def align_aliases(client: MlflowClient, state: ModelState) -> list[str]:
    """Set @champion and @challenger to the versions in Production and Staging; returns what it changed."""
    mended = []
    for stage, alias in STAGE_ALIASES.items():
        wanted = next(iter(state.in_stage(stage)), None)
        if state.aliases.get(alias) == wanted:
            continue
        if wanted is None:
            client.delete_registered_model_alias(state.name, alias)
            mended.append(f"mended: @{alias} was removed, no version is in {stage}")
        else:
            client.set_registered_model_alias(state.name, alias, wanted)
            mended.append(f"mended: @{alias} is version {wanted}, which is in {stage}")
    return mended


def _unrecorded(state: ModelState, rows: Sequence[audit.AuditRow]) -> list[tuple[str, str, str, str]]:
    recorded = recorded_stages(rows)
    found = []
    for version in sorted(state.versions, key=int):
        stage, last = state.versions[version].stage, recorded.get(version) or "None"
        if stage != last:
            found.append((version, last, stage, f"version {version} is in {stage}, the records say {last}"))
    return found


def _version(number: str | None) -> str | None:
    return number and f"version {number}"

"""Moving a version between stages: gates, stage, alias and audit row belong together.

    promote(client, engine, "resunet", "3", "Production", actor="ada", reason="new stain", clock=utc_now)
    rollback(client, engine, "resunet", actor="ada", reason="false positives", clock=utc_now)

Each change takes a lock that the commands of one machine share, mends what an interrupted one left, writes
the decision, and only then moves. The stage is the truth: an alias that differs follows it, and a stage that
differs from the last row is written down as observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlflow import MlflowClient
from sqlalchemy import Engine

from records import audit, evaluations
from registry.decisions import Clock, Decision, alone
from registry.evidence import Evaluation
from registry.gates import (
    Evidence,
    Limits,
    Verdict,
    VersionEvidence,
    dice_floor,
    evaluated,
    intact,
    judge,
    same_bytes,
)
from registry.history import ARCHIVED, DISPLACED, PROMOTED, REFUSED, ROLLED_BACK, gated_digest
from registry.mending import align_aliases, mend_locked, mismatches
from registry.previous import place, strange_records, version_before
from registry.settings import RegistrySettings
from registry.versions import STAGE_ALIASES, ModelState, collect, parse_stage, read_model, stage_calls
from resunet.errors import RefusedError

UNPROTECTED = (
    "unprotected: this is a plain MLflow server: anyone who can reach this server can move stages past these gates"
)


@dataclass(frozen=True)
class Change:
    """What a command did, and what it has to say."""

    name: str
    version: str
    stage: str
    changed: bool
    displaced: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """Where a model's versions stand, and what does not fit together."""

    state: ModelState
    mismatches: list[str]
    notices: list[str]


def promote(
    client: MlflowClient,
    records_engine: Engine,
    name: str,
    version: str,
    stage: str,
    actor: str,
    reason: str,
    clock: Clock,
    settings: RegistrySettings | None = None,
) -> Change:
    """Move a version to Staging or Production if its gates pass; what was there is archived.

    Args:
        stage: `Staging` or `Production`, in any case.
        clock: gives the aware time of the decision.
        settings: limits, lock and trusted key; None reads the environment.

    Returns:
        the change; `changed` is False when the version was alone in that stage already.

    Raises:
        SettingsError: no such model, version or stage.
        StoreError: a version's files cannot be fetched now; nothing was judged, moved or recorded.
        RefusedError: a gate failed or could not decide; nothing was moved, and the refusal is on record.
    """
    settings = settings or RegistrySettings.load()
    stage = parse_stage(stage)
    with alone(settings):
        known = read_model(client, name)
        version = known.row(version).version
        strange = strange_records(records_engine, known, place(records_engine, settings))
        state, notices = _settled(client, records_engine, name, actor, clock)
        notices += strange
        occupants = state.in_stage(stage)
        if occupants == [version]:
            notices.insert(0, f"version {version} of {name} is in {stage} already: nothing to do")
            return Change(name, version, stage, changed=False, notices=notices)
        decision = Decision(records_engine, name, version, state.row(version).stage, stage, actor, reason, clock)
        if decision.from_stage == "Production" and stage != "Production":
            message = f"version {version} of {name} is live: roll it back or archive it first"
            decision.write(REFUSED, reason=message)
            raise RefusedError(message)
        candidate = collect(client, name, version, settings.trusted_key)
        champion = None
        if stage == "Production" and state.live is not None:
            champion = collect(client, name, state.live, settings.trusted_key)
            champion = _with_later_evidence(records_engine, champion, candidate.evaluation)
        verdicts = judge(stage, Evidence(candidate, champion, name), _limits(settings))
        decision.check(candidate.digest, verdicts)
        if read_model(client, name).live != state.live:
            raise RefusedError(f"another version of {name} went live while {version} was judged: run it again")
        displaced = [one for one in occupants if one != version]
        _write_displaced(decision, DISPLACED, stage, displaced)
        decision.write(PROMOTED, candidate.digest, verdicts)
        _move(client, name, version, stage)
        return Change(name, version, stage, True, displaced, verdicts, notices)


def rollback(
    client: MlflowClient,
    records_engine: Engine,
    name: str,
    actor: str,
    reason: str,
    clock: Clock,
    settings: RegistrySettings | None = None,
    version: str | None = None,
) -> Change:
    """Put back the version that was live before, leaving out those that were rolled back from or archived by command.

    One that was promoted by command passed its gates then; now its files must still be those bytes. Any other
    is gated now, except for the comparison with the version that is left.

    Args:
        version: go back to this one: one that the records know to have been live, or an archived one that no command
            ever moved, of which they know nothing. None takes the latest that they know.

    Raises:
        SettingsError: no such model or version.
        StoreError: the version's files cannot be fetched now.
        RefusedError: there is nothing to go back to, or a gate does not pass.
    """
    settings = settings or RegistrySettings.load()
    with alone(settings):
        known, where = read_model(client, name), place(records_engine, settings)
        asked = None if version is None else known.row(version).version
        if asked is None and not audit.history(records_engine, name):
            # Perhaps the wrong records: refused before anything is written into them.
            version_before(known, [], None, where)
        state, notices = _settled(client, records_engine, name, actor, clock)
        rows = audit.history(records_engine, name)
        version = version_before(state, rows, asked, where)
        decision = Decision(records_engine, name, version, state.row(version).stage, "Production", actor, reason, clock)
        candidate = collect(client, name, version, settings.trusted_key)
        evidence, limits = Evidence(candidate, None), _limits(settings)
        gated = gated_digest(rows, version)
        if gated is None:
            verdicts = [gate(evidence, limits) for gate in (intact, evaluated, dice_floor)]
        else:
            verdicts = [intact(evidence, limits), same_bytes(candidate, gated)]
        decision.check(candidate.digest, verdicts)
        displaced = [one for one in state.in_stage("Production") if one != version]
        _write_displaced(decision, ROLLED_BACK, "Production", displaced)
        decision.write(ROLLED_BACK, candidate.digest, verdicts)
        _move(client, name, version, "Production")
        return Change(name, version, "Production", True, displaced, verdicts, notices)


def archive(
    client: MlflowClient,
    records_engine: Engine,
    name: str,
    version: str,
    actor: str,
    reason: str,
    clock: Clock,
    settings: RegistrySettings | None = None,
) -> Change:
    """Take a version out of use; when it is the live one, nothing is live afterwards.

    Raises:
        SettingsError: no such model or version.
    """
    with alone(settings or RegistrySettings.load()):
        version = read_model(client, name).row(version).version
        state, notices = _settled(client, records_engine, name, actor, clock)
        stage = state.row(version).stage
        if stage == "Archived":
            notices.insert(0, f"version {version} of {name} is archived already: nothing to do")
            return Change(name, version, "Archived", changed=False, notices=notices)
        decision = Decision(records_engine, name, version, stage, "Archived", actor, reason, clock)
        decision.write(ARCHIVED)
        _move(client, name, version, "Archived")
        if state.in_stage("Production") == [version]:
            notices.insert(0, f"nothing is live now: models:/{name}/Production no longer resolves")
        return Change(name, version, "Archived", True, notices=notices)


def status(client: MlflowClient, records_engine: Engine, name: str) -> Status:
    """Read where the versions of a model stand; changes nothing.

    Raises:
        SettingsError: no such model.
    """
    state = read_model(client, name)
    return Status(state, mismatches(state, audit.history(records_engine, name)), [UNPROTECTED])


def _settled(
    client: MlflowClient, records_engine: Engine, name: str, actor: str, clock: Clock
) -> tuple[ModelState, list[str]]:
    mended = mend_locked(client, records_engine, read_model(client, name), actor, clock)
    return read_model(client, name), [*mended, UNPROTECTED]


def _with_later_evidence(
    records_engine: Engine, champion: VersionEvidence, candidate: Evaluation | None
) -> VersionEvidence:
    """The live version with what `pipelines evaluate` measured of its bytes on the candidate's test split, if any."""
    if candidate is None or champion.damage:
        return champion
    content = evaluations.find(records_engine, champion.digest, candidate.fingerprint)
    return champion if content is None else replace(champion, measured=(Evaluation.parse(content),))


def _limits(settings: RegistrySettings) -> Limits:
    return Limits(settings.dice_floor, settings.champion_margin)


def _write_displaced(decision: Decision, action: str, stage: str, versions: Sequence[str]) -> None:
    for version in versions:
        Decision(decision.engine, decision.name, version, stage, "Archived", decision.actor, "", decision.clock).write(
            action, reason=f"version {decision.version} takes its place"
        )


def _move(client: MlflowClient, name: str, version: str, stage: str) -> None:
    with stage_calls():
        client.transition_model_version_stage(name, version, stage, archive_existing_versions=stage in STAGE_ALIASES)
    align_aliases(client, read_model(client, name))

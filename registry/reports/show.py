"""One version in full: where it came from, what it can do, who decided what on it, and who asks it now.

shown = show(client, reader, "resunet", "7")
shown.stage, shown.digest, shown.evaluation
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from records.audit import AuditRow
from records.evidence import Measured
from registry.evidence import Dependencies, Evaluation, Interval, Lineage, Metric, SliceResult
from registry.evidence.documents import SCORES
from registry.reports.reader import Activity, FilesFound, Reader, VersionRecords, read_activity
from registry.reports.run_facts import RunFacts, read_run
from registry.reports.stage_verdict import StageVerdict, stage_verdict
from registry.versions import VersionRow, read_model, version_row
from resunet.errors import RecordsError, VersionError

_UNKNOWN: Final = ("", "unknown", "none")


@dataclass(frozen=True)
class ShownEvaluation:
    """How good the version is, and where that is from.

    Attributes:
        source: `records`, `files` or `run`.
        fingerprint: of the test rows; empty where that is not known.
    """

    source: str
    fingerprint: str
    images: int
    overall: Mapping[Metric, Interval]
    slices: Mapping[str, SliceResult] = field(default_factory=dict)
    unevaluated_slices: Sequence[str] = ()
    serving_file: str = ""
    precision: str = ""
    engine: str = ""


@dataclass(frozen=True)
class GivenApproval:
    """Somebody's word for a stage."""

    stage: str
    who: str
    when: datetime
    reason: str


@dataclass(frozen=True)
class Shown:
    """All that is known of a version.

    Attributes:
        live: number of the version in Production; empty: none is.
        digest: of its bytes; empty: nobody has read them.
        signature: in words.
        parent: version whose weights it started from; `none`: it started from random ones; empty: not known.
        fingerprint: of the whole data set, as its tag says.
        pins: the requirements, as the files or the records have them.
        notices: what does not fit together.
    """

    model: str
    version: str
    stage: str
    aliases: Sequence[str]
    created: datetime
    live: str
    digest: str
    signature: str
    tags: Mapping[str, str]
    run: RunFacts | None
    parent: str
    commit: str
    working_tree: str
    fingerprint: str
    precision: str
    engine: str
    pins: Sequence[str]
    evaluation: ShownEvaluation | None
    verdicts: Sequence[StageVerdict]
    approvals: Sequence[GivenApproval]
    decisions: Sequence[AuditRow]
    activity: Activity
    notices: Sequence[str]
    problem: str = ""


def find_version(client: MlflowClient, name: str, version: str) -> tuple[VersionRow, list[str]]:
    """One version's row and its aliases, without reading the others.

    Raises:
        SettingsError: there is no such model or version; the message lists those there are.
    """
    if version.strip().isdecimal():
        try:
            found = client.get_model_version(name, str(int(version)))
            return version_row(found), sorted(found.aliases)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    state = read_model(client, name)
    row = state.row(version)
    return row, sorted(alias for alias, named in state.aliases.items() if named == row.version)


def show(client: MlflowClient, reader: Reader, name: str, version: str, files: bool = False) -> Shown:
    """Gather what registry, run and records say of a version.

    Args:
        files: fetch its files and check them, whether or not their digest is known.

    Raises:
        SettingsError: there is no such model or version.
        RecordsError: the records cannot be read.
    """
    row, aliases = find_version(client, name, version)
    return gather(client, reader, name, row, aliases, files)


def gather(
    client: MlflowClient, reader: Reader, name: str, row: VersionRow, aliases: Sequence[str], files: bool = False
) -> Shown:
    """`show` of a version whose row was read before."""
    kept = reader.version(name, row.version, files)
    if not kept.activity.known:
        # A guarded server need not be where predictions are logged.
        kept = replace(kept, activity=read_activity(name))
    run = read_run(client, row.run_id)
    evaluation, unread = find_evaluation(kept, run)
    params = run.params if run else {}
    return Shown(
        model=name,
        version=row.version,
        stage=row.stage,
        aliases=list(aliases),
        created=row.created,
        live=kept.live,
        digest=kept.digest,
        signature=_signature(kept),
        tags=row.tags,
        run=run,
        parent=_parent(row.tags, params),
        commit=_known(row.tags.get("git_commit", "")) or (run.commit if run else ""),
        working_tree=run.working_tree if run else "",
        fingerprint=_data_set(kept) or _claimed_data_set(row, run),
        precision=(evaluation.precision if evaluation else "") or row.tags.get("precision", ""),
        engine=evaluation.engine if evaluation else "",
        pins=_pins(kept),
        evaluation=evaluation,
        verdicts=[stage_verdict(verdict, kept) for verdict in kept.verdicts],
        approvals=[
            GivenApproval(stage, one.who, one.when, one.reason)
            for stage, given in kept.approvals.items()
            for one in given
        ],
        decisions=kept.decisions,
        activity=kept.activity,
        notices=[*_notices(row, kept, run), *unread],
        problem=kept.problem,
    )


def evaluations(measured: Sequence[Measured]) -> list[Evaluation]:
    """The evaluations among what was measured, the oldest first; those of another release are left out."""
    found = []
    for one in measured:
        if one.kind == SCORES:
            try:
                found.append(Evaluation.parse(one.content))
            except VersionError:
                continue
    return found


def find_evaluation(kept: VersionRecords, run: RunFacts | None) -> tuple[ShownEvaluation | None, list[str]]:
    """The evaluation on the version's own test split: from its files, else the records, else its run.

    Returns:
        it, and what there is to say of others.
    """
    if kept.files and kept.files.evaluation and not kept.files.damage:
        return _of(kept.files.evaluation, "files"), []
    found = evaluations(kept.measured)
    lost = sum(one.kind == SCORES for one in kept.measured) - len(found)
    notices = [f"{lost} of its evaluations were kept by another release and cannot be read"] if lost else []
    own = {verdict.fingerprint for verdict in kept.verdicts if verdict.version_digest == kept.digest}
    if found:
        # Measured as the live version beside others it has the scores on their test splits too.
        chosen = next((one for one in reversed(found) if one.fingerprint in own), found[0])
        return _of(chosen, "records"), notices
    if run is not None and run.overall:
        images = run.splits.get("test", 0)
        return ShownEvaluation("run", "", images, run.overall, engine="", precision=""), notices
    return None, notices


def _of(found: Evaluation, source: str) -> ShownEvaluation:
    return ShownEvaluation(
        source=source,
        fingerprint=found.fingerprint,
        images=found.images,
        overall=found.overall,
        slices=found.slices,
        unevaluated_slices=found.unevaluated_slices,
        serving_file=found.serving_file,
        precision=found.precision,
        engine=found.engine,
    )


def _signature(kept: VersionRecords) -> str:
    """What is known of the signature: from the files if they were read, else from the latest verdict on these bytes."""
    files = kept.files
    if files is not None:
        return _signature_of(files)
    for verdict in sorted(kept.verdicts, key=lambda one: one.when, reverse=True):
        for gate in verdict.gates:
            if gate.get("gate") == "signed" and verdict.version_digest == kept.digest:
                return f"{gate.get('outcome', '')}: {gate.get('evidence', '')}, when it was last gated".replace(
                    "_", " "
                )
    return "not looked at; --files looks"


def _signature_of(files: FilesFound) -> str:
    if files.damage:
        return "not looked at: the files are damaged"
    if files.signer:
        return f"signed with {files.signer}, which is trusted"
    return files.unsigned or (
        "not looked at: no key is trusted; RESUNET_TRUSTED_KEY names one, of a server with the gates in its environment"
    )


def find_lineage(measured: Sequence[Measured]) -> Lineage | None:
    """What was measured of where some bytes come from; None where nobody did."""
    for one in reversed(measured):
        if one.kind == Lineage.kind:
            try:
                return Lineage.parse(one.content)
            except RecordsError:
                continue
    return None


def _data_set(kept: VersionRecords) -> str:
    lineage = find_lineage(kept.measured)
    return lineage.data_set if lineage else ""


def _claimed_data_set(row: VersionRow, run: RunFacts | None) -> str:
    return row.tags.get("dataset_fingerprint", "") or (run.tags.get("dataset_fingerprint", "") if run else "")


def _wrong_claims(row: VersionRow, kept: VersionRecords, run: RunFacts | None) -> list[str]:
    """Where tags, which anybody may change, say something else than what was measured of the bytes."""
    lineage, found = find_lineage(kept.measured), list[str]()
    claimed = row.tags.get("version_digest", "")
    if kept.digest and claimed and claimed != kept.digest:
        found.append(f"its tag version_digest says {claimed}, its bytes are {kept.digest}: tags prove nothing")
    if lineage is None:
        return found
    data = _claimed_data_set(row, run)
    if lineage.data_set and data and data != lineage.data_set:
        found.append(f"its tag dataset_fingerprint says {data}, its files {lineage.data_set}: tags prove nothing")
    parent = row.tags.get("parent_version", "")
    if parent and (parent not in lineage.ancestors if parent != "none" else bool(lineage.ancestors)):
        ancestors = f"from version {', '.join(lineage.ancestors)}" if lineage.ancestors else "from random weights"
        found.append(f"its tag parent_version says {parent}, its files that it started {ancestors}: tags prove nothing")
    return found


def _pins(kept: VersionRecords) -> list[str]:
    if kept.files and not kept.files.damage:
        return [f"{name}{value}" for name, value in kept.files.requirements.items()]
    for one in reversed(kept.measured):
        if one.kind == Dependencies.kind:
            try:
                return list(Dependencies.parse(one.content).pinned)
            except RecordsError:
                continue
    return []


def _notices(row: VersionRow, kept: VersionRecords, run: RunFacts | None) -> list[str]:
    found = []
    if kept.files and kept.files.damage:
        found.append(kept.files.damage)
    if kept.files and kept.files.problem:
        found.append(kept.files.problem)
    found += _wrong_claims(row, kept, run)
    if row.run_id and run is None:
        found.append(f"its run {row.run_id} is not there any more")
    if any(one.when < row.created for one in kept.decisions):
        found.append("some decisions are older than this version: they are on an earlier one that had its number")
    if kept.activity.problem:
        found.append(f"the inference log cannot be read: {kept.activity.problem}")
    others = {one.model_digest for one in kept.activity.versions if one.model_version == row.version}
    if kept.digest and others - {kept.digest}:
        found.append(
            f"bytes that are not this version's answered under its number: {', '.join(sorted(others - {kept.digest}))}"
        )
    return found


def _parent(tags: Mapping[str, str], params: Mapping[str, str]) -> str:
    if "parent_version" in tags:
        return tags["parent_version"]
    return params["parent"] or "none" if "parent" in params else ""


def _known(text: str) -> str:
    return "" if text.lower() in _UNKNOWN else text

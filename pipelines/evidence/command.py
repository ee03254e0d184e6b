"""`python -m pipelines evidence resunet 7`: measure what the gates of a stage need, and keep it.

What is kept is bound to the digest of the files that were measured: another version's evidence, or that beside another
live version, is never taken for this one's. Each document is kept as soon as it is measured, so that an error later on
loses nothing.
"""

import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from rich.console import Console
from sqlalchemy import Engine

from pipelines.evidence.kinds import COMPARING, KINDS, Found
from pipelines.evidence.subject import Subject, Version
from pipelines.runs.run_tags import tags_of
from records import evidence as kept
from records.database import describe, open_database
from records.settings import RecordsSettings
from registry.connection import tracking
from registry.data_place import DataPlace, find_data
from registry.download import download
from registry.evidence import Document, Evaluation
from registry.evidence.documents import SCORES
from registry.policy import load_policy
from registry.settings import RegistrySettings
from registry.versions import parse_stage, read_model
from resunet.errors import SettingsError


@dataclass(frozen=True)
class EvidenceOptions:
    """What to measure, as it was typed.

    Attributes:
        data, where, groups, slices: of the data set; what is empty is what the version's run had.
        candidate, champion: folders of the two models, where somebody fetched them already; empty fetches them.
        only: kinds to measure, comma-separated; empty: what the stage's gates need.
        by: who has it measured.
    """

    name: str
    version: str
    stage: str = "Production"
    data: str = ""
    where: str = ""
    groups: str = ""
    slices: str = ""
    candidate: str = ""
    champion: str = ""
    only: str = ""
    by: str = ""


def measure_evidence(options: EvidenceOptions, console: Console) -> list[str]:
    """Measure and keep; returns the kinds that were.

    Raises:
        SettingsError: no such model, version, stage or kind, or nobody knows where the data set is.
        DataError: the data set is not there, or a test image is not what it was.
        VersionError: the files are not those that were made, or cannot serve.
        StoreError: they cannot be fetched now.
        RecordsError: the database refuses.
    """
    kinds = _kinds(options)
    records = open_database(RecordsSettings.load().database_url)
    with ExitStack() as stack:
        subject = _subject(options, not COMPARING.isdisjoint(kinds), console, stack)
        for kind in kinds:
            started = time.monotonic()
            for found in KINDS[kind](subject):
                _keep(records, subject, found, options.by)
            console.print(f"{kind}: measured in {time.monotonic() - started:.0f} s", style="dim", soft_wrap=True)
    console.print(f"kept in {describe(records)}", style="dim", soft_wrap=True)
    return kinds


def _kinds(options: EvidenceOptions) -> list[str]:
    wanted: Collection[str] = {kind.strip() for kind in options.only.split(",") if kind.strip()}
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown:
        raise SettingsError(f"only: there is no evidence of a kind {', '.join(unknown)}; there is {', '.join(KINDS)}")
    wanted = wanted or load_policy(RegistrySettings.load().policy).needs(parse_stage(options.stage))
    return [kind for kind in KINDS if kind in wanted]


def _subject(options: EvidenceOptions, compares: bool, console: Console, stack: ExitStack) -> Subject:
    """The two versions' files, and where the data set is that the candidate's run had.

    Args:
        compares: the live version is needed.
    """
    if options.candidate:
        champion = Version.checked("the live version", Path(options.champion)) if options.champion else None
        candidate = Version.checked(f"version {options.version}", Path(options.candidate))
        return Subject(candidate, champion, _place(options, {}), console)
    stage = parse_stage(options.stage)
    with tracking() as client:
        state = read_model(client, options.name)
        row = state.row(options.version)
        candidate = _fetched(client, options.name, row.version, stack)
        champion = None
        if compares and stage == "Production" and state.live is not None and state.live != row.version:
            champion = _fetched(client, options.name, state.live, stack)
        place = _place(options, tags_of(client, row.run_id))
    return Subject(candidate, champion, place, console)


def _fetched(client: MlflowClient, name: str, version: str, stack: ExitStack) -> Version:
    return Version.checked(f"version {version}", stack.enter_context(download(client, name, version)))


def _place(options: EvidenceOptions, tags: dict[str, str]) -> DataPlace:
    override = Path(options.data) if options.data else RegistrySettings.load().data
    noted = find_data(tags, override, f"version {options.version} of {options.name}")
    typed = {name: getattr(options, name) for name in ("where", "groups", "slices")}
    return DataPlace(**{**asdict(noted), **{name: value for name, value in typed.items() if value}})


def _keep(records: Engine, subject: Subject, found: Found, by: str) -> None:
    version, document = found
    beside = subject.champion if isinstance(document, Document) and document.beside else None
    kept.keep(
        records,
        kept.Measured(
            version_digest=version.digest,
            kind=SCORES if isinstance(document, Evaluation) else document.kind,
            content=document.model_dump_json(),
            measured_by=by or "unknown",
            measured_at=datetime.now(UTC),
            fingerprint=subject.fingerprint if hasattr(document, "fingerprint") else "",
            champion_digest=beside.digest if beside else "",
        ),
    )

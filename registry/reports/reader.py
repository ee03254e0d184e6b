"""What the platform's records hold of versions: read from the database here, or asked of a guarded server.

reader = open_reader(client)
reader.rows(Wanted(model_name="resunet", action="refuse"))
reader.version("resunet", "7").digest
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from mlflow.exceptions import MlflowException
from sqlalchemy import Engine

from records import approvals, audit, identities, verdicts
from records.approvals import Approval
from records.audit import AuditRow, BrokenRow, Head, Wanted
from records.evidence import Measured, of_bytes
from records.log_database import open_log
from records.settings import RecordsSettings
from records.verdicts import Kept
from records.window import VersionActivity, versions_in_window
from registry.evidence import Evaluation, VersionFacts
from registry.facts import read_facts
from registry.lifecycle import Lifecycle
from registry.reports.files import read_requirements
from registry.versions import STAGE_ALIASES, VersionRow, version_row
from resunet.errors import RecordsError, StoreError

STAGES: Final = ("Staging", "Production")
LATELY: Final = timedelta(hours=24)
_ABSENT: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


@dataclass(frozen=True)
class Chain:
    """What walking the chain of decisions found: the first row that does not fit, and the end."""

    broken: BrokenRow | None
    head: Head | None


@dataclass(frozen=True)
class FilesFound:
    """What a version's files said when they were read just now; most fields are those of `VersionFacts`.

    Attributes:
        requirements: what each package has to be, `python` among them.
    """

    damage: str
    signer: str
    unsigned: str
    evaluation: Evaluation | None
    problem: str
    requirements: dict[str, str]


@dataclass(frozen=True)
class Activity:
    """Which versions of a model answered lately, as the inference log tells.

    Attributes:
        known: there is a log.
        problem: why it could not be read.
    """

    known: bool = False
    versions: Sequence[VersionActivity] = ()
    problem: str = ""


@dataclass(frozen=True)
class VersionRecords:
    """All that the records hold of one version.

    Attributes:
        digest: of its bytes; empty where nobody has read them whole.
        files: what they said, where they were read for this.
        problem: why they could not be.
        verdicts: the latest one before each stage.
        measured: of these bytes, the oldest first.
        approvals: of these bytes, by stage.
        decisions: on this number, the oldest first.
        policy_digest: of the rules that hold now.
        live, live_digest: the version in Production now; empty where there is none, or its bytes are not known.
    """

    digest: str = ""
    files: FilesFound | None = None
    problem: str = ""
    verdicts: Sequence[Kept] = ()
    measured: Sequence[Measured] = ()
    approvals: dict[str, list[Approval]] = field(default_factory=dict)
    decisions: Sequence[AuditRow] = ()
    policy_digest: str = ""
    live: str = ""
    live_digest: str = ""
    activity: Activity = Activity()


class Trail(Protocol):
    """Reads what was decided and measured, wherever that is kept."""

    def rows(self, wanted: Wanted, newest: int | None = None) -> list[AuditRow]:
        """Decisions, oldest first; with `newest` at most so many, the newest ones.

        Raises:
            RecordsError: the records cannot be read.
        """

    def verify(self, noted: Head | None = None) -> Chain:
        """Walk the chain; it must still hold the row that was noted.

        Raises:
            RecordsError: the records cannot be read.
        """

    def measured(self, digest: str) -> list[Measured]:
        """What was measured of these bytes, the oldest first.

        Raises:
            RecordsError: the records cannot be read.
        """


class Reader(Trail, Protocol):
    """The same, and what is known of single versions."""

    def version(self, name: str, version: str, files: bool = False) -> VersionRecords:
        """What is known of a version. Its files are read where nobody did before, or with `files`.

        Raises:
            RecordsError: the records cannot be read.
        """


class Registry(Protocol):
    """The part of MLflow's client, and of its stores, that finds one version without reading the others."""

    def get_model_version(self, name: str, version: str) -> Any: ...
    def get_model_version_by_alias(self, name: str, alias: str) -> Any: ...


class LocalTrail:
    """The records of a database that this process can open."""

    def __init__(self, records: Engine) -> None:
        self._records = records

    def rows(self, wanted: Wanted, newest: int | None = None) -> list[AuditRow]:
        return audit.find(self._records, wanted, newest, newest=newest is not None)

    def page(self, wanted: Wanted, limit: int, after: int = 0, newest: bool = False) -> list[AuditRow]:
        """A part of them: at most `limit` behind the row `after`."""
        return audit.find(self._records, wanted, limit, after=after, newest=newest)

    def verify(self, noted: Head | None = None) -> Chain:
        return Chain(audit.verify(self._records, noted), audit.head(self._records))

    def measured(self, digest: str) -> list[Measured]:
        return of_bytes(self._records, digest)


class LocalReader(LocalTrail):
    """The same with a registry.

    Args:
        life: holds the database, the shelf and the policy.
        registry: where single versions are looked up.
    """

    def __init__(self, life: Lifecycle, registry: Registry) -> None:
        super().__init__(life.records)
        self._life = life
        self._registry = registry

    def version(self, name: str, version: str, files: bool = False) -> VersionRecords:
        row = version_row(self._registry.get_model_version(name, version))
        live = self._live(name)
        digest, found, problem = self._digest(name, row, files)
        return VersionRecords(
            digest=digest,
            files=found,
            problem=problem,
            verdicts=[
                kept
                for stage in STAGES
                if (kept := verdicts.latest(self._records, name, row.version, stage)) is not None
            ],
            measured=of_bytes(self._records, digest) if digest else (),
            approvals={
                stage: given
                for stage in STAGES
                if digest and (given := approvals.approvals(self._records, digest, stage))
            },
            decisions=audit.find(self._records, Wanted(model_name=name, version=row.version)),
            policy_digest=self._life.policy.digest,
            live=live.version if live else "",
            live_digest=(live and identities.digest_of(self._records, live.registration(name))) or "",
            activity=read_activity(name),
        )

    def _digest(self, name: str, row: VersionRow, files: bool) -> tuple[str, FilesFound | None, str]:
        """The digest that was noted of a version; of its files, where there is none or they are asked for."""
        noted = identities.digest_of(self._records, row.registration(name)) or ""
        if noted and not files:
            return noted, None, ""
        try:
            with self._life.shelf.files(name, row.version) as root:
                facts = read_facts(row.version, root, self._life.settings.trust)
                requirements = {} if facts.damage else read_requirements(root)
        except StoreError as error:
            return noted, None, str(error)
        if facts.digest and not noted:
            # What was noted before stays: a report changes nothing, and is compared with it.
            identities.note(self._records, row.registration(name), facts.digest)
        return noted or facts.digest, _found(facts, requirements, noted), ""

    def _live(self, name: str) -> VersionRow | None:
        """The version in Production: by its alias, so that not all versions have to be read."""
        try:
            row = version_row(self._registry.get_model_version_by_alias(name, STAGE_ALIASES["Production"]))
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            return None
        return row if row.stage == "Production" else None


def read_activity(name: str) -> Activity:
    """Which versions answered in the last 24 hours, where RESUNET_INFERENCE_LOG names a log."""
    url = RecordsSettings.load().inference_log
    if not url:
        return Activity()
    now = datetime.now(UTC)
    try:
        return Activity(True, versions_in_window(open_log(url), now - LATELY, now, name))
    except RecordsError as error:
        return Activity(True, problem=str(error))


def _found(facts: VersionFacts, requirements: dict[str, str], noted: str) -> FilesFound:
    damage = facts.damage
    if noted and facts.digest and facts.digest != noted and not damage:
        damage = f"its files are not those that were read before, whose digest was {noted}"
    return FilesFound(damage, facts.signer, facts.unsigned, facts.evaluation, facts.problem, requirements)

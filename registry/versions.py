"""Reading the MLflow registry: which versions there are, and where they stand.

model = read_model(client, "resunet")
model.live                                   # the version that `models:/resunet/Production` means, or None
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from records.identities import Registration
from resunet.errors import SettingsError

STAGES = ("None", "Staging", "Production", "Archived")
STAGE_ALIASES: Mapping[str, str] = {"Production": "champion", "Staging": "challenger"}


@dataclass(frozen=True)
class VersionRow:
    """One version as the registry shows it."""

    version: str
    stage: str
    tags: Mapping[str, str]
    created_ms: int
    changed_ms: int
    source: str
    run_id: str

    @property
    def created(self) -> datetime:
        return datetime.fromtimestamp(self.created_ms / 1000, tz=UTC)

    def registration(self, name: str) -> Registration:
        """What tells this version from one that had its number before."""
        return Registration(name, self.version, self.created_ms, self.source)


@dataclass(frozen=True)
class ModelState:
    """A registered model at one moment."""

    name: str
    versions: Mapping[str, VersionRow]
    aliases: Mapping[str, str]

    def in_stage(self, stage: str) -> list[str]:
        """The versions in a stage, highest number first, which is the one MLflow resolves the stage to."""
        return sorted((v.version for v in self.versions.values() if v.stage == stage), key=int, reverse=True)

    @property
    def live(self) -> str | None:
        return next(iter(self.in_stage("Production")), None)

    def row(self, version: str) -> VersionRow:
        """The row of a version, which may be written `3` or `03`.

        Raises:
            SettingsError: there is no such version; the message lists those there are.
        """
        number = str(int(version)) if version.strip().isdecimal() else version
        if number in self.versions:
            return self.versions[number]
        there = ", ".join(sorted(self.versions, key=int)) or "none yet"
        raise SettingsError(f"{self.name} has no version {version!r}; there is: {there}")


def parse_stage(stage: str, allowed: tuple[str, ...] = ("Staging", "Production")) -> str:
    """A stage's name in any case.

    Raises:
        SettingsError: it is none of those allowed.
    """
    for known in allowed:
        if stage.strip().lower() == known.lower():
            return known
    raise SettingsError(f"{stage!r} is not a stage to promote to; choose {' or '.join(allowed)}")


@contextmanager
def stage_calls() -> Iterator[None]:
    """Stages are deprecated upstream and are still this platform's contract: silence that warning alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*transition_model_version_stage.* is deprecated", FutureWarning)
        yield


def model_names(client: MlflowClient) -> list[str]:
    """The registered models, in alphabetical order."""
    names: list[str] = []
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=100, page_token=token)
        names += [model.name for model in page]
        token = page.token
        if not token:
            return sorted(names)


def read_model(client: MlflowClient, name: str) -> ModelState:
    """Read all versions of a model with their stages and aliases.

    Raises:
        SettingsError: there is no such model; the message lists those there are.
    """
    try:
        registered = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        there = ", ".join(model_names(client)) or "none yet; `mlflow run . -e train` makes one"
        raise SettingsError(f"there is no registered model {name!r}; there is: {there}") from error
    versions: dict[str, VersionRow] = {}
    token: str | None = None
    quoted = name.replace("'", "''")
    while True:
        page = client.search_model_versions(f"name='{quoted}'", max_results=200, page_token=token)
        for found in page:
            row = version_row(found)
            versions[row.version] = row
        token = page.token
        if not token:
            break
    aliases = {alias: str(version) for alias, version in registered.aliases.items()}
    return ModelState(name, versions, aliases)


def version_row(found: ModelVersion) -> VersionRow:
    """What MLflow's own entity says."""
    created = int(found.creation_timestamp)
    return VersionRow(
        version=str(found.version),
        stage=str(found.current_stage or "None"),
        tags=dict(found.tags),
        created_ms=created,
        changed_ms=int(found.last_updated_timestamp or created),
        source=str(found.source or ""),
        run_id=str(found.run_id or ""),
    )

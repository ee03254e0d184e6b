"""Reading the MLflow registry: which versions there are, where they stand, and what one of them shows.

model = read_model(client, "resunet")
model.live                                   # the version that `models:/resunet/Production` means, or None
collect(client, "resunet", "3", trusted_key) # downloads it, checks its files, reads its evaluation
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from records import digests
from registry import signing
from registry.download import download
from registry.evidence import VERSION_FOLDER, Evaluation
from registry.gates import VersionEvidence
from resunet.errors import SettingsError, VersionError

STAGES = ("None", "Staging", "Production", "Archived")
STAGE_ALIASES: Mapping[str, str] = {"Production": "champion", "Staging": "challenger"}


@dataclass(frozen=True)
class VersionRow:
    """One version as the registry shows it."""

    version: str
    stage: str
    tags: Mapping[str, str]
    created: datetime
    changed: datetime


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
            number = str(found.version)
            versions[number] = VersionRow(
                number, str(found.current_stage or "None"), dict(found.tags), _time(found.creation_timestamp),
                _time(found.last_updated_timestamp or found.creation_timestamp),
            )  # fmt: skip
        token = page.token
        if not token:
            break
    aliases = {alias: str(version) for alias, version in registered.aliases.items()}
    return ModelState(name, versions, aliases)


def collect(client: MlflowClient, name: str, version: str, trusted_key: Path | None) -> VersionEvidence:
    """Download a version, check its files and read its evaluation.

    Args:
        trusted_key: public key (PEM) that must have signed it; None accepts an unsigned version.

    Returns:
        the evidence; files that are not to be believed are a finding in it (`damage`), not an exception.

    Raises:
        StoreError: its files cannot be fetched or read now, which says nothing of them.
    """
    with download(client, name, version) as root:
        listing: dict[str, str] = {}
        digest = ""
        try:
            listing = digests.read_digests(root)
            digest = digests.verify_digests(root)
            if trusted_key is not None:
                signing.verify(root, trusted_key)
        except VersionError as error:
            return VersionEvidence(version, digest, listing, None, damage=str(error))
        try:
            return VersionEvidence(version, digest, listing, Evaluation.read(root / VERSION_FOLDER))
        except VersionError as error:
            return VersionEvidence(version, digest, listing, None, problem=str(error))


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)

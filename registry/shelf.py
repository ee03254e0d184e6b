"""Where versions stand and how they are moved: the registry, as promotion sees it.

A `Shelf` is either MLflow's public API (`ClientShelf`: anybody else can move versions too, and a move takes several
requests) or the guarded server's own store (`registry.guard.store`: one transaction, and no other door).
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from mlflow import MlflowClient

from registry.download import download
from registry.versions import STAGE_ALIASES, ModelState, model_names, read_model, stage_calls
from resunet.errors import RefusedError

# Begins the keys of the tags that show what the gates said.
LABEL: Final = "lifecycle."


class Shelf(Protocol):
    """Reads and moves the versions of registered models.

    Attributes:
        protected: nobody can move a version past it.
    """

    protected: bool

    def names(self) -> list[str]:
        """The registered models, in alphabetical order."""

    def read(self, name: str) -> ModelState:
        """All versions of a model, with stages and aliases.

        Raises:
            SettingsError: there is no such model.
        """

    def files(self, name: str, version: str) -> AbstractContextManager[Path]:
        """The folder of a version's model while the block runs.

        Raises:
            StoreError: it cannot be fetched or read now.
        """

    def move(self, name: str, version: str, stage: str, live: str | None) -> None:
        """Move a version; what was in Staging or Production is archived, and the aliases follow.

        Args:
            live: the version that must be in Production now; None: none must be.

        Raises:
            RefusedError: another one is.
        """

    def align(self, name: str) -> list[str]:
        """Let the aliases follow the stages; returns a sentence for each that it changed."""

    def label(self, name: str, version: str, labels: Mapping[str, str]) -> None:
        """Show on a version's page what the gates said; proves nothing."""


class ClientShelf:
    """MLflow's public API: a move is several requests, one for the stage and one for each alias."""

    protected = False

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def names(self) -> list[str]:
        return model_names(self._client)

    def read(self, name: str) -> ModelState:
        return read_model(self._client, name)

    @contextmanager
    def files(self, name: str, version: str) -> Iterator[Path]:
        with download(self._client, name, version) as root:
            yield root

    def move(self, name: str, version: str, stage: str, live: str | None) -> None:
        refuse_other_champion(self.read(name), version, live)
        with stage_calls():
            self._client.transition_model_version_stage(
                name, version, stage, archive_existing_versions=stage in STAGE_ALIASES
            )
        self.align(name)

    def align(self, name: str) -> list[str]:
        state, told = self.read(name), []
        for alias, wanted in aliases_to_set(state).items():
            if wanted is None:
                self._client.delete_registered_model_alias(name, alias)
            else:
                self._client.set_registered_model_alias(name, alias, wanted)
            told.append(alias_told(alias, wanted))
        return told

    def label(self, name: str, version: str, labels: Mapping[str, str]) -> None:
        for key, value in labels.items():
            self._client.set_model_version_tag(name, version, f"{LABEL}{key}", value)


def aliases_to_set(state: ModelState) -> dict[str, str | None]:
    """The aliases that are not where the stages say, and the version that each belongs to; None: to none."""
    wanted = {alias: next(iter(state.in_stage(stage)), None) for stage, alias in STAGE_ALIASES.items()}
    return {alias: version for alias, version in wanted.items() if state.aliases.get(alias) != version}


def alias_told(alias: str, version: str | None) -> str:
    """What was mended, for people."""
    stage = next(stage for stage, name in STAGE_ALIASES.items() if name == alias)
    if version is None:
        return f"mended: @{alias} was removed, no version is in {stage}"
    return f"mended: @{alias} is version {version}, which is in {stage}"


def refuse_other_champion(state: ModelState, version: str, live: str | None) -> None:
    """See that the version that was compared with is the one in Production still.

    Raises:
        RefusedError: it is not.
    """
    if state.live != live:
        now = f"version {state.live}" if state.live else "no version"
        then = f"version {live}" if live else "none"
        raise RefusedError(f"{now} of {state.name} is live now; {version} was compared with {then}: check it again")

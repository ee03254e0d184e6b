"""MLflow's SQL registry store in which every change of what is live is a decision, whoever asks for it.

Stage, archive and aliases change in one transaction. Used by the server (`registry.guard.app`) for any database URI,
and by its own scheme as a plug-in below another server: `--registry-store-uri gated+sqlite:///mlflow.db`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Final

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelTag
from mlflow.entities.model_registry.model_version_stages import get_canonical_stage
from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS, IS_PROMPT_TAG_KEY
from mlflow.store.artifact.utils.models import _parse_model_uri
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.uri import is_models_uri
from mlflow.utils.validation import _validate_model_renaming

from records.database import open_database
from records.settings import RecordsSettings
from registry.decisions import alone
from registry.guard.answers import told_as_mlflow
from registry.guard.identity import current_actor
from registry.guard.store_shelf import StoreShelf
from registry.guard.writing import registering
from registry.history import DELETED, REFUSED, RENAMED
from registry.lifecycle import Lifecycle
from registry.mending import mend_locked
from registry.notify import notifier
from registry.policy import load_policy
from registry.settings import RegistrySettings
from registry.shelf import LABEL
from registry.versions import STAGE_ALIASES
from resunet.errors import RefusedError

SCHEME: Final = "gated+"
_ACTIVE: Final = ("Staging", "Production")
_GUARDED_ALIASES: Final[Mapping[str, str]] = {alias: stage for stage, alias in STAGE_ALIASES.items()}


class GuardedStore(SqlAlchemyStore):
    """The registry's tables, with the gates before them.

    Args:
        store_uri: of the database; `gated+` before it is taken off.
        read_db_uri: of a replica for reading, as MLflow has it.
    """

    def __init__(self, store_uri: str, read_db_uri: str | None = None) -> None:
        super().__init__(store_uri.removeprefix(SCHEME), read_db_uri)
        # Raises RefusedError where files must not be registered; the server knows more of them than this store.
        self.refuse_source: Callable[[str], None] = lambda source: None

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """All decisions on these tables."""
        settings = RegistrySettings.load()
        records = open_database(RecordsSettings.load().database_url)
        return Lifecycle(records, StoreShelf(self), load_policy(settings.policy), settings, notify=notifier(settings))

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> ModelVersion:
        """Promote or archive, as the commands do; what was in the stage is archived whatever the flag says."""
        wanted = get_canonical_stage(stage)
        self.get_model_version(name, version)
        with told_as_mlflow():
            if wanted in _ACTIVE:
                self.lifecycle.promote(name, str(version), wanted, current_actor(), "")
            else:
                self.lifecycle.archive(name, str(version), current_actor(), "", wanted)
        return self.get_model_version(name, version)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Setting @champion or @challenger promotes; any other alias, or one of a prompt, means nothing here."""
        stage = _GUARDED_ALIASES.get(str(alias).casefold())
        if stage is None or self._is_of_a_prompt(name, version):
            super().set_registered_model_alias(name, alias, version)
            return
        with told_as_mlflow():
            self.lifecycle.promote(name, str(version), stage, current_actor(), f"alias @{alias}")

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """@champion and @challenger follow their stages; they are not taken off by hand."""
        stage = _GUARDED_ALIASES.get(str(alias).casefold())
        if stage is None:
            super().delete_registered_model_alias(name, alias)
            return
        self.get_registered_model(name)
        with told_as_mlflow(), self._alone(name):
            there = self.lifecycle.shelf.read(name).in_stage(stage)
            if there:
                told = (
                    f"@{alias} follows the stage: version {there[0]} of {name} is in {stage}; "
                    f"`python -m registry archive {name} {there[0]}` takes it out"
                )
                self._note(REFUSED, name, there[0], stage, told)
                raise RefusedError(told)
            super().delete_registered_model_alias(name, alias)

    def delete_model_version(self, name: str, version: str) -> None:
        """A version in Staging or Production is not deleted."""
        row = self.get_model_version(name, version)
        with told_as_mlflow(), self._alone(name):
            self._refuse_active(name, [str(row.version)], "deleted")
            self._note(DELETED, name, str(row.version), str(row.current_stage))
            super().delete_model_version(name, version)

    def delete_registered_model(self, name: str) -> None:
        """A model with a version in Staging or Production is not deleted."""
        self.get_registered_model(name)
        with told_as_mlflow(), self._alone(name):
            self._refuse_active(name, None, "deleted")
            self._note(DELETED, name, "*", "None")
            super().delete_registered_model(name)

    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel:
        """A model with a version in Staging or Production keeps its name: who asks for the old one would get none."""
        self.get_registered_model(name)
        with told_as_mlflow(), self._alone(name):
            self._refuse_active(name, None, "renamed")
            _validate_model_renaming(new_name)
            if new_name not in self.lifecycle.shelf.names():  # else MLflow refuses it
                # Both pasts say so: the numbers under the new name were others' before, or nobody's.
                self._note(RENAMED, name, "*", "None", f"to {new_name}")
                self._note(RENAMED, new_name, "*", "None", f"from {name}")
            return super().rename_registered_model(name, new_name)

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: list[ModelVersionTag] | None = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> ModelVersion:
        """Register a version; tags that tell of gates are the server's to write, and are not copied.

        Raises:
            MlflowException: 400: its files must not be registered; 503: uploads did not end in time.
        """
        if _of_a_version(source):
            tags = [tag for tag in tags or [] if not _is_label(tag.key)]
        for tag in tags or []:
            _refuse_label(tag.key)
        with ExitStack() as held:
            if source not in _PROMPT_SOURCE_PLACEHOLDERS:  # a prompt has no files
                with told_as_mlflow():
                    held.enter_context(registering(self.lifecycle.settings.home))
                    self.refuse_source(source)
            return super().create_model_version(
                name, source, run_id, tags, run_link, description, local_model_path, model_id
            )

    def set_model_version_tag(self, name: str, version: str, tag: ModelVersionTag) -> None:
        _refuse_mark(tag.key)
        super().set_model_version_tag(name, version, tag)

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        _refuse_mark(key)
        super().delete_model_version_tag(name, version, key)

    def create_registered_model(
        self,
        name: str,
        tags: list[RegisteredModelTag] | None = None,
        description: str | None = None,
        deployment_job_id: str | None = None,
    ) -> RegisteredModel:
        for tag in tags or []:
            _refuse_label(tag.key)
        return super().create_registered_model(name, tags, description, deployment_job_id)

    def set_registered_model_tag(self, name: str, tag: RegisteredModelTag) -> None:
        _refuse_mark(tag.key)
        super().set_registered_model_tag(name, tag)

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        _refuse_mark(key)
        super().delete_registered_model_tag(name, key)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """While nobody else decides, after what was left half done is mended: what is not live now is not made so."""
        life = self.lifecycle
        with alone(life.settings, life.records):
            mend_locked(life.shelf, life.records, life.shelf.read(name), current_actor().name, life.clock)
            yield

    def _is_of_a_prompt(self, name: str, version: str) -> bool:
        """Whether there is nothing to load of this version: no model's version, and no files behind it."""
        source = self.get_model_version(name, version).source
        return self.get_registered_model(name)._is_prompt() and source in _PROMPT_SOURCE_PLACEHOLDERS

    def _refuse_active(self, name: str, versions: list[str] | None, what: str) -> None:
        state = self.lifecycle.shelf.read(name)
        for stage in _ACTIVE:
            for version in state.in_stage(stage):
                if versions is None or version in versions:
                    told = (
                        f"version {version} of {name} is in {stage} and cannot be {what}: "
                        f"`python -m registry archive {name} {version}` takes it out first"
                    )
                    self._note(REFUSED, name, version, stage, told)
                    raise RefusedError(told)

    def _note(self, action: str, name: str, version: str, stage: str, reason: str = "") -> None:
        self.lifecycle.note(action, name, version, stage, current_actor(), reason)


def _of_a_version(source: str) -> bool:
    """Whether a version is made of another one, as `copy_model_version` does with all its tags."""
    return is_models_uri(source) and _parse_model_uri(source).version is not None


def _is_label(key: str) -> bool:
    return str(key).casefold().startswith(LABEL)


def _refuse_label(key: str) -> None:
    if _is_label(key):
        with told_as_mlflow():
            raise RefusedError(f"the tag {key} is written by this server alone; tags prove nothing to its gates")


def _refuse_mark(key: str) -> None:
    """MLflow's clients do not find a model that is marked as a prompt: whatever was live in it would be gone."""
    _refuse_label(key)
    if key == IS_PROMPT_TAG_KEY:
        with told_as_mlflow():
            raise RefusedError(f"the tag {key} is set where a prompt is made, and stays: make a prompt of another name")

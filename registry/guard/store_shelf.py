"""The registry's own tables as promotion sees them: where versions stand, and moves of one transaction."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS
from mlflow.server import handlers
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import _TEMP_ARTIFACT_PREFIX
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel, SqlRegisteredModelAlias
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.time import get_current_time_millis
from sqlalchemy.orm import Session

from registry.guard import locations
from registry.guard.permissions import readable
from registry.shelf import LABEL, alias_told, aliases_to_set, refuse_other_champion
from registry.versions import STAGE_ALIASES, ModelState, VersionRow
from resunet.errors import RefusedError, ResunetError, SettingsError, StoreError

# In a folder of this machine MLflow writes to a name like that first, and shows none of them to anybody.
_LEFTOVERS: Final = f"{_TEMP_ARTIFACT_PREFIX}*"
# Of the models that a message names where there is none of the name that was asked for.
_NAMED: Final = 20


class StoreShelf:
    """The registry's own tables: a move is one transaction, so that nobody ever sees two versions live, or none."""

    protected = True

    def __init__(self, store: SqlAlchemyStore) -> None:
        self._store = store

    def names(self) -> list[str]:
        with self._session() as session:
            query = self._store._get_query(session, SqlRegisteredModel).with_entities(SqlRegisteredModel.name)
            return sorted(name for (name,) in query)

    def read(self, name: str) -> ModelState:
        with self._session() as session:
            return self._read(session, name)

    @contextmanager
    def files(self, name: str, version: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="resunet-version-") as folder:
            try:
                root = self._fetch(name, version, Path(folder))
            except ResunetError:
                raise
            except Exception as error:
                # Each kind of artifact store has a library of its own, with errors of its own.
                raise _unread(name, version, error) from error
            if not (root.is_dir() and any(root.iterdir())):
                raise StoreError(
                    f"the files of version {version} of {name} are not in the artifact store: bring them back "
                    "from a backup and try again, or take another version"
                )
            try:
                yield root
            except OSError as error:
                raise _unread(name, version, error) from error

    def move(self, name: str, version: str, stage: str, live: str | None) -> None:
        now = get_current_time_millis()
        with self._session(read_only=False) as session:
            model = self._store._get_registered_model(session, name)
            # Written first: from here on nobody else can write, so that what is read next stays so.
            model.last_updated_time = now
            session.flush()
            state = self._read(session, name)
            refuse_other_champion(state, version, live)
            displaced = [one for one in state.in_stage(stage) if one != version] if stage in STAGE_ALIASES else []
            self._set_stage(session, name, displaced, "Archived", now)
            self._set_stage(session, name, [version], stage, now)
            session.flush()
            self._align(session, self._read(session, name))

    def align(self, name: str) -> list[str]:
        state = self.read(name)
        if not aliases_to_set(state):
            return []
        with self._session(read_only=False) as session:
            return self._align(session, self._read(session, name))

    def label(self, name: str, version: str, labels: Mapping[str, str]) -> None:
        for key, value in labels.items():
            # Past the guarded store's own method, which lets nobody write these.
            SqlAlchemyStore.set_model_version_tag(self._store, name, version, ModelVersionTag(f"{LABEL}{key}", value))

    @contextmanager
    def _session(self, read_only: bool = True) -> Iterator[Session]:
        """A transaction; MLflow's own wraps each error that it does not know."""
        try:
            with self._store.ManagedSessionMaker(read_only=read_only) as session:
                yield session
        except MlflowException as error:
            if isinstance(error.__cause__, ResunetError):
                raise error.__cause__ from None
            raise

    def _read(self, session: Session, name: str) -> ModelState:
        try:
            model = self._store._get_registered_model(session, name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            there = ", ".join(islice(readable(self.names()), _NAMED)) or "none yet; `mlflow run . -e train` makes one"
            raise SettingsError(f"there is no registered model {name!r}; there is: {there}") from error
        columns = ("version", "current_stage", "creation_time", "last_updated_time", "source", "run_id")
        query = (
            self._store._get_query(session, SqlModelVersion)
            .filter(SqlModelVersion.name == name, SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)
            .with_entities(*(getattr(SqlModelVersion, column) for column in columns))
        )
        versions = {
            str(number): VersionRow(
                str(number), stage or "None", {}, created or 0, changed or created or 0, source or "", run_id or ""
            )
            for number, stage, created, changed, source, run_id in query
        }
        aliases = {alias.alias: str(alias.version) for alias in model.registered_model_aliases}
        # Those of a prompt follow no stage: it has none, and no files.
        prompts = {number for number, row in versions.items() if row.source in _PROMPT_SOURCE_PLACEHOLDERS}
        aliases = {alias: number for alias, number in aliases.items() if number not in prompts}
        return ModelState(name, versions, aliases)

    def _set_stage(self, session: Session, name: str, versions: list[str], stage: str, now: int) -> None:
        for version in versions:
            row = self._store._get_sql_model_version(session, name, version)
            row.current_stage, row.last_updated_time = stage, now

    def _align(self, session: Session, state: ModelState) -> list[str]:
        told = []
        for alias, version in aliases_to_set(state).items():
            if version is None:
                session.delete(self._store._get_registered_model_alias(session, state.name, alias))
            else:
                row = self._store._get_sql_model_version(session, state.name, version)
                session.merge(
                    SqlRegisteredModelAlias(workspace=row.workspace, name=state.name, alias=alias, version=int(version))
                )
            told.append(alias_told(alias, version))
        session.flush()
        return told

    def _fetch(self, name: str, version: str, folder: Path) -> Path:
        """The files' folder: in place where the store is a folder of this machine, else a copy of it in `folder`."""
        location = str(self._store.get_model_version_download_uri(name, version))
        if location not in locations.spellings(location):
            # Written like that, what changes the files could not be told from what does not.
            raise _outside(name, version, location)
        if location.startswith(f"{locations.PROXIED}:/"):
            path = location.removeprefix(f"{locations.PROXIED}:/")
            repository = handlers._get_artifact_repo_mlflow_artifacts()
            found = Path(repository.get_local_path(path) or repository.download_artifacts(path, str(folder)))
            return _as_clients_see(found, folder)
        if not locations.kept_here(location):
            raise _outside(name, version, location)
        return Path(get_artifact_repository(location).download_artifacts("", str(folder)))


def _as_clients_see(found: Path, folder: Path) -> Path:
    """The same folder; a copy in `folder` where an upload is under way or was cut off, without what it has written."""
    if next(found.rglob(_LEFTOVERS), None) is None:
        return found
    return Path(shutil.copytree(found, folder / "version", ignore=shutil.ignore_patterns(_LEFTOVERS)))


def _unread(name: str, version: str, error: Exception) -> StoreError:
    # Without the error's own text: it may hold an artifact store's signed URL.
    return StoreError(
        f"the files of version {version} of {name} cannot be read ({type(error).__name__}): see that the "
        "artifact store is up and holds them, and try again"
    )


def _outside(name: str, version: str, location: str) -> RefusedError:
    address = urlsplit(location)
    return RefusedError(
        f"the files of version {version} of {name} lie outside this server's artifact store "
        f"({address.scheme or 'file'}://{address.hostname or ''}…), where they could be changed past its gates: "
        "log the model to this server and register that"
    )

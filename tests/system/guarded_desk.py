"""A desk on the guarded registry itself, in this process: what the server does below its routes."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR
from promotion_desk import POLICY, Desk
from reported_versions import make_tables

from records.database import open_database
from registry.guard.store import GuardedStore
from registry.lifecycle import Lifecycle
from registry.settings import RegistrySettings


@dataclasses.dataclass
class GuardedDesk(Desk):
    """The same desk; `life` is that of the store."""

    database: str = ""

    @property
    def life(self) -> Lifecycle:
        return GuardedStore(self.database).lifecycle

    def environment(self) -> dict[str, str]:
        return os.environ | {"GUARDED_DATABASE": self.database}


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture
def guarded(
    tmp_path: Path, mlflow_tables: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GuardedDesk]:
    """A registry whose artifacts are a folder of this machine."""
    home, artifacts = tmp_path / "home", tmp_path / "artifacts"
    home.mkdir()
    (home / "policy.yaml").write_text(POLICY)
    database = f"sqlite:///{shutil.copy(mlflow_tables, tmp_path / 'mlflow.db')}"
    monkeypatch.setenv("RESUNET_HOME", str(home))
    monkeypatch.setenv("RESUNET_POLICY", str(home / "policy.yaml"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, str(artifacts))
    client = MlflowClient(tracking_uri=database, registry_uri=f"gated+{database}")
    client.create_experiment(request.node.name, artifact_location=str(artifacts / "experiment"))
    yield GuardedDesk(
        client,
        open_database(f"sqlite:///{home / 'records.db'}"),
        request.node.name,
        tmp_path,
        RegistrySettings.load(),
        database=database,
    )

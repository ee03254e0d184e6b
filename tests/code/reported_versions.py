"""Registered versions with runs, for tests of reports: MLflow on a SQLite file, real files, real records.

shelf = make_shelf(tmp_path)
version = shelf.version(0.9, params={"width": "8"})
shelf.show(version)
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from gate_evidence import overlap
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus
from ready_tables import with_tables
from small_versions import evaluation, lineage, scores
from sqlalchemy import Engine

from records.database import open_database
from records.digests import write_digests
from records.evidence import Measured, keep
from registry.evidence import VERSION_FOLDER, Document, Evaluation
from registry.evidence.documents import SCORES
from registry.lifecycle import Lifecycle
from registry.people import Actor
from registry.policy import parse_policy
from registry.reports.reader import LocalReader
from registry.reports.show import Shown, show
from registry.settings import RegistrySettings
from registry.shelf import ClientShelf

ADA, GRACE = Actor("ada"), Actor("grace", authenticated=True)
NAME = "resunet"
POLICY = """
format: 1
stages:
  Staging: {intact: }
  Production: {intact: , evaluated: , floor: {dice: 0.7}, champion: {margin: 0.01}, signed: }
roles: {override: [grace], approve: [grace]}
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPLITS = {"train": 63, "validation": 14, "test": 12}


@dataclass
class ReportShelf:
    """A registered model with its records."""

    client: MlflowClient
    engine: Engine
    folder: Path
    experiment: str
    policy: str = POLICY
    made: int = 0
    tested: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def life(self) -> Lifecycle:
        settings = RegistrySettings(home=self.folder)
        return Lifecycle(self.engine, ClientShelf(self.client), parse_policy(self.policy), settings)

    @property
    def reader(self) -> LocalReader:
        return LocalReader(self.life, self.client)

    def show(self, version: str, files: bool = False) -> Shown:
        return show(self.client, self.reader, NAME, version, files)

    def version(
        self,
        dice: float | Evaluation = 0.9,
        params: Mapping[str, str] | None = None,
        splits: Mapping[str, int] = SPLITS,
        fingerprint: str = "sha256:data",
        requirements: str = "numpy==2.0\nmlflow==3.0\n",
        images: pd.DataFrame | None = None,
        measured: bool = True,
    ) -> str:
        """Register a version with a run; with `measured` as if its evidence had been measured."""
        self.made += 1
        found = dice if isinstance(dice, Evaluation) else evaluation(scores(dice))
        folder = self.folder / f"model {self.made}"
        inner = folder / VERSION_FOLDER
        inner.mkdir(parents=True)
        (inner / "model.onnx").write_bytes(f"not a network: {self.made}".encode())
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "requirements.txt").write_text(requirements)
        (folder / "python_env.yaml").write_text("python: 3.11.7\n")
        found.write(inner)
        if images is not None:
            images.to_parquet(inner / "manifest.parquet", index=False)
        digest = write_digests(folder)
        run = self._run(params or {"width": "8", "seed": "0"}, splits, found)
        model = self.client.create_logged_model(self.experiment, name="model")
        self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        tags = {"dataset_fingerprint": fingerprint, "version_digest": digest, "git_commit": COMMIT}
        made = self.client.create_model_version(NAME, f"models:/{model.model_id}", run, tags=tags)
        if measured:
            self.plant(digest, found)
            self.plant(digest, lineage(found))
            for other, theirs in self.tested.items():
                self.plant(digest, overlap(found, theirs), beside=other)
                self.plant(other, overlap(theirs, found), beside=digest)
            self.tested[digest] = found
        return str(made.version)

    def plant(self, digest: str, document: Evaluation | Document, beside: str = "") -> None:
        """Keep a document as if it had been measured."""
        kept = Measured(
            version_digest=digest,
            kind=SCORES if isinstance(document, Evaluation) else document.kind,
            content=document.model_dump_json(),
            measured_by="grace",
            measured_at=datetime(2026, 1, 1 + self.made, tzinfo=UTC),
            fingerprint=str(getattr(document, "fingerprint", "")),
            champion_digest=beside,
        )
        keep(self.engine, kept)

    def digest(self, version: str) -> str:
        return str(self.client.get_model_version(NAME, version).tags["version_digest"])

    def promote(self, version: str, reason: str = "why not", override: bool = False) -> None:
        actor = GRACE if override else ADA
        self.life.promote(NAME, version, "Production", actor, reason, override)

    def _run(self, params: Mapping[str, str], splits: Mapping[str, int], measured: Evaluation) -> str:
        tags = {
            "mlflow.source.git.commit": COMMIT,
            "git_working_tree": "clean",
            "mlflow.user": "ada",
            "data_set": '{"data": "/nowhere/nuclei"}',
        }
        run = self.client.create_run(self.experiment, tags=tags, run_name=f"run {self.made}")
        run_id = str(run.info.run_id)
        for name, value in params.items():
            self.client.log_param(run_id, name, value)
        for metric, interval in measured.overall.items():
            for suffix, value in (("", interval.mean), ("_low", interval.low), ("_high", interval.high)):
                self.client.log_metric(run_id, f"test_{metric}{suffix}", value)
        inputs = []
        for split, rows in splits.items():
            profile = json.dumps({"num_rows": rows, "num_elements": 3 * rows})
            data = Dataset("nuclei", f"digest of {split} {rows}", "local", "{}", profile=profile)
            inputs.append(DatasetInput(data, [InputTag("mlflow.data.context", split)]))
        self.client.log_inputs(run_id, inputs)
        self.client.set_terminated(run_id)
        return run_id


def make_tables(folder: Path) -> Path:
    """MLflow's tables, which it takes seconds to make: one file to copy from."""
    return with_tables(folder) / "mlflow.db"


def make_shelf(folder: Path, tables: Path) -> ReportShelf:
    """A shelf with nothing on it."""
    shutil.copy(tables, folder / "mlflow.db")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("reports", artifact_location=str(folder / "artifacts"))
    client.create_registered_model(NAME)
    return ReportShelf(client, open_database(f"sqlite:///{folder / 'records.db'}"), folder, experiment)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture
def shelf(tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch) -> ReportShelf:
    # MLflow's store resolves `models:/…` with the environment's server.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return make_shelf(tmp_path, tables)

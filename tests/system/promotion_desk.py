"""A desk to promote from: one model on the session's server, with its own records and home."""

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_versions import evaluation, register, scores
from sqlalchemy import Engine

from records import audit
from records.database import open_database
from registry.decisions import utc_now
from registry.evidence import VERSION_FOLDER, Evaluation
from registry.promotion import archive, promote, rollback, status
from registry.settings import RegistrySettings

ROOT = Path(__file__).parents[2]


@dataclass
class Desk:
    """One model of its own on the session's server, with its own records and home."""

    client: MlflowClient
    engine: Engine
    name: str
    folder: Path
    settings: RegistrySettings
    made: int = 0

    def version(self, dice: float | None = 0.9, fingerprint: str = "sha256:a", key: Path | None = None) -> str:
        return self.measured(None if dice is None else evaluation(scores(dice), fingerprint), key)

    def measured(self, measured: Evaluation | None, key: Path | None = None) -> str:
        self.made += 1
        return register(self.client, self.name, self.folder / f"model {self.made}", measured, key)

    def promote(self, version: str, stage: str = "Production") -> list[str]:
        change = promote(self.client, self.engine, self.name, version, stage, "ada", "why not", utc_now, self.settings)
        return change.notices

    def rollback(self, version: str | None = None) -> str:
        return rollback(self.client, self.engine, self.name, "ada", "", utc_now, self.settings, version).version

    def archive(self, version: str) -> None:
        archive(self.client, self.engine, self.name, version, "ada", "bad", utc_now, self.settings)

    def click(self, version: str, stage: str) -> None:
        """What the UI does, with its check box off."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.client.transition_model_version_stage(self.name, version, stage)

    def stages(self) -> dict[str, str]:
        found = status(self.client, self.engine, self.name).state
        return {version: row.stage for version, row in found.versions.items()}

    def aliases(self) -> dict[str, str]:
        return dict(status(self.client, self.engine, self.name).state.aliases)

    def rows(self) -> list[tuple[str, str, str | None, str | None]]:
        return [
            (row.action, row.version, row.from_stage, row.to_stage) for row in audit.history(self.engine, self.name)
        ]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "registry", *words],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "MLFLOW_TRACKING_URI": self.client.tracking_uri,
            "RESUNET_HOME": str(self.settings.home),
            "RESUNET_DATABASE": "",
        }


@pytest.fixture
def desk(tracking_uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> Desk:
    home = tmp_path / "home"
    home.mkdir()
    return Desk(
        MlflowClient(tracking_uri=tracking_uri),
        open_database(f"sqlite:///{home / 'records.db'}"),
        request.node.name,
        tmp_path,
        RegistrySettings(home=home),
    )


def alter(desk: Desk, version: str) -> None:
    """Overwrite the serving file in the artifact store, as whoever reaches a plain server can."""
    model_id = desk.client.get_model_version(desk.name, version).source.removeprefix("models:/")
    changed = desk.folder / "changed"
    (changed / VERSION_FOLDER).mkdir(parents=True, exist_ok=True)
    (changed / VERSION_FOLDER / "model.onnx").write_bytes(b"something else")
    desk.client.log_model_artifacts(model_id, str(changed))

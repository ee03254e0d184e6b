"""A desk to promote from: one model on the session's server, with its own records and home."""

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gate_evidence import overlap
from mlflow import MlflowClient
from small_versions import evaluation, lineage, register, scores
from sqlalchemy import Engine

from records import audit
from records.database import open_database
from records.evidence import Measured, keep
from registry.changes import Change, Status
from registry.decisions import Clock, utc_now
from registry.evidence import VERSION_FOLDER, Evaluation, Lineage, Overlap
from registry.evidence.documents import SCORES
from registry.lifecycle import Lifecycle
from registry.people import Actor
from registry.policy import load_policy
from registry.settings import RegistrySettings
from registry.shelf import ClientShelf

Planted = Evaluation | Lineage | Overlap
ROOT = Path(__file__).parents[2]
ADA = Actor("ada")
POLICY = """
format: 1
stages:
  Staging: {intact: , evaluated: , signed: }
  Production: {intact: , evaluated: , floor: {dice: 0.7}, champion: {margin: 0.01}, signed: }
"""


@dataclass
class Desk:
    """One model of its own on the session's server, with its own records and home."""

    client: MlflowClient
    engine: Engine
    name: str
    folder: Path
    settings: RegistrySettings
    made: int = 0
    clock: Clock = utc_now
    planted: list[tuple[str, Planted, str]] = field(default_factory=list)
    tested: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def life(self) -> Lifecycle:
        policy = load_policy(self.settings.policy)
        return Lifecycle(self.engine, ClientShelf(self.client), policy, self.settings, self.clock)

    def version(self, dice: float | None = 0.9, fingerprint: str = "sha256:a", key: Path | None = None) -> str:
        return self.measured(None if dice is None else evaluation(scores(dice), fingerprint), key)

    def measured(self, measured: Evaluation | None, key: Path | None = None) -> str:
        """Register a version with this evaluation, and plant what measuring it would find."""
        self.made += 1
        version = register(self.client, self.name, self.folder / f"model {self.made}", measured, key)
        if measured is not None:
            self.plant(version, measured)
            self.plant(version, lineage(measured))
            for other, theirs in self.tested.items():
                self.plant(version, overlap(measured, theirs), beside=other)
                self.plant(other, overlap(theirs, measured), beside=version)
            self.tested[version] = measured
        return version

    def digest(self, version: str) -> str:
        return self.client.get_model_version(self.name, version).tags["version_digest"]

    def plant(self, version: str, document: Planted, beside: str = "") -> None:
        """Keep a document as if it had been measured of a version, perhaps beside another one that was live."""
        kind = SCORES if isinstance(document, Evaluation) else document.kind
        planted = Measured(
            version_digest=self.digest(version),
            kind=kind,
            content=document.model_dump_json(),
            measured_by="grace",
            measured_at=datetime(2026, 1, 1, tzinfo=UTC),
            fingerprint=document.fingerprint,
            champion_digest=beside and self.digest(beside),
        )
        keep(self.engine, planted)
        self.planted.append((version, document, beside))

    def other_records(self, path: Path) -> None:
        """Go on with records that know of no decision, and of the same evidence."""
        self.engine = open_database(f"sqlite:///{path}")
        for version, document, beside in tuple(self.planted):
            self.plant(version, document, beside)

    def promote(self, version: str, stage: str = "Production") -> list[str]:
        return self.change(version, stage).notices

    def change(self, version: str, stage: str = "Production") -> Change:
        return self.life.promote(self.name, version, stage, ADA, "why not")

    def rollback(self, version: str | None = None) -> str:
        return self.life.rollback(self.name, ADA, "", version).version

    def archive(self, version: str) -> None:
        self.life.archive(self.name, version, ADA, "bad")

    def click(self, version: str, stage: str) -> None:
        """What the UI does, with its check box off."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.client.transition_model_version_stage(self.name, version, stage)

    def status(self) -> Status:
        return self.life.status(self.name)

    def stages(self) -> dict[str, str]:
        return {version: row.stage for version, row in self.status().state.versions.items()}

    def aliases(self) -> dict[str, str]:
        return dict(self.status().state.aliases)

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
            "RESUNET_POLICY": str(self.settings.policy),
            "RESUNET_DATABASE": "",
        }


@pytest.fixture
def desk(tracking_uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> Desk:
    home = tmp_path / "home"
    home.mkdir()
    (home / "policy.yaml").write_text(POLICY)
    return Desk(
        MlflowClient(tracking_uri=tracking_uri),
        open_database(f"sqlite:///{home / 'records.db'}"),
        request.node.name,
        tmp_path,
        RegistrySettings(home=home, policy=home / "policy.yaml"),
    )


def alter(desk: Desk, version: str) -> None:
    """Overwrite the serving file in the artifact store, as whoever reaches a plain server can."""
    model_id = desk.client.get_model_version(desk.name, version).source.removeprefix("models:/")
    changed = desk.folder / "changed"
    (changed / VERSION_FOLDER).mkdir(parents=True, exist_ok=True)
    (changed / VERSION_FOLDER / "model.onnx").write_bytes(b"something else")
    desk.client.log_model_artifacts(model_id, str(changed))

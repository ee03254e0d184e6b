"""A first version in Production, live answers with kept images and labels, and the commands that a person types."""

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray
from records_rows import prediction
from sqlalchemy import select
from typer.testing import CliRunner

from monitoring.cli import app
from monitoring.jobs.commands import Commands
from monitoring.jobs.job import Ran
from monitoring.jobs.table import Reporting, jobs_of
from monitoring.jobs.turns import Turns
from pipelines.data.synthetic import Knobs, generate
from records.inference import InferenceLog
from records.labels import Label, Source
from records.log_database import open_log
from records.watch.jobs import database_time
from records.watch.outbox import alert_messages
from records.watch.reports import WindowReport, add_report
from registry.versions import stage_calls
from resunet.images import read_mask
from resunet.masks import to_rle

GATES = """
format: 1
stages:
  Staging: {intact: , evaluated: }
  Production: {intact: , evaluated: , floor: {dice: %s}}
"""
KNOBS = Knobs(stain="fluorescence", size=(64, 96))


@dataclass
class Scene:
    """A home, its log, a data set, a model on the session's server, and live images."""

    folder: Path
    uri: str
    model: str
    answered: int = 0
    live: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def log(self) -> str:
        return f"sqlite:///{self.home / 'records.db'}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
        return kept | {
            "MLFLOW_TRACKING_URI": self.uri,
            "RESUNET_HOME": str(self.home),
            "RESUNET_INFERENCE_LOG": self.log,
            "RESUNET_POLICY": str(self.folder / "gates.yaml"),
            "RESUNET_MONITORING_ALERTS": str(self.folder / "alerts.yaml"),
            "RESUNET_NOTIFY": "json://127.0.0.1:9/",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "160",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        }

    def gates(self, floor: float = 0.01) -> None:
        """What a version has to show for Production."""
        (self.folder / "gates.yaml").write_text(GATES % floor)

    def policies(self, *actions: str, name: str = "input-drift") -> None:
        """One policy on drift, with an alert and these actions."""
        lines = "".join(f"      - {action}\n" for action in ("alert: {}", *actions))
        text = f"format: 1\npolicies:\n  - name: {name}\n    model: {self.model}\n    when: {{verdict: drift}}\n"
        (self.folder / "alerts.yaml").write_text(f"{text}    actions:\n{lines}")

    def typed(self, *words: str, code: int = 0) -> str:
        """Type `python -m monitoring …` in this process, in the scene's environment; what it printed comes back."""
        ran = CliRunner().invoke(app, list(words))
        assert ran.exit_code == code, (words, ran.output, ran.exception)
        return ran.output

    def drifted(self, number: int) -> None:
        """A report on yesterday's images says drift."""
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        day = today - timedelta(days=10 - number)
        report = WindowReport(
            self.model, "1", "abc", day - timedelta(days=1), day, ("production",), "drift", 0.5, 200, ("brightness",),
            "drift: brightness moved", None, None, None, None, day + timedelta(minutes=5),
        )  # fmt: skip
        engine = open_log(self.log)
        add_report(engine, report)
        engine.dispose()

    def retrain_turn(self) -> Ran:
        """The schedule looks at its job that carries out what alerts have ordered."""
        minutes = timedelta(minutes=10)
        jobs = jobs_of(Reporting(model=self.model), known=(), home=self.home, limit=minutes, retrain=minutes)
        [job] = [replace(job, every=timedelta(0)) for job in jobs if job.name == f"retrain {self.model}"]
        engine = open_log(self.log)
        try:
            ran = Turns(Commands().run, database_time, "one", minutes).turn(engine, job).ran
        finally:
            engine.dispose()
        assert ran is not None
        return ran

    def told(self) -> list[tuple[str, str]]:
        """Subject and body of all messages so far."""
        engine = open_log(self.log)
        with engine.connect() as connection:
            table = alert_messages.c
            rows = connection.execute(select(table.subject, table.body).order_by(table.id)).all()
        engine.dispose()
        return [(row.subject, row.body) for row in rows]

    def manifest(self, version: str) -> pd.DataFrame:
        """What a version was trained, validated and tested on."""
        uri = f"models:/{self.model}/{version}/artifacts/version/manifest.parquet"
        return pd.read_parquet(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=self.uri))

    def stages(self) -> dict[str, str]:
        return {
            str(one.version): str(one.current_stage)
            for one in self.client.search_model_versions(f"name='{self.model}'")
        }

    def answer(self, count: int, source: Source, knobs: Knobs = KNOBS, spoilt: int = 0) -> list[str]:
        """Answers of version 1 to new images that are kept, with labels that are kept too; request ids come back.

        Args:
            spoilt: of the labels, how many have nothing to do with their image.
        """
        folder = self.folder / f"live {self.answered}"
        generate(folder, count, 100 + self.answered, knobs)
        self.answered += count
        rows, truths = [], {}
        now = datetime.now(UTC)
        for number, path in enumerate(sorted((folder / "images").glob("*.png"))):
            name = f"{source} {self.answered} {number}"
            truth = read_mask(folder / "masks" / path.name)
            # The model finds all but the upper rows.
            guess = truth > 0
            guess[:8] = False
            self.live[name] = truth
            truths[name] = np.flipud(255 - truth) if number < spoilt else truth
            image = path.read_bytes()
            rows.append(
                prediction(
                    name,
                    event_time=now - timedelta(minutes=count - number),
                    model_name=self.model,
                    model_version="1",
                    mask_rle=to_rle(guess),
                    image=image,
                    image_digest=f"sha256:{name}",
                    client="lab-7",
                    slice="ward",
                    width=truth.shape[1],
                    height=truth.shape[0],
                )
            )
        log = InferenceLog.open(self.log, self.home, keep_images=1.0, keep_labels=True)
        log.append(rows)
        log.drain_now()
        for name, truth in truths.items():
            log.label(Label(name, self.model, source, truth=np.asarray(truth, np.uint8)))
        assert log.close(deadline_s=20)
        return list(truths)


def make_scene(folder: Path, uri: str, model: str, first: ModelVersion) -> Scene:
    """A home beside a model whose version 1, which was trained for others already, is in Production."""
    scene = Scene(folder, uri, model)
    scene.home.mkdir(parents=True)
    open_log(scene.log).dispose()
    scene.gates()
    scene.client.create_registered_model(model)
    made = scene.client.create_model_version(
        model,
        source=first.source,
        run_id=first.run_id,
        tags=dict(first.tags),
        model_id=first.source.removeprefix("models:/"),
    )
    with stage_calls():
        scene.client.transition_model_version_stage(model, made.version, "Production")
    return scene

"""The MLflow run that a training logs to, and the one that `mlflow run` made before it."""

import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pipelines.runs.tracked_run import RESUMED_RUN_TAG

PROJECT = Path(__file__).resolve().parents[2]
_GO_ON = """
import sys
from pipelines.runs.tracked_run import tracked_run
with tracked_run("anywhere", name="it", lost=str, resume=sys.argv[1]) as run:
    assert run == sys.argv[1]
"""


def test_the_run_that_mlflow_made_for_a_resumed_training_says_where_that_is(
    tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "go_on.py").write_text(_GO_ON)
    (tmp_path / "MLproject").write_text(
        "name: it\nentry_points:\n  train:\n    parameters: {resume: string}\n"
        f"    command: '{sys.executable} go_on.py {{resume}}'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    mlflow.set_tracking_uri(tracking_uri)
    client = MlflowClient()
    began = client.create_run(client.create_experiment("began by test_tracked_run")).info.run_id
    made = mlflow.projects.run(str(tmp_path), "train", parameters={"resume": began}, env_manager="local").run_id
    run, resumed = client.get_run(made), client.get_run(began)
    assert made != began and run.info.status == resumed.info.status == "FINISHED"
    assert run.data.tags[RESUMED_RUN_TAG] == began
    assert f"go on with run {began}" in run.data.tags["mlflow.note.content"]
    assert RESUMED_RUN_TAG not in resumed.data.tags and "mlflow.note.content" not in resumed.data.tags

"""A run says what it was computed on and with, and a resumed one whether that is another than it was."""

import io
import platform
from importlib.metadata import version
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console

from pipelines.pins import project_pins
from pipelines.runs.tracking import RESUMED_TAG, log_environment
from pipelines.runs.train import _tell_of_another_environment
from pipelines.training.environment import ENVIRONMENT_FILE, Environment, installed


def test_an_environment_names_versions_processor_and_threads() -> None:
    tags = Environment.here().tags()
    assert tags["environment.python"] == platform.python_version()
    assert tags["environment.torch"] == version("torch")
    assert tags["environment.lightning_fabric"] == version("lightning-fabric")
    assert tags["environment.onnxruntime"] == version("onnxruntime")
    assert tags["environment.threads"] == str(torch.get_num_threads())
    assert len(tags["environment.processor"]) > 3
    assert all(value in str(Environment.here()) for value in tags.values())


def test_the_installed_version_of_every_pin_is_listed() -> None:
    lines = installed([*project_pins(), "no-such-package==1; python_version > '3'"]).splitlines()
    assert {f"torch=={version('torch')}", f"numpy=={version('numpy')}", f"mlflow=={version('mlflow')}"} <= set(lines)
    assert lines[-1] == "# no-such-package is not installed" and len(lines) == len(project_pins()) + 2


def test_what_changed_since_a_run_began_is_told_by_name() -> None:
    here = Environment.here()
    assert here.since(here.tags()) == "" and here.since({"environment.resumed": "threads 1, now 2"}) == ""
    before = here.tags() | {"environment.threads": "99", "environment.torch": "1.0"}
    assert here.since(before) == f"torch 1.0, now {here.torch}, threads 99, now {here.threads}"


def test_a_run_of_a_release_that_computed_a_step_otherwise_is_told_apart() -> None:
    here = Environment.here()
    before = {name: value for name, value in here.tags().items() if name != "environment.arithmetic"}
    assert here.since(before) == f"arithmetic 1, now {here.arithmetic}"


def test_a_run_that_goes_on_with_other_threads_says_so_and_one_with_the_same_says_nothing(
    tmp_path: Path, mlflow_as_before: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    client = MlflowClient()
    experiment = client.create_experiment("x", artifact_location=(tmp_path / "artifacts").as_uri())
    shown = io.StringIO()
    with mlflow.start_run(experiment_id=experiment) as run:
        log_environment()
        assert client.get_run(run.info.run_id).data.tags.items() >= Environment.here().tags().items()
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == [ENVIRONMENT_FILE]
        _tell_of_another_environment(run.info.run_id, Console(file=shown))
        assert shown.getvalue() == ""
        before = torch.get_num_threads()
        monkeypatch.setattr(torch, "get_num_threads", lambda: before + 1)
        _tell_of_another_environment(run.info.run_id, Console(file=shown, width=300))
    told = f"threads {before}, now {before + 1}"
    assert f"resumed with {told}: the weights may differ in the last bits" in shown.getvalue()
    assert client.get_run(run.info.run_id).data.tags[RESUMED_TAG] == told

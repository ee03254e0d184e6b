"""A training is one version, also where it is cut off right after it was registered, or never hears that it was."""

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import urllib3
from dataset_factory import make
from mlflow import MlflowClient
from mlflow_state import mlflow_state_kept
from rich.console import Console
from version_factory import write_version

from pipelines.runs import register, train
from pipelines.runs.train import TrainOptions, checkpoint_of
from pipelines.training.settings import FitSettings
from registry.evidence import Interval
from serving.version import VersionSpec

Dice = Interval(mean=0.9, low=0.8, high=1.0)


@pytest.fixture(autouse=True)
def server(tracking_uri: str) -> Iterator[MlflowClient]:
    with mlflow_state_kept():
        mlflow.set_tracking_uri(tracking_uri)
        yield MlflowClient()


def numbers(client: MlflowClient, name: str) -> list[str]:
    return [str(version.version) for version in client.search_model_versions(f"name = '{name}'")]


def test_a_version_whose_answer_is_lost_is_registered_once(
    server: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, lost = urllib3.connectionpool.HTTPConnectionPool, list[str]()
    answer = pool._make_request

    def losing(self: Any, connection: Any, method: str, url: str, **more: Any) -> Any:
        response = answer(self, connection, method, url, **more)
        if url.endswith("model-versions/create") and not lost:
            lost.append(url)
            raise urllib3.exceptions.ProtocolError("the answer is lost")
        return response

    write_version(tmp_path / "version")
    monkeypatch.setattr(register, "_LONGEST_WAIT_S", 0.01)
    with mlflow.start_run() as run:
        logged = register.log_version(tmp_path / "version", ["numpy==2.4.6"])
        monkeypatch.setattr(pool, "_make_request", losing)
        assert register.register_version(server, logged, "lost answer", run.info.run_id, {"dice": "0.9"}) == "1"
    assert lost and numbers(server, "lost answer") == ["1"]
    assert server.get_model_version("lost answer", "1").tags == {"dice": "0.9"}


def test_a_training_that_ended_while_it_registered_is_resumed_as_the_version_that_it_has(
    server: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks are not what this is about: fitted and built is what the factory makes."""
    runs: list[str] = []

    def fitted(*words: Any, checkpoint: Path, **_: Any) -> None:
        runs.append(words[-1])
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()

    def built(directory: Path, *_: Any) -> SimpleNamespace:
        write_version(directory)
        measured = SimpleNamespace(overall={"dice": Dice}, images=3)
        return SimpleNamespace(directory=directory, spec=VersionSpec.read(directory), evaluation=measured)

    def killed(*words: Any) -> str:
        register.register_version(*words)
        raise KeyboardInterrupt

    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(train, "fit_with_progress", fitted)
    monkeypatch.setattr(train, "build_version", built)
    monkeypatch.setattr(train, "log_result", lambda *_: None)
    monkeypatch.setattr(train, "register_version", killed)
    options = {"data": str(make(tmp_path / "data", 24)), "model_name": "cut off", "fit": FitSettings(epochs=1)}
    with pytest.raises(KeyboardInterrupt):
        train.train(TrainOptions(**options), Console(quiet=True))
    (run,) = runs
    assert checkpoint_of(run).exists() and numbers(server, "cut off") == ["1"]

    monkeypatch.setattr(train, "register_version", register.register_version)
    told = io.StringIO()
    resumed = train.train(TrainOptions(**options, resume=run), Console(file=told, width=200))
    assert resumed is not None and (resumed.version, resumed.run_id) == ("1", run)
    assert numbers(server, "cut off") == ["1"] and runs == [run]
    assert not checkpoint_of(run).exists() and server.get_run(run).info.status == "FINISHED"
    assert set(server.get_model_version("cut off", "1").tags) >= {"dice", "version_digest", "git_commit"}
    assert f"run {run} is registered already, as cut off version 1" in told.getvalue()

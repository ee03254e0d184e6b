"""`retrain` as it is typed: what `mlflow run` passes on, and mistakes that are told before any work."""

import sys
from pathlib import Path

import pytest
import typer
import yaml
from mlflow import MlflowClient
from mlflow_state import mlflow_state_kept
from version_factory import register_version, write_version

from pipelines.cli import app
from records.console import run
from records.home_lock import BUSY_EXIT, alone
from records.log_database import open_log
from registry.versions import stage_calls

PROJECT = Path(__file__).resolve().parents[2]


def test_mlflow_run_has_the_parameters_and_defaults_of_the_command() -> None:
    entry = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]["retrain"]
    command = typer.main.get_command(app)
    options = {str(one.name): one for one in command.commands["retrain"].params}  # type: ignore[attr-defined]
    # Flags, and what is for programs.
    assert set(entry["parameters"]) == set(options) - {"anyway", "promote", "result", "by", "version", "order"}
    for name, declared in entry["parameters"].items():
        assert declared["default"] == options[name].default, name
        assert f"--{name.replace('_', '-')} {{{name}}}" in entry["command"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", f"sqlite:///{tmp_path}/log.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    open_log(f"sqlite:///{tmp_path}/log.db").dispose()
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--version", "2"), 2, "there is no registered model 'resunet'"),
        (("--version", "2", "--max-steps", "9", "--start", "scratch"), 2, "leave --max-steps, --start out"),
        ((), 0, "nothing was released for resunet since the last retraining"),
        (("--start", "zero"), 2, "start: 'zero' is neither production nor scratch"),
        (("--anyway",), 2, "there is no registered model 'resunet'"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(
    words: tuple[str, ...],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["pipelines", "retrain", *words])
    with pytest.raises(SystemExit) as ended:
        run(app)
    printed = capsys.readouterr()
    assert (ended.value.code or 0) == code and said in " ".join((printed.out + printed.err).split())


def test_while_another_one_is_under_way_it_says_so_by_its_exit_code(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pipelines", "retrain", "--anyway"])
    with alone(home / "retrain.lock", ""), pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == BUSY_EXIT == 4
    assert "another retraining is under way" in capsys.readouterr().err


def test_a_version_in_production_whose_files_were_changed_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_version(tmp_path / "version")
    with mlflow_state_kept():
        uri, _ = register_version(tmp_path / "version", tmp_path / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with stage_calls():
        MlflowClient(uri).transition_model_version_stage("resunet", "1", "Production")
    (spec,) = (tmp_path / "store").rglob("version.json")
    spec.write_text(f"{spec.read_text()}\n")
    monkeypatch.setattr(sys, "argv", ["pipelines", "retrain", "--anyway", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "version 1 of resunet: " in told and "changed: 'artifacts/version/version.json'" in told

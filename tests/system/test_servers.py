"""The servers that the platform starts: reached directly, and missed when they are gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow_server import free_port, tracking_server

from pipelines.servers import GUARDED
from registry.policy import load_policy
from registry.remote import RemoteLifecycle

PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 120


def test_a_server_of_this_machine_is_reached_past_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("pipelines.servers.START_SECONDS", 60.0)
    with tracking_server(tmp_path / "a folder") as url:
        assert url.startswith("http://127.0.0.1:")


def test_the_command_ends_with_an_error_when_its_server_dies(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "server", "--port", str(free_port())],
        cwd=PROJECT,
        env={**os.environ, "RESUNET_HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "MLflow is at" in process.stdout.readline()
        started = time.monotonic()
        for child in psutil.Process(process.pid).children():
            child.kill()
        _, told = process.communicate(timeout=START_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 2
    assert "mlflow server ended by itself" in told and "server.log ends:" in told
    assert "Traceback" not in told.split("ends:")[0]
    assert time.monotonic() - started < 60


POLICY = "format: 1\nstages: {Production: {intact: , floor: {dice: 0.987}}}\n"


def test_a_guarded_server_has_the_rules_and_records_that_are_named_where_the_command_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESUNET_POLICY", "policy.yaml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///not-this-one.db")
    with tracking_server(Path("server"), app=GUARDED, environment={"RESUNET_HOME": "of the server"}) as url:
        said = RemoteLifecycle(url).server()
        assert said is not None and said.policy == load_policy(Path("policy.yaml")).digest
        assert not said.authenticated
    assert (tmp_path / "of the server" / "records.db").is_file()
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"policy.yaml", "server", "of the server"}, "it left something where the command was typed"


def test_a_plain_server_has_no_gates(tmp_path: Path) -> None:
    with tracking_server(tmp_path) as url:
        assert RemoteLifecycle(url).server() is None
        assert httpx.get(f"{url}/api/lifecycle/policy").status_code == 404


def test_a_mistake_in_the_policy_is_told_before_a_server_is_started(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("dice", "dise"))
    for command in (("server", "--port", str(free_port())), ("demo", "--no-keep-open")):
        ended = subprocess.run(
            [sys.executable, "-m", "pipelines", *command],
            cwd=tmp_path,
            env={**os.environ, "RESUNET_HOME": "home", "RESUNET_POLICY": "policy.yaml"},
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert ended.returncode == 2 and "policy.yaml, line 2: stages.Production.floor.dise" in ended.stderr
        assert not (tmp_path / "home" / "mlflow").exists()

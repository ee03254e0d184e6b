"""The servers that the platform starts: reached directly, and missed when they are gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mlflow_server import free_port, tracking_server

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

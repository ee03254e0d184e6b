"""The schedule as it is run: real reports on a clock, and servers that are late, hung or gone."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pandas as pd
import psutil
import pytest
from drift_scene import NOON, Scene, live, post
from waiting import until

from monitoring.schedule import single

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
T = TypeVar("T")


def test_the_schedule_outlives_a_database_that_comes_late_and_refuses_a_second_one(scene: Scene) -> None:
    database = Path(scene.log.removeprefix("sqlite:///"))
    away = database.with_suffix(".away")
    post(scene, live(13, 60, brightness=3.0), version="1")
    with sqlite3.connect(database) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    database.rename(away)
    window = f"{(pd.Timestamp.now('UTC') - NOON).days + 2}d"
    command = [sys.executable, "-m", "monitoring", "schedule", "--every", "1s", "--window", window]
    environment = {**os.environ, **scene.environment, "PYTHONPATH": str(ROOT)}
    log = scene.home / "schedule.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=scene.home, stderr=output, stdout=output, start_new_session=True
        )
    try:
        _wait(log, "ERROR no verdict, exit code 2: error: the SQLite database", process)
        second = subprocess.run(
            command, env=environment, cwd=scene.home, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert second.returncode == 2
        assert "a schedule for 'resunet' runs already in RESUNET_HOME" in second.stderr
        away.rename(database)
        _wait(log, "WARNING drift: 1 of 22 descriptors moved, most of all brightness", process)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert log.read_text().rstrip().endswith("INFO stopped")
    home = scene.client.get_experiment_by_name("resunet-monitoring")
    assert home is not None
    assert not scene.client.search_runs([home.experiment_id], "attributes.status = 'RUNNING'")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A tracking server that takes requests and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_report_that_hangs_is_stopped_at_its_own_limit(tmp_path: Path, silent_server: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "monitoring", "schedule", "--once", "--every", "1d", "--limit", "4s"],
        cwd=ROOT,
        env={**os.environ, "RESUNET_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": silent_server},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert "it gave no answer in 4 s and was stopped" in ran.stderr


def test_a_report_does_not_outlive_a_schedule_that_is_killed(tmp_path: Path, silent_server: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "monitoring", "schedule"],
        cwd=ROOT,
        env={**os.environ, "RESUNET_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": silent_server},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        found = until(lambda: [child for child in psutil.Process(process.pid).children() if _connected(child)])
    finally:
        process.kill()
        process.wait()
    until(lambda: not found[0].is_running())
    with single(tmp_path, "resunet"):
        pass


def _connected(process: psutil.Process) -> bool:
    """Whether a report has got as far as to ask the tracking server."""
    return bool(process.net_connections())


def test_help_comes_without_loading_mlflow_or_evidently() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from monitoring.cli import app\n"
        "for name in ('report', 'schedule'):\n"
        "    shown = CliRunner().invoke(app, [name, '--help'])\n"
        "    assert shown.exit_code == 0 and 'exits 0' in shown.output.replace('Exit code: 0', 'exits 0')\n"
        "assert not {'mlflow', 'evidently', 'pandas', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=DEADLINE_S)


def _wait(log: Path, words: str, process: "subprocess.Popen[bytes]") -> None:
    until(lambda: process.poll() is not None or words in log.read_text(), log.read_text, DEADLINE_S, every=0.1)
    assert words in log.read_text(), log.read_text()

"""The schedule as it is run: real reports on a clock, and servers that are late, hung or gone."""

import json
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
from drift_scene import Scene, live, post
from waiting import until

from monitoring.course import COURSE_TAG
from monitoring.schedule import single
from records.log_database import open_log

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
T = TypeVar("T")


def test_the_schedule_outlives_a_database_that_comes_late_and_refuses_a_second_one(scene: Scene) -> None:
    database = Path(scene.log.removeprefix("sqlite:///"))
    away = database.with_suffix(".away")
    # Yesterday's window is the last one that is closed, if midnight was some minutes ago; else the one before.
    yesterday = pd.Timestamp.now("UTC").floor("D") - pd.Timedelta("10h")
    for end in (yesterday, yesterday - pd.Timedelta("1d")):
        post(scene, live(13, 60, brightness=3.0), version="1", end=end.to_pydatetime())
    with sqlite3.connect(database) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    database.rename(away)
    command = [sys.executable, "-m", "monitoring", "schedule"]
    environment = {**os.environ, **scene.environment, "PYTHONPATH": str(ROOT)}
    log = scene.home / "schedule.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=scene.home, stderr=output, stdout=output, start_new_session=True
        )
    try:
        _wait(log, "ERROR the SQLite database", process)
        second = subprocess.run(
            command, env=environment, cwd=scene.home, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert second.returncode == 2
        assert "a schedule of 'resunet 24h' runs already in RESUNET_HOME" in second.stderr
        away.rename(database)
        _wait(log, "drift: 1 of 22 descriptors moved, most of all brightness", process)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    told = log.read_text()
    assert told.rstrip().endswith("INFO stopped")
    assert "the database answers again" in told and told.count("ERROR") == 1
    home = scene.client.get_experiment_by_name("resunet-monitoring")
    assert home is not None
    assert not scene.client.search_runs([home.experiment_id], "attributes.status = 'RUNNING'")
    runs = scene.client.search_runs([home.experiment_id])
    courses = {str(run.info.run_name): run for run in runs if COURSE_TAG in run.data.tags}
    assert [name for name in courses if "course of windows, 1d" in name] == [
        "resunet: course of windows, 1d, canary, production, shadow"
    ]
    windows = courses["resunet: course of windows, 1d, canary, production, shadow"]
    assert [point.value for point in scene.client.get_metric_history(windows.info.run_id, "rows")] == [60.0]


def test_a_window_is_reported_by_the_first_of_two_crons_and_too_few_rows_are_an_answer(scene: Scene) -> None:
    command = [sys.executable, "-m", "monitoring", "schedule", "--once"]
    environment = {**os.environ, **scene.environment, "PYTHONPATH": str(ROOT)}
    ran = [
        subprocess.run(command, env=environment, cwd=scene.home, capture_output=True, text=True, timeout=DEADLINE_S)
        for _ in range(2)
    ]
    assert [one.returncode for one in ran] == [2, 0]
    assert "INFO report resunet 24h, " in ran[0].stderr and ": too few rows: the window " in ran[0].stderr
    assert "nothing is due" in ran[1].stderr
    shown = subprocess.run(
        [sys.executable, "-m", "monitoring", "jobs", "--json"],
        env=environment,
        cwd=scene.home,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert shown.returncode == 0, shown.stderr
    report, *_ = [job for job in json.loads(shown.stdout) if job["name"] == "report resunet 24h"]
    assert (report["last_outcome"], report["failures"], report["trouble"]) == ("ok", 0, None)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A tracking server that takes requests and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_report_that_hangs_is_stopped_at_its_own_limit(tmp_path: Path, silent_server: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "monitoring", "schedule", "--once", "--limit", "4s"],
        cwd=ROOT,
        env=_environment(tmp_path, silent_server),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert "it gave no answer in 4 s and was stopped" in ran.stderr
    assert ran.returncode == 2


def test_a_report_does_not_outlive_a_schedule_that_is_killed(tmp_path: Path, silent_server: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "monitoring", "schedule"],
        cwd=ROOT,
        env=_environment(tmp_path, silent_server),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        found = until(lambda: [child for child in psutil.Process(process.pid).children() if _connected(child)])
    finally:
        process.kill()
        process.wait()
    until(lambda: not found[0].is_running())
    with single(tmp_path, "resunet 24h"):
        pass


def _environment(home: Path, server: str) -> dict[str, str]:
    log = f"sqlite:///{home / 'records.db'}"
    open_log(log).dispose()
    return {**os.environ, "RESUNET_HOME": str(home), "RESUNET_INFERENCE_LOG": log, "MLFLOW_TRACKING_URI": server}


def _connected(process: psutil.Process) -> bool:
    """Whether a report has got as far as to ask the tracking server."""
    return bool(process.net_connections())


def _wait(log: Path, words: str, process: "subprocess.Popen[bytes]") -> None:
    until(lambda: process.poll() is not None or words in log.read_text(), log.read_text, DEADLINE_S, every=0.1)
    assert words in log.read_text(), log.read_text()

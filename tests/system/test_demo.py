"""`python -m pipelines demo`: the whole path, and nothing left running behind it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_S = 420.0


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
    return kept | {"RESUNET_HOME": str(home), "COLUMNS": "160"}


def _processes_of(home: Path) -> list[psutil.Process]:
    """Every process whose command line or environment names this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) or process.environ().get("RESUNET_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _wait_until_gone(home: Path, seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (left := _processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_demo_goes_the_whole_path_and_sees_the_shift(tmp_path: Path) -> None:
    home = tmp_path / "a home"
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines", "demo", "--epochs", "20", "--no-keep-open"],
        cwd=PROJECT,
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    summary = ran.stdout[ran.stdout.index("What you have now") :]
    assert re.search(r"resunet 1, in Production", summary)
    dice = re.search(r"Dice on the test split\W+([0-9.]+)", summary)
    assert dice is not None and float(dice.group(1)) > 0.75
    assert re.search(r"normal images\W+no drift", summary)
    assert re.search(r"shifted images\W+drift", summary)
    for kind in ("normal", "shifted"):
        folder = home / "demo" / f"drift-{kind}"
        assert (folder / "evidently.html").stat().st_size > 10_000
        assert (folder / "drift.png").stat().st_size > 1_000
    assert not _wait_until_gone(home, 15)


def test_a_demo_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "demo", "--no-keep-open"],
        cwd=PROJECT,
        env=_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "train, evaluate" in line:
            break
    assert len(_processes_of(home)) >= 2
    process.send_signal(signal.SIGTERM)
    process.stdout.close()
    process.wait(60)
    assert not _wait_until_gone(home, 30)

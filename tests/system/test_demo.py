"""`python -m pipelines demo`: the whole path, and nothing left running behind it."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from rich.console import Console
from small_versions import evaluation, register, scores

from pipelines.demo import Steps, promote_in_demo
from registry.versions import read_model
from resunet.errors import ResunetError

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


def test_the_demo_goes_live_after_the_test_split_changed_and_not_with_a_worse_version(
    tracking_uri: str, tmp_path: Path
) -> None:
    client, name, shown = MlflowClient(tracking_uri=tracking_uri), "resunet of two demos", io.StringIO()
    variables = _environment(tmp_path) | {"MLFLOW_TRACKING_URI": tracking_uri}
    steps = Steps(variables, Console(file=shown, width=400))

    def run_again(dice: float, fingerprint: str) -> str | None:
        number = len(list(tmp_path.glob("model *")))
        measured = evaluation(scores(dice), fingerprint)
        promote_in_demo(steps, client, name, register(client, name, tmp_path / f"model {number}", measured))
        return read_model(client, name).live

    assert run_again(0.95, "sha256:a") == "1" and "archive" not in shown.getvalue()
    assert run_again(0.90, "sha256:b") == "2"
    assert "another test split" in shown.getvalue() and "The demo archives version 1" in shown.getvalue()
    with pytest.raises(ResunetError, match="promote to Production"):
        run_again(0.80, "sha256:b")
    assert read_model(client, name).live == "2"

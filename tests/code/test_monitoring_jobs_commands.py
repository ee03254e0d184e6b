"""Commands that a schedule runs: each a process of its own, ended when it has to be."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.jobs.commands import Commands
from monitoring.jobs.job import Task
from records.watch.leases import Lease

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0


def test_a_command_that_cannot_start_does_not_hang_a_schedule() -> None:
    commands = Commands(python=("/no/such/program",))
    with pytest.raises(FileNotFoundError):
        commands.run(Task("report", (), timedelta(minutes=1)), lambda: True)
    commands.stop(0)


def test_a_command_whose_lease_is_lost_is_stopped(tmp_path: Path) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text("import time\ntime.sleep(300)")
    commands = Commands(python=(sys.executable,))
    ran = commands.run(Task("report", (str(script),), timedelta(minutes=5)), lambda: False)
    assert ran.lost and not ran.answered and ran.code == -signal.SIGTERM


def test_a_command_knows_the_lease_that_it_runs_under(tmp_path: Path) -> None:
    script = tmp_path / "tells.py"
    script.write_text("import os\nprint(os.environ['RESUNET_JOB_LEASE'])")
    lease = Lease("report resunet 24h", "node1", 17)
    task = Task("report", (str(script),), timedelta(minutes=5), environment=lease.environment)
    assert Commands(python=(sys.executable,)).run(task, lambda: True).line == "17 report resunet 24h"


def test_any_command_can_be_tied_to_the_schedule(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import sys, time\nprint(sys.argv[1:], flush=True)\ntime.sleep(300)")
    command = [sys.executable, "-m", "monitoring.jobs.tied", "waits", "--yes"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "['--yes']\n"
        process.stdin.close()
        assert process.wait(DEADLINE_S) == -signal.SIGTERM

"""The inference log among several processes, some of which are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from records_rows import prediction, stored_ids
from waiting import until

from records.inference import InferenceLog

APPEND_FOR_EVER = """
import itertools, sys
from pathlib import Path
from records.inference import InferenceLog
from records_rows import prediction
log = InferenceLog.open(sys.argv[1], Path(sys.argv[2]), drain_interval_s=float(sys.argv[3]))
for number in itertools.count():
    log.append([prediction(f"{number:06}", mask_rle=None)])
    print(f"{number:06}", flush=True)
"""

APPEND_SOME = """
import sys
from pathlib import Path
from records.inference import InferenceLog
from records_rows import prediction
log = InferenceLog.open(sys.argv[1], Path(sys.argv[2]), drain_interval_s=0.001)
for number in range(150):
    log.append([prediction(f"{sys.argv[3]}-{number:03}")])
assert log.close(deadline_s=60)
"""

FILL_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from records.inference import InferenceLog
from records_rows import prediction
from resunet.errors import RecordsError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = InferenceLog.open(sys.argv[1], Path(sys.argv[2]), drain_interval_s=60)
log.append([prediction("before", mask_rle=None)])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
try:
    log.append([prediction("too long", mask_rle="x" * 10_000)])
except RecordsError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.append([prediction("after", mask_rle=None)])
assert log.close(deadline_s=60)
"""


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})


@pytest.mark.parametrize("drains", [False, True], ids=["spool only", "while draining"])
def test_a_killed_process_loses_nothing_that_was_appended(tmp_path: Path, drains: bool) -> None:
    url, home = f"sqlite:///{tmp_path}/records.db", tmp_path / "home"
    killed = start(APPEND_FOR_EVER, url, str(home), "0.001" if drains else "3600")
    assert killed.stdout is not None
    try:
        seen = [killed.stdout.readline().strip() for _ in range(150)]
    finally:
        killed.send_signal(signal.SIGKILL)
    seen += killed.stdout.read().split()
    killed.wait()

    log = InferenceLog.open(url, home, drain_interval_s=0.01)
    until(lambda: log.status().pending_bytes == 0)
    log.close()
    stored = stored_ids(url)
    assert stored == sorted(set(stored))
    # One more may have been written whose append had not yet returned.
    assert set(seen) <= set(stored) <= {*seen, f"{len(seen):06}"}
    assert not (home / "spool" / "rejected").exists()
    assert list((home / "spool").iterdir()) == []


def test_processes_share_a_home_and_a_new_database(tmp_path: Path) -> None:
    url, home = f"sqlite:///{tmp_path}/records.db", tmp_path / "home"
    running = [start(APPEND_SOME, url, str(home), name) for name in "ab"]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert stored_ids(url) == [f"{name}-{number:03}" for name in "ab" for number in range(150)]
    assert list((home / "spool").iterdir()) == []


def test_a_write_that_the_disk_refuses_is_told_and_leaves_no_torn_line(tmp_path: Path) -> None:
    url, home = f"sqlite:///{tmp_path}/records.db", tmp_path / "home"
    process = start(FILL_THE_DISK, url, str(home))
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "cannot be written" in told
    assert stored_ids(url) == ["after", "before"]
    assert not (home / "spool" / "rejected").exists()


def test_several_starters_adopt_a_dead_process_rows_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    dead = InferenceLog.open(f"sqlite:///{tmp_path}/no/such/folder.db", home)
    dead.append([prediction(f"{number:02}") for number in range(20)])
    dead.close(deadline_s=5)
    url = f"sqlite:///{tmp_path}/records.db"
    logs = [InferenceLog.open(url, home, drain_interval_s=0.001) for _ in range(4)]
    assert all(log.close(deadline_s=60) for log in logs)
    assert stored_ids(url) == [f"{number:02}" for number in range(20)]

"""Two schedules on one PostgreSQL database, each a process with a home of its own, as on two machines."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine
from waiting import until

from records.log_database import open_log
from records.watch.jobs import JobState, jobs_state
from records.watch.windows import windows_since

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0

# Reports on windows of a second, by a script.
DRIVER = """
import sys
from datetime import timedelta
from pathlib import Path
from monitoring.jobs.commands import Commands
from monitoring.jobs.job import Job, WindowsOf
from monitoring.jobs.reach import Reach
from monitoring.jobs.turns import Turns, holder_name
from monitoring.jobs.windows import Rules
from monitoring.schedule import run_schedule, single
from records.log_database import open_log
from records.watch.jobs import database_time
home, script, url, lease = Path(sys.argv[1]), *sys.argv[2:]
second = timedelta(seconds=1)
windows = WindowsOf("resunet", Rules.of(second, watermark=second), "1s", ("--stage", "Production"))
job = Job("report", ("monitoring.jobs.tied", script), second, 600 * second, windows=windows)
with single(home, "resunet") as lock:
    commands = Commands(lock)
    turns = Turns(commands.run, database_time, holder_name(), timedelta(seconds=float(lease)))
    sys.exit(run_schedule([job], turns, commands, Reach(lambda: open_log(url)), grace=10 * second))
"""

REPORT = """
import os, pathlib, sys, time
diary = pathlib.Path({diary!r})
window = sys.argv[sys.argv.index("--until") + 1]
def note(word):
    with diary.open("a") as file:
        file.write(f"{{word}} {{window}} {{os.getppid()}} {{os.getpid()}}\\n")
note("start")
while diary.with_suffix(".hold").exists():
    time.sleep(0.02)
note("end")
"""


@contextmanager
def schedules(folder: Path, url: str, lease: float) -> Iterator[list["subprocess.Popen[str]"]]:
    (folder / "noted.py").write_text(REPORT.format(diary=str(folder / "diary")))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    processes = []
    try:
        for name in ("one", "other"):
            with (folder / f"{name}.log").open("w") as log:
                command = [sys.executable, "-c", DRIVER, str(folder / name), "noted", url, str(lease)]
                processes.append(
                    subprocess.Popen(
                        command, cwd=folder, env=environment, stderr=log, text=True, start_new_session=True
                    )
                )
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def noted(folder: Path, word: str) -> list[list[str]]:
    diary = folder / "diary"
    lines = diary.read_text().splitlines() if diary.exists() else []
    return [line.split()[1:] for line in lines if line.startswith(word)]


def told(folder: Path) -> str:
    return "".join((folder / f"{name}.log").read_text() for name in ("one", "other"))


def state_of(engine: Engine) -> JobState | None:
    return next(iter(jobs_state(engine)), None)


def test_of_two_schedules_each_window_is_reported_by_one(tmp_path: Path, postgres_url: str) -> None:
    with schedules(tmp_path, postgres_url, lease=4) as processes:
        both = "looks after report"
        until(lambda: told(tmp_path).count(both) == 2, lambda: told(tmp_path), DEADLINE_S)
        until(lambda: len(noted(tmp_path, "end")) >= 2, lambda: told(tmp_path), DEADLINE_S)
        # One is stopped, as by an update; the other goes on where it was.
        parent = noted(tmp_path, "end")[-1][1]
        processes.sort(key=lambda process: str(process.pid) != parent)
        first, second = processes
        first.terminate()
        assert first.wait(DEADLINE_S) == 0
        wanted = len(noted(tmp_path, "end")) + 2
        until(lambda: len(noted(tmp_path, "end")) >= wanted, lambda: told(tmp_path), DEADLINE_S)
        second.terminate()
        assert second.wait(DEADLINE_S) == 0
    windows = [datetime.fromisoformat(window) for window, _, _ in noted(tmp_path, "end")]
    assert windows == [windows[0] + number * timedelta(seconds=1) for number in range(len(windows))]
    assert noted(tmp_path, "start") == noted(tmp_path, "end")
    assert {parent for _, parent, _ in noted(tmp_path, "end")} == {str(process.pid) for process in processes}
    engine = open_log(postgres_url)
    state = state_of(engine)
    with engine.connect() as connection:
        kept = windows_since(connection, "report", windows[0] - timedelta(days=1))
    engine.dispose()
    assert state is not None and (state.failures, state.holder) == (0, None)
    assert [one.window_end for one in kept if one.reported] == windows


def test_when_a_schedule_is_killed_the_other_reports_its_window_after_the_lease(
    tmp_path: Path, postgres_url: str
) -> None:
    hold = tmp_path / "diary.hold"
    hold.touch()
    lease = 3.0
    engine = open_log(postgres_url)
    with schedules(tmp_path, postgres_url, lease) as processes:
        until(lambda: noted(tmp_path, "start"), lambda: told(tmp_path), DEADLINE_S)
        ((window, parent, report),) = noted(tmp_path, "start")
        held = state_of(engine)
        assert held is not None and held.holder is not None and held.holder.split(":")[1] == parent
        (killed,) = (process for process in processes if process.pid == int(parent))
        (left,) = (process for process in processes if process is not killed)
        killed.kill()
        killed.wait()
        before = state_of(engine)
        assert before is not None and before.holder == held.holder and before.lease_until is not None
        until(lambda: len(noted(tmp_path, "start")) == 2, lambda: told(tmp_path), DEADLINE_S)
        after = state_of(engine)
        # Not before the dead one's time was up, and nothing of it runs any more.
        assert after is not None and after.last_started is not None and after.last_started >= before.lease_until
        assert not Path(f"/proc/{report}").exists()
        hold.unlink()
        until(lambda: noted(tmp_path, "end"), lambda: told(tmp_path), DEADLINE_S)
        left.terminate()
        assert left.wait(DEADLINE_S) == 0
    assert noted(tmp_path, "start")[1][:2] == [window, str(left.pid)]
    assert noted(tmp_path, "end")[0][:2] == [window, str(left.pid)]
    last = state_of(engine)
    assert last is not None and (last.failures, last.last_outcome) == (1, "ok")
    engine.dispose()


def test_a_schedule_that_slept_through_its_lease_stops_its_report_and_keeps_nothing(
    tmp_path: Path, postgres_url: str
) -> None:
    hold = tmp_path / "diary.hold"
    hold.touch()
    engine = open_log(postgres_url)
    with schedules(tmp_path, postgres_url, lease=3) as processes:
        until(lambda: noted(tmp_path, "start"), lambda: told(tmp_path), DEADLINE_S)
        ((window, parent, report),) = noted(tmp_path, "start")
        (sleeper,) = (process for process in processes if process.pid == int(parent))
        sleeper.send_signal(signal.SIGSTOP)
        until(lambda: len(noted(tmp_path, "start")) == 2, lambda: told(tmp_path), DEADLINE_S)
        sleeper.send_signal(signal.SIGCONT)
        lost = "report: its lease ran out and another schedule has taken it over"
        until(lambda: lost in told(tmp_path), lambda: told(tmp_path), DEADLINE_S)
        assert not Path(f"/proc/{report}").exists()
        hold.unlink()
        until(lambda: noted(tmp_path, "end"), lambda: told(tmp_path), DEADLINE_S)
        for process in processes:
            process.terminate()
        assert [process.wait(DEADLINE_S) for process in processes] == [0, 0]
    ends = [one for one in noted(tmp_path, "end") if one[0] == window]
    assert [one[:2] for one in ends] == [noted(tmp_path, "start")[1][:2]] and ends[0][1] != parent
    last = state_of(engine)
    assert last is not None and (last.failures, last.last_outcome) == (1, "ok")
    engine.dispose()

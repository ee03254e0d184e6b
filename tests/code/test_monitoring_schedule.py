"""The schedule, with small commands in a report's place."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from waiting import until

from monitoring.schedule import single
from records.log_database import open_log
from records.watch.jobs import JobState, jobs_state
from resunet.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0

# The schedule of one job that runs at intervals, or once on yesterday's window; its command is a script.
DRIVER = """
import signal, sys
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
script, every, grace, limit, once = sys.argv[1:]
every, grace, limit = (timedelta(seconds=float(text)) for text in (every, grace, limit))
windows = WindowsOf("resunet", Rules.of(timedelta(days=1)), "24h", ()) if once == "once" else None
job = Job("report", (script,), every, limit, windows=windows, retry=timedelta(seconds=0.1))
with single(Path(script).parent, "resunet") as lock:
    commands = Commands(lock, python=(sys.executable,))
    turns = Turns(commands.run, database_time, holder_name(), timedelta(seconds=60))
    reach = Reach(lambda: open_log(f"sqlite:///{Path(script).parent}/records.db"))
    if once == "ten times":
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, signal.SIG_IGN)
        for _ in range(9):
            run_schedule([job], turns, Commands(lock), reach, grace=grace)
    code = run_schedule([job], turns, commands, reach, grace=grace, once=once == "once")
sys.exit(code)
"""

# Each start and end goes to a file; the third argument in braces is what the report does.
REPORT = """
import os, signal, sys, time
from pathlib import Path
diary = Path({diary!r})
number = diary.read_text().count("start") if diary.exists() else 0
def note(word):
    with diary.open("a") as file:
        file.write(f"{{word}} {{time.monotonic()}}\\n")
note("start")
{body}
note("end")
"""


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


@contextmanager
def schedule(
    diary: Path, body: str, *, every: float = 0.2, grace: float = 10, limit: float = 60, how: str = "on"
) -> Iterator[subprocess.Popen[str]]:
    script = diary.with_suffix(".py")
    script.write_text(REPORT.format(diary=str(diary), body=body))
    arguments = [str(script), str(every), str(grace), str(limit), how]
    with diary.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(diary: Path, word: str, times: int = 1, suffix: str = "") -> str:
    path = diary.with_suffix(suffix) if suffix else diary

    def text() -> str:
        return path.read_text() if path.exists() else ""

    until(lambda: text().count(word) >= times, lambda: f"({word!r}, {times} times): {text()}", DEADLINE_S)
    return text()


def words(diary: Path) -> list[str]:
    return [line.split()[0] for line in diary.read_text().splitlines()]


def test_a_failed_report_is_logged_and_the_next_one_runs(diary: Path) -> None:
    body = """
if number == 0:
    sys.exit("the database is gone")
if number == 1:
    os.kill(os.getpid(), signal.SIGKILL)
print("no drift: none of 22 descriptors moved" if number == 2 else "drift: brightness")
note("end")
sys.exit(0 if number == 2 else 3)
"""
    with schedule(diary, body) as process:
        log = wait_for(diary, "drift: brightness", suffix=".log")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    lines = [line.split(" ", 2)[2] for line in log.splitlines()]
    assert lines[0].startswith("INFO looks after report; stop with SIGTERM")
    assert lines[1].startswith("ERROR report: exit code 1: the database is gone")
    assert lines[2].startswith("ERROR report: exit code -9: it said nothing")
    assert lines[3].startswith("INFO report: no drift: none of 22 descriptors moved")
    assert lines[4].startswith("WARNING report: drift: brightness")
    (state,) = states(diary)
    assert (state.failures, state.failing, state.last_outcome) == (2, 0, "ok")


def test_runs_of_a_job_never_run_side_by_side(diary: Path) -> None:
    with schedule(diary, "time.sleep(0.5)", every=0.1) as process:
        wait_for(diary, "end", times=3)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    noted = words(diary)
    assert noted == ["start", "end"] * (len(noted) // 2)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_schedule_lets_the_running_report_finish(diary: Path, sign: signal.Signals) -> None:
    with schedule(diary, "time.sleep(1)", every=60) as process:
        wait_for(diary, "start")
        # As Ctrl-C in a terminal does it: to the whole process group.
        os.killpg(process.pid, sign)
        assert process.wait(DEADLINE_S) == 0
    assert words(diary) == ["start", "end"]
    assert diary.with_suffix(".log").read_text().rstrip().endswith("INFO stopped")


def test_two_different_signals_at_once_stop_a_schedule(diary: Path) -> None:
    # A matter of luck: of ten, two or three hung where the handlers and the wait shared a lock.
    with schedule(diary, "", every=60, how="ten times") as process:
        for round_ in range(10):
            wait_for(diary, "looks after", times=round_ + 1, suffix=".log")
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0


def test_a_report_does_not_outlive_a_schedule_that_is_killed(diary: Path) -> None:
    body = """
from monitoring.lifeline import end_with_starter
signal.signal(signal.SIGTERM, lambda *_: (note("closed"), sys.exit(143)))
end_with_starter(5)
note("ready")
time.sleep(300)
"""
    with schedule(diary, body, every=60) as process:
        wait_for(diary, "ready")
        process.kill()
        process.wait(DEADLINE_S)
    wait_for(diary, "closed")
    free_by(diary, DEADLINE_S)


def test_a_report_that_does_not_stop_when_its_schedule_is_killed_is_ended(diary: Path) -> None:
    body = """
from monitoring.lifeline import end_with_starter
signal.signal(signal.SIGTERM, lambda *_: note("deaf"))
end_with_starter(0.5)
note("ready")
time.sleep(300)
"""
    with schedule(diary, body, every=60) as process:
        wait_for(diary, "ready")
        process.kill()
        process.wait(DEADLINE_S)
    wait_for(diary, "deaf")
    free_by(diary, DEADLINE_S)


def test_a_report_holds_the_lock_of_a_schedule_that_was_killed(diary: Path) -> None:
    body = "while not diary.with_suffix('.go').exists(): time.sleep(0.02)"
    with schedule(diary, body, every=60) as process:
        wait_for(diary, "start")
        process.kill()
        process.wait(DEADLINE_S)
    with pytest.raises(SettingsError, match="the last command of one that was killed"), single(diary.parent, "resunet"):
        pass
    diary.with_suffix(".go").touch()
    free_by(diary, DEADLINE_S)
    assert words(diary) == ["start", "end"]


def states(diary: Path) -> list[JobState]:
    engine = open_log(f"sqlite:///{diary.parent}/records.db")
    found = jobs_state(engine)
    engine.dispose()
    return found


def free_by(diary: Path, seconds: float) -> None:
    """Wait until nothing holds the schedule's lock."""

    def free() -> bool:
        with suppress(SettingsError), single(diary.parent, "resunet"):
            return True
        return False

    until(free, seconds=seconds)


def test_a_report_that_outlasts_the_grace_is_stopped(diary: Path) -> None:
    body = """
signal.signal(signal.SIGTERM, lambda *_: (note("closed"), sys.exit(143)))
note("ready")
time.sleep(300)
"""
    with schedule(diary, body, every=60, grace=0.2) as process:
        wait_for(diary, "ready")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    assert words(diary) == ["start", "ready", "closed"]
    log = diary.with_suffix(".log").read_text()
    assert "report: it was running and was stopped half-way" in log
    assert log.rstrip().endswith("INFO stopped")
    (state,) = states(diary)
    # Nobody's failure, and free for the next schedule.
    assert (state.holder, state.failures, state.last_outcome) == (None, 0, None)


def test_a_hung_report_is_stopped_and_the_next_one_runs(diary: Path) -> None:
    body = "if number == 0: time.sleep(300)\nprint('no drift')"
    with schedule(diary, body, limit=1) as process:
        log = wait_for(diary, "INFO report: no drift", suffix=".log")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    assert "it gave no answer in 1 s and was stopped" in log


@pytest.mark.parametrize("code", [0, 2, 3])
def test_once_runs_one_report_and_exits_with_its_code(diary: Path, code: int) -> None:
    with schedule(diary, f"note('end')\nsys.exit({code})", how="once") as process:
        assert process.wait(DEADLINE_S) == code
    assert words(diary) == ["start", "end"]


def test_one_schedule_a_model(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with single(home, "resunet"):
        with pytest.raises(SettingsError, match="runs already"), single(home, "resunet"):
            pass
        with single(home, "another/model"):
            pass
    with single(home, "resunet"):
        pass


def test_the_lock_of_a_killed_schedule_is_free(tmp_path: Path) -> None:
    program = "import os\nfrom pathlib import Path\nfrom monitoring.schedule import single\n"
    program += f"with single(Path({str(tmp_path)!r}), 'resunet'):\n    os.kill(os.getpid(), 9)\n"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == -9
    with single(tmp_path, "resunet"):
        pass

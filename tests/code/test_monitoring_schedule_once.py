"""`schedule --once`, for cron: what is due is run, and the exit code says how it went."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.jobs.commands import Commands
from monitoring.jobs.job import Job, Ran, Task
from monitoring.jobs.reach import Reach
from monitoring.jobs.turns import Turns
from monitoring.schedule import exit_code, run_schedule
from records.log_database import open_log
from records.watch.jobs import database_time
from resunet.errors import RecordsError


def test_once_tries_what_failed_again_at_once_and_leaves_what_is_not_due(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job("report", ("monitoring.jobs.tied",), timedelta(hours=1), timedelta(minutes=1))
    codes, ran = iter((1, 3)), list[Task]()

    def run(task: Task, _held: object) -> Ran:
        ran.append(task)
        return Ran(next(codes), "")

    turns = Turns(run, database_time, "one", timedelta(minutes=1))
    reach = Reach(lambda: open_log(f"sqlite:///{tmp_path}/records.db"))
    with caplog.at_level(logging.INFO, "monitoring.schedule"):
        ended = [run_schedule([job], turns, Commands(), reach, grace=timedelta(0), once=True) for _ in range(3)]
    # It exits 3, as where an alert fires: that is no report's verdict.
    assert ended == [2, 0, 0] and len(ran) == 2
    assert [record.message for record in caplog.records if "nothing is due" in record.message] != []
    reach.open().dispose()


@pytest.mark.parametrize(
    ("ran", "code", "of_errors"),
    [
        ([], 0, 0),
        ([Ran(0, ""), Ran(2, "too few rows: …")], 2, 0),
        ([Ran(2, "too few rows: …"), Ran(3, "drift")], 3, 0),
        ([Ran(2, "error: …"), Ran(3, "drift")], 2, 2),
        ([Ran(-9, "")], 2, 2),
    ],
)
def test_the_exit_code_of_once_is_that_of_the_worst_answer(ran: list[Ran], code: int, of_errors: int) -> None:
    assert (exit_code(ran, only_errors=False), exit_code(ran, only_errors=True)) == (code, of_errors)


def test_once_does_not_wait_for_a_database_that_is_away(dead_url: str) -> None:
    turns = Turns(Commands().run, database_time, "one", timedelta(minutes=1))
    job = Job("report", ("nothing",), timedelta(hours=1), timedelta(minutes=1))
    with pytest.raises(RecordsError, match="cannot be made"):
        run_schedule([job], turns, Commands(), Reach(lambda: open_log(dead_url)), grace=timedelta(0), once=True)

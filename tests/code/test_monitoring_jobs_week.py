"""A schedule through weeks on a fake clock: every window is reported once, whatever happens meanwhile."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from jobs_scene import DAY, HOUR, LEASE, MONDAY, REPORT, FakeWeek, Report, fake_week, report_job
from waiting import until

from monitoring.jobs.job import Ran, Task
from monitoring.jobs.table import Reporting, jobs_of
from monitoring.jobs.turns import Turns
from records.engines import make_engine
from records.watch.jobs import jobs_state, remove
from records.watch.leases import LostLeaseError
from records.watch.windows import windows_since

WINDOW = 6 * HOUR
MINUTE = timedelta(minutes=1)


@pytest.fixture
def week(url: str) -> Iterator[FakeWeek]:
    with fake_week(url) as scene:
        yield scene


def ends(reports: list[Report]) -> list[datetime]:
    return [report.end for report in reports]


def every(first: datetime, last: datetime, length: timedelta = WINDOW) -> list[datetime]:
    return [first + number * length for number in range((last - first) // length + 1)]


def test_in_a_normal_week_each_window_is_reported_once_after_its_watermark(week: FakeWeek) -> None:
    week.go(MONDAY + 7 * DAY, report_job(), week.turns(), arrive=lambda now: week.arrive(now - MINUTE, 8))
    # The first look finds the last window that was closed before the schedule began.
    assert ends(week.reports) == every(MONDAY - WINDOW, MONDAY + 7 * DAY - WINDOW)
    assert [report.rows for report in week.reports[2:]] == [24] * (len(week.reports) - 2)
    assert all(report.start + WINDOW == report.end for report in week.reports)
    assert all(report.made - report.end >= timedelta(minutes=10) for report in week.reports)
    assert all(report.made - report.end <= 2 * HOUR + MINUTE for report in week.reports[1:])
    (state,) = jobs_state(week.engine)
    assert (state.name, state.last_outcome, state.failures) == (REPORT, "ok", 0)
    assert state.window_end == MONDAY + 7 * DAY - WINDOW
    assert state.due == MONDAY + 7 * DAY + timedelta(minutes=10)
    assert not state.overdue(week.now, timedelta(minutes=15))
    assert state.overdue(week.now + HOUR, timedelta(minutes=15))


def test_what_a_schedule_missed_while_it_was_down_is_made_up_once_from_the_oldest_on(week: FakeWeek) -> None:
    job = report_job()
    week.go(MONDAY + DAY, job, week.turns("monday"))
    week.now = MONDAY + 2 * DAY + HOUR
    before = len(week.reports)
    week.go(MONDAY + 3 * DAY, job, week.turns("wednesday"))
    made_up = [report for report in week.reports[before:] if report.made < MONDAY + 2 * DAY + 2 * HOUR]
    assert ends(made_up) == every(MONDAY + DAY, MONDAY + 2 * DAY)
    assert ends(week.reports) == every(MONDAY - WINDOW, MONDAY + 3 * DAY - WINDOW)


def test_what_is_older_than_the_bound_is_not_made_up_and_is_said(
    week: FakeWeek, caplog: pytest.LogCaptureFixture
) -> None:
    job = report_job(DAY, back=3 * DAY)
    week.go(MONDAY + DAY, job, week.turns())
    week.now = MONDAY + 10 * DAY + HOUR
    with caplog.at_level(logging.WARNING):
        week.go(week.now + HOUR, job, week.turns(), step=timedelta(minutes=10))
    assert ends(week.reports) == [MONDAY - DAY, MONDAY, *every(MONDAY + 8 * DAY, MONDAY + 10 * DAY, DAY)]
    said = [record.message for record in caplog.records if "missed" in record.message]
    stretch = "2026-03-02 00:00 to 2026-03-09 00:00 UTC"
    assert said == [f"{REPORT}: the windows from {stretch} were missed and are too old to be made up (--back)"]


def test_a_job_that_was_removed_and_comes_back_reports_no_window_again(
    week: FakeWeek, caplog: pytest.LogCaptureFixture
) -> None:
    job = report_job()
    week.go(MONDAY + DAY, job, week.turns())
    assert remove(week.engine, REPORT, week.now)
    with caplog.at_level(logging.WARNING, "monitoring.schedule"):
        week.go(MONDAY + 2 * DAY, job, week.turns())
    assert ends(week.reports) == every(MONDAY - WINDOW, MONDAY + 2 * DAY - WINDOW)
    assert caplog.records == []


def test_late_rows_are_counted_once_in_one_more_report_of_their_own_window(week: FakeWeek) -> None:
    job, turns = report_job(), week.turns()
    week.arrive(MONDAY + HOUR, 100)
    week.arrive(MONDAY + 7 * HOUR, 100)
    # On Tuesday a gateway that was cut off for a day brings what it had, in two parts.
    cut_off = {MONDAY + DAY: 40, MONDAY + DAY + 2 * HOUR: 20}
    week.go(
        MONDAY + 3 * DAY,
        job,
        turns,
        arrive=lambda now: week.arrive(MONDAY + HOUR, cut_off[now]) if now in cut_off else None,
    )
    first = [report for report in week.reports if report.end == MONDAY + WINDOW]
    assert [report.rows for report in first] == [100, 160]
    assert MONDAY + DAY < first[1].made < MONDAY + DAY + 12 * HOUR
    others = [report for report in week.reports if report.end != MONDAY + WINDOW]
    assert len(ends(others)) == len(set(ends(others)))
    # Kept is one report a window: each row is in one of them.
    assert sum(report.rows for report in week.known()) == 260


def test_a_few_late_rows_do_not_test_a_window_again(week: FakeWeek) -> None:
    week.arrive(MONDAY + HOUR, 100)
    late = {MONDAY + DAY}
    week.go(
        MONDAY + 3 * DAY,
        report_job(),
        week.turns(),
        arrive=lambda now: week.arrive(MONDAY + HOUR, 5) if now in late else None,
    )
    assert len(week.reports) == len(set(ends(week.reports)))


def test_a_window_is_about_the_version_that_answered_most_of_it(week: FakeWeek) -> None:
    week.arrive(MONDAY + HOUR, 10, version="3")
    week.arrive(MONDAY + 5 * HOUR, 4, version="4")
    week.arrive(MONDAY + 7 * HOUR, 4, version="4")
    week.go(MONDAY + DAY, report_job(), week.turns())
    asked = {report.end: report.command[-4:] for report in week.reports}
    assert asked[MONDAY + 6 * HOUR] == ("--window", "6h", "--version", "3")
    assert asked[MONDAY + 12 * HOUR] == ("--window", "6h", "--version", "4")
    assert asked[MONDAY + 18 * HOUR] == ("--window", "6h", "--stage", "Production")
    assert week.reports[0].command[2:4] == ("--until", "2026-03-01T18:00:00+00:00")


def test_a_report_that_fails_is_tried_again_after_longer_and_longer_pauses(week: FakeWeek) -> None:
    tries: list[datetime] = []

    def fails(_task: object) -> bool:
        tries.append(week.now)
        return len(tries) < 5

    week.fails = fails
    week.go(MONDAY + HOUR / 4, report_job(), week.turns(), step=timedelta(seconds=5))
    pauses = [(later - sooner - MINUTE).total_seconds() for sooner, later in pairwise(tries[:5])]
    assert pauses == [10, 20, 40, 80]
    assert ends(week.reports) == [MONDAY - WINDOW, MONDAY]


def test_a_window_that_cannot_be_reported_holds_up_no_other_and_is_given_up(
    week: FakeWeek, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned, failed = MONDAY + WINDOW, list[datetime]()

    def fails(task: Task) -> bool:
        assert task.window is not None
        if task.window.window_end != poisoned:
            return False
        failed.append(week.now)
        return True

    week.fails = fails
    with caplog.at_level(logging.ERROR, "monitoring.schedule"):
        week.go(MONDAY + 4 * DAY, report_job(back=2 * DAY), week.turns(), step=HOUR)
    assert ends(week.reports) == [end for end in every(MONDAY - WINDOW, MONDAY + 4 * DAY - WINDOW) if end != poisoned]
    assert all(report.made - report.end <= 4 * HOUR for report in week.reports[1:])
    assert failed and failed[-1] < poisoned + 2 * DAY + HOUR
    (state,) = jobs_state(week.engine)
    assert state.last_outcome == "ok" and state.failures == len(failed)
    assert [record.message for record in caplog.records] == [
        f"{REPORT}: the window 2026-03-02 00:00 to 2026-03-02 06:00 UTC is given up: error: MLflow did not do it"
    ]


def test_a_database_that_dies_in_mid_report_costs_no_window(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = make_engine(postgres_url).url.database
    server = make_engine(postgres_url.replace(f"/{name}", "/postgres"))

    def tell(*statements: str) -> None:
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    with fake_week(postgres_url) as week, caplog.at_level(logging.WARNING, "monitoring.schedule"):
        died: list[datetime] = []

        def dies(_task: object) -> bool:
            if week.now > MONDAY + DAY and not died:
                died.append(week.now)
                cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
                tell(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false", cut)
                return True
            return False

        week.fails = dies
        job, turns = report_job(), week.turns()
        try:
            week.go(MONDAY + 2 * DAY + HOUR, job, turns)
            count = len(week.reports)
            assert len(died) == 1 and week.reports[-1].made < died[0]
        finally:
            tell(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        week.go(MONDAY + 3 * DAY, job, turns)
        assert ends(week.reports) == every(MONDAY - WINDOW, MONDAY + 3 * DAY - WINDOW)
        assert week.reports[count].made < MONDAY + 2 * DAY + 4 * HOUR
        (state,) = jobs_state(week.engine)
        # Of the report that was cut off nobody could note how it ended.
        assert state.last_outcome == "ok" and state.failures == 1
    server.dispose()
    gone, back = (record.message for record in caplog.records)
    assert gone.startswith(f"the PostgreSQL database {name} on ") and gone.endswith("makes up what it misses")
    assert back == "the database answers again: what was missed is made up"


def test_of_two_schedules_one_runs_a_window_and_the_other_follows_when_it_dies(week: FakeWeek) -> None:
    job, one, other = report_job(), week.turns("one"), week.turns("other")

    class DiedError(BaseException):
        pass

    def meanwhile(_task: object) -> None:
        turn = other.turn(week.engine, job)
        assert turn.ran is None and turn.pause <= LEASE
        raise DiedError

    week.meanwhile = meanwhile
    with pytest.raises(DiedError):
        one.turn(week.engine, job)
    week.meanwhile = lambda _task: None
    (state,) = jobs_state(week.engine)
    assert (state.holder, state.running(week.now - MINUTE)) == ("one", True)
    week.now += LEASE
    (state,) = jobs_state(week.engine)
    assert state.overdue(week.now, HOUR)
    assert other.turn(week.engine, job).ran is not None
    (state,) = jobs_state(week.engine)
    assert len(week.reports) == 1 and (state.holder, state.failures) == (None, 1)


def test_many_schedules_that_look_at_the_same_time_report_each_window_once(database_url: str) -> None:
    with fake_week(database_url) as week:
        job = report_job(MINUTE, watermark=timedelta(seconds=1))
        made, over = list[datetime](), threading.Event()
        running = threading.Semaphore(1)

        def run(task: Task, _held: object) -> Ran:
            assert task.window is not None
            assert running.acquire(blocking=False), "two reports at once"
            made.append(task.window.window_end)
            running.release()
            return Ran(0, "no drift")

        def look(holder: str) -> None:
            turns = Turns(run, week.clock, holder, LEASE)
            while not over.is_set():
                turns.turn(week.engine, job)

        with ThreadPoolExecutor(3) as pool:
            looking = [pool.submit(look, name) for name in ("one", "two", "three")]
            try:
                for count in range(1, 16):
                    until(lambda: len(made) >= count or any(future.done() for future in looking))  # noqa: B023
                    week.now += MINUTE
            finally:
                over.set()
            for future in looking:
                future.result()
        assert made == every(made[0], made[-1], MINUTE) and len(made) >= 15


def test_a_report_that_ends_after_its_lease_was_lost_changes_nothing(week: FakeWeek) -> None:
    job, one, other = report_job(), week.turns("one"), week.turns("other")
    week.arrive(MONDAY - 7 * HOUR, 7)

    def stalls(_task: object) -> None:
        # The machine sleeps for an hour; meanwhile the other one does it all.
        week.meanwhile = lambda _task: None
        week.now += HOUR
        assert other.turn(week.engine, job).ran is not None
        week.arrive(MONDAY - 7 * HOUR, 1)

    week.meanwhile = stalls
    with pytest.raises(LostLeaseError, match="another schedule has taken it over"):
        one.turn(week.engine, job)
    assert [report.rows for report in week.reports] == [7, 8]
    with week.engine.connect() as connection:
        window = windows_since(connection, REPORT, MONDAY - DAY)[0]
    assert (window.rows, window.attempts, window.revisions) == (7, 0, 0)


def test_labels_are_measured_once_a_day_after_its_first_report_also_by_two_schedules(
    week: FakeWeek, tmp_path: Path
) -> None:
    report, job = jobs_of(Reporting(window="6h"), known={"performance"}, home=tmp_path, limit=HOUR)
    measured: list[datetime] = []

    def run(task: Task, held: Callable[[], bool]) -> Ran:
        if task.window is not None:
            return week.run(task, held)
        measured.append(week.now)
        assert " ".join(task.command).endswith("performance --windows 14 --model resunet --window 24h")
        return Ran(0, "nothing to measure: the last 14 windows of 24h hold no labels that count")

    schedules = [Turns(run, week.clock, name, LEASE) for name in ("one", "other")]
    while week.now < MONDAY + 7 * DAY:
        began = week.now
        for turns in schedules:
            week.go(began + MINUTE, report, turns, step=MINUTE)
            turns.turn(week.engine, job)
        week.now = max(began + HOUR, week.now)
    # The first at once; then each day has one, as soon as there is a report of it.
    assert len(measured) == 7
    for moment, day in zip(measured, every(MONDAY, MONDAY + 6 * DAY, DAY), strict=True):
        assert timedelta(0) <= moment - day < 2 * HOUR
    state = {one.name: one for one in jobs_state(week.engine)}["performance resunet"]
    assert (state.last_outcome, state.failures) == ("ok", 0) and not state.overdue(week.now, HOUR)

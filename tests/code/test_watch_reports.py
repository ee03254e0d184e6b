"""What reports on windows leave in the database: one row a window, the newest first, on SQLite and PostgreSQL."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import inspect

from records.engines import make_engine
from records.tables import prepare
from records.watch.jobs import jobs
from records.watch.leases import LostLeaseError, acquire
from records.watch.reports import WindowReport, add_report, latest_reports, window_reports
from resunet.errors import RecordsError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)

REPORT = WindowReport(
    model_name="resunet",
    model_version="7",
    version_digest="abc",
    window_start=NOON - DAY,
    window_end=NOON,
    routes=("canary", "production"),
    verdict="drift",
    p_value=0.0004,
    rows=212,
    moved=("brightness", "saturation"),
    summary="drift: brightness +38 %",
    estimated_dice=0.91,
    estimated_low=0.88,
    estimated_high=0.94,
    run_id="0123",
    made=NOON + timedelta(minutes=5, microseconds=17),
)


def later(days: int) -> WindowReport:
    return replace(REPORT, window_start=REPORT.window_start + days * DAY, window_end=REPORT.window_end + days * DAY)


def test_a_report_is_read_as_it_was_kept(database_url: str) -> None:
    engine = make_engine(database_url)
    declined = replace(later(1), p_value=None, moved=(), estimated_dice=None, run_id=None, version_digest=None)
    add_report(engine, REPORT)
    add_report(engine, declined)
    assert latest_reports(engine, "resunet") == [declined, REPORT]


def test_a_report_made_again_replaces_the_one_before(database_url: str) -> None:
    engine = make_engine(database_url)
    again = replace(REPORT, verdict="no drift", moved=(), rows=215, routes=("production", "canary"), run_id="4567")
    add_report(engine, REPORT)
    add_report(engine, again)
    assert latest_reports(engine, "resunet") == [replace(again, routes=("canary", "production"))]


def test_a_run_that_lost_its_job_to_another_schedule_replaces_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(database_url)
    prepare(engine, jobs)
    minute = timedelta(minutes=1)
    mine = acquire(engine, "report", "one", NOON, minute)
    assert mine is not None
    assert acquire(engine, "report", "other", NOON + 2 * minute, minute) is not None
    add_report(engine, REPORT)
    for name, value in mine.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LostLeaseError):
        add_report(engine, replace(REPORT, verdict="no drift"))
    assert latest_reports(engine, "resunet") == [REPORT]


@pytest.mark.parametrize(
    "other",
    [
        replace(REPORT, model_version="8"),
        replace(REPORT, window_start=NOON - 2 * DAY),
        replace(REPORT, routes=("production",)),
    ],
    ids=["version", "window", "routes"],
)
def test_another_version_window_or_route_has_a_report_of_its_own(database_url: str, other: WindowReport) -> None:
    engine = make_engine(database_url)
    add_report(engine, REPORT)
    add_report(engine, other)
    assert len(latest_reports(engine, "resunet")) == 2


def test_a_trend_lies_beside_the_window_that_it_ends_with(database_url: str) -> None:
    engine = make_engine(database_url)
    trend = replace(REPORT, kind="trend", verdict="no drift")
    add_report(engine, REPORT)
    add_report(engine, trend)
    assert latest_reports(engine, "resunet") == [REPORT]
    assert latest_reports(engine, "resunet", kind="trend") == [trend]


def test_the_newest_windows_come_first_and_no_more_than_asked_for(database_url: str) -> None:
    engine = make_engine(database_url)
    for days in (2, 0, 3, 1):
        add_report(engine, later(days))
    add_report(engine, replace(later(9), model_name="another"))
    assert latest_reports(engine, "resunet", limit=3) == [later(3), later(2), later(1)]
    assert latest_reports(engine, "resunet", before=NOON + 2 * DAY) == [later(1), later(0)]


def test_a_time_of_another_zone_is_the_same_window(database_url: str) -> None:
    engine = make_engine(database_url)
    tokyo = timezone(timedelta(hours=9))
    add_report(engine, REPORT)
    add_report(engine, replace(REPORT, window_end=REPORT.window_end.astimezone(tokyo)))
    assert latest_reports(engine, "resunet") == [REPORT]


def test_where_nothing_was_reported_there_is_nothing_to_read(database_url: str) -> None:
    engine = make_engine(database_url)
    assert latest_reports(engine, "resunet") == []
    assert not inspect(engine).has_table("window_reports")


def test_the_table_is_made_once_by_many(database_url: str) -> None:
    code = (
        "import sys\n"
        "from records.engines import make_engine\n"
        "from records.watch.reports import window_reports\n"
        "from records.tables import prepare\n"
        "sys.stdin.read()\n"
        "prepare(make_engine(sys.argv[1]), window_reports)"
    )
    makers = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    told = [maker.communicate(timeout=60)[1].decode() for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0], told
    prepare(make_engine(database_url), window_reports)


def test_a_time_without_a_zone_is_refused(url: str) -> None:
    with pytest.raises(RecordsError, match="without a zone"):
        add_report(make_engine(url), replace(REPORT, made=datetime(2026, 3, 1)))


def test_a_database_that_does_not_answer_is_named(dead_url: str) -> None:
    with pytest.raises(RecordsError, match=r"the SQLite database .* cannot be used"):
        latest_reports(make_engine(dead_url), "resunet")


def test_a_report_is_kept_while_others_write(database_url: str) -> None:
    engine, other = make_engine(database_url), make_engine(database_url)
    add_report(engine, REPORT)
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(add_report, one, later(day)) for day in range(1, 25) for one in (engine, other)]
        for report in done:
            report.result(60)
    assert len(latest_reports(engine, "resunet")) == 25

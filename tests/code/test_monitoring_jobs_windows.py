"""When windows close, are reported, and are reported again: nothing but a moment goes in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitoring.jobs.alarm_rate import alarms_a_month
from monitoring.jobs.job import Job, Ran
from monitoring.jobs.windows import (
    Rules,
    given_up,
    newly_closed,
    next_look,
    next_moment,
    revised,
    to_count,
    waiting,
)
from records.watch.jobs import JobState
from records.watch.windows import ClosedWindow
from resunet.errors import SettingsError

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOURLY, DAILY = Rules.of(HOUR), Rules.of(DAY)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-{text}+00:00")


def closed(end: datetime, **known: object) -> ClosedWindow:
    return replace(ClosedWindow("report", end - HOUR, end), **known)  # type: ignore[arg-type]


def test_windows_lie_on_utc_hours_days_and_weeks() -> None:
    now = at("04 13:47")  # a Wednesday
    ends = {rules.length: newly_closed(None, now, rules).until for rules in (HOURLY, DAILY, Rules.of(7 * DAY))}
    assert ends == {HOUR: at("04 13:00"), DAY: at("04 00:00"), 7 * DAY: at("02 00:00")}


@pytest.mark.parametrize("length", [timedelta(hours=7), timedelta(hours=36), timedelta(minutes=50)])
def test_windows_that_lie_on_neither_are_refused(length: timedelta) -> None:
    with pytest.raises(SettingsError, match="choose a length that divides a day"):
        Rules.of(length)


def test_a_window_closes_a_watermark_after_its_end() -> None:
    before, after = at("02 13:00") + HOURLY.watermark - timedelta(seconds=1), at("02 13:00") + HOURLY.watermark
    assert newly_closed(at("02 12:00"), before, HOURLY).windows == ()
    (window,) = newly_closed(at("02 12:00"), after, HOURLY).windows
    assert (window.start, window.end) == (at("02 12:00"), at("02 13:00"))


def test_the_first_look_takes_the_newest_window_alone_and_the_next_looks_lose_none() -> None:
    found, cursor, now = [], None, at("02 09:05")
    while now < at("03 09:05"):
        look = newly_closed(cursor, now, HOURLY)
        found += [window.end for window in look.windows]
        cursor, now = look.until, now + timedelta(minutes=37)
    assert found[0] == at("02 08:00") and found == [found[0] + number * HOUR for number in range(len(found))]
    assert found[-1] == at("03 08:00")


def test_missed_windows_are_made_up_from_the_oldest_on_and_those_out_of_bounds_are_named() -> None:
    look = newly_closed(at("01 00:00"), at("11 12:30"), DAILY)
    assert [window.end.day for window in look.windows] == [5, 6, 7, 8, 9, 10, 11]
    assert look.skipped is not None and str(look.skipped) == "2026-03-01 00:00 to 2026-03-04 00:00 UTC"
    assert newly_closed(look.until, at("11 12:31"), DAILY).windows == ()


def test_a_clock_that_went_back_closes_nothing_twice() -> None:
    look = newly_closed(at("05 00:00"), at("03 12:00"), DAILY)
    assert (look.windows, look.until) == ((), at("05 00:00"))


def test_overlapping_windows_end_at_every_step() -> None:
    look = newly_closed(at("02 11:00"), at("02 13:30"), Rules.of(DAY, HOUR))
    assert [str(window) for window in look.windows] == [
        "2026-03-01 12:00 to 2026-03-02 12:00 UTC",
        "2026-03-01 13:00 to 2026-03-02 13:00 UTC",
    ]
    with pytest.raises(SettingsError, match="multiple of --every"):
        Rules.of(DAY, 5 * DAY)


def test_the_oldest_is_reported_first_and_one_that_keeps_failing_last() -> None:
    known = [closed(at("02 10:00"), attempts=3), closed(at("02 11:00"), attempts=2), closed(at("02 12:00"))]
    known.append(closed(at("02 13:00"), reported=at("02 13:10")))
    now = at("02 14:00")
    assert [one.window_end.hour for one in waiting(known, now, HOURLY)] == [11, 12, 10]
    assert next_moment(known, now, HOURLY) == now
    assert next_moment(known[-1:], now, HOURLY) == at("02 14:10")


def test_late_rows_of_a_window_whose_report_keeps_failing_are_looked_at_last() -> None:
    known = [
        closed(at("02 10:00"), reported=at("02 10:10"), attempts=3),
        closed(at("02 11:00"), reported=at("02 11:10")),
    ]
    assert [one.window_end.hour for one in to_count(known, at("03 00:00"), HOURLY)] == [11, 10]


def test_a_window_that_could_not_be_reported_in_time_is_given_up() -> None:
    known = [closed(at("02 10:00")), closed(at("02 11:00"))]
    assert [one.window_end.hour for one in given_up(known, at("09 10:00"), HOURLY)] == [10]
    assert [one.window_end.hour for one in waiting(known, at("09 10:00"), HOURLY)] == [11]


def test_rows_are_counted_again_the_more_seldom_the_older_a_window_is() -> None:
    end = at("02 10:00")
    window = closed(end, reported=end + HOURLY.watermark, rows=100, seen=100, looked=end + HOURLY.watermark)
    now, looks = window.looked, 0
    assert now is not None
    while (look := next_look([window], now, HOURLY)) is not None:
        now, looks = look, looks + 1
        assert to_count([window], now, HOURLY) == [window]
        assert to_count([window], now - timedelta(seconds=1), HOURLY) == []
        window = replace(window, looked=now)
    assert 20 < looks < 100
    assert HOURLY.back > now - end > 0.85 * HOURLY.back


@pytest.mark.parametrize(
    ("rows", "seen", "count", "again"),
    [
        (100, 110, 110, True),
        (100, 105, 105, False),  # too few to change a verdict
        (100, 110, 120, False),  # more are coming
        (100, 100, 110, False),
        (0, 1, 1, True),
        (0, 0, 0, False),
    ],
)
def test_a_window_is_reported_again_when_it_has_grown_and_grows_no_more(
    rows: int, seen: int, count: int, again: bool
) -> None:
    window = closed(at("02 10:00"), reported=at("02 10:10"), rows=rows, seen=seen)
    assert revised(window, count, HOURLY) is again


def test_a_window_is_reported_again_once() -> None:
    window = closed(at("02 10:00"), reported=at("02 10:10"), rows=1, seen=1, revisions=1)
    assert to_count([window], at("05 10:00"), HOURLY) == []


def test_pauses_after_failures_double_up_to_ten_minutes() -> None:
    job = Job("report", (), HOUR, HOUR)
    assert [job.pause(count).total_seconds() for count in (1, 2, 3, 7, 5000)] == [10, 20, 40, 600, 600]


def test_a_job_comes_after_another_one_and_at_its_own_interval() -> None:
    nothing = JobState("", None, 0, None, None, None, None, None, None, None, None, 0, 0)
    job = Job("alerts", (), HOUR, HOUR, after="report")
    ran = replace(nothing, last_started=at("02 10:00"), last_finished=at("02 10:01"), due=at("02 11:00"))
    now = at("02 10:30")
    assert job.due(nothing, None, now)
    assert not job.due(ran, None, now) and job.due(ran, None, at("02 11:00"))
    assert not job.due(ran, replace(nothing, last_finished=at("02 09:59")), now)
    assert job.due(ran, replace(nothing, last_finished=at("02 10:00:30")), now)
    failed = replace(ran, failing=3, last_outcome="exit code 1: no mail server")
    after = replace(nothing, last_finished=at("02 10:02"))
    assert not job.due(failed, after, at("02 10:01:39")) and job.due(failed, after, at("02 10:01:40"))
    assert job.due(failed, after, at("02 10:01:39"), insist=True)


def test_a_job_that_is_to_come_once_in_a_window_comes_after_the_first_report_of_the_next() -> None:
    nothing = JobState("", None, 0, None, None, None, None, None, None, None, None, 0, 0)
    day = 24 * HOUR
    job = Job("trend", (), day, HOUR, after="report", once_in=day)
    ran = replace(nothing, last_started=at("02 00:12"), last_finished=at("02 00:13"), due=at("03 00:13"))

    def after(report: str, now: str) -> bool:
        return job.due(ran, replace(nothing, last_finished=at(report)), at(now))

    assert job.due(nothing, None, at("02 00:12"))
    # However many reports of hours there are.
    assert not after("02 01:11", "02 01:12") and not after("02 23:59", "02 23:59")
    assert after("03 00:11", "03 00:11")
    # Where no report comes, a day after the last time.
    assert after("02 00:01", "03 00:13") and not after("02 00:01", "03 00:12")


@pytest.mark.parametrize(
    ("code", "line", "answered"),
    [
        (0, "no drift", True),
        (3, "drift", True),
        (2, "too few rows: the window …", True),
        (2, "error: MLflow did not do it", False),
        (-9, "", False),
    ],
)
def test_too_few_rows_are_an_answer_and_an_error_is_none(code: int, line: str, answered: bool) -> None:
    ran = Ran(code, line)
    assert ran.answered is answered
    assert (ran.outcome == "ok") is answered
    assert answered or f"exit code {code}: {line or 'it said nothing'}" == ran.outcome


def test_all_moments_are_utc() -> None:
    assert newly_closed(None, at("02 13:30"), HOURLY).until.tzinfo is UTC


@pytest.mark.parametrize(
    ("length", "every", "alpha", "told"),
    [
        (DAY, None, 0.01, "at most 0.3 of a month's 30 windows are called drift (--alpha 0.01), and"),
        (
            DAY,
            HOUR,
            0.001,
            "at most 0.72 of a month's 720 windows are called drift (--alpha 0.001), in rows",
        ),
        (timedelta(minutes=1), None, 0.01, "at most 432 of a month's 43,200 windows"),
        (7 * DAY, None, 0.01, "at most 0.0429 of a month's 4 windows"),
    ],
)
def test_a_schedule_knows_how_many_alarms_it_may_raise_without_drift(
    length: timedelta, every: timedelta | None, alpha: float, told: str
) -> None:
    assert told in alarms_a_month(Rules.of(length, every), alpha)

"""What is known of a model on one screen: exact numbers, and words in the place of what is not there."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from overview_scene import fill
from records_release_2 import log_as_release_2, open_as_release_2
from records_rows import prediction
from sketch_scene import clear, log
from sqlalchemy import Engine, event, inspect, text

from records.engines import make_engine
from records.log_database import open_log
from records.settings import RecordsSettings
from records.watch.overview import NO_LOG, Overview, Stage, Stages, as_json, log_to_read, read_overview
from records.watch.reports import Kind, add_report, latest_reports
from records.watch.traffic import MOST_BUCKETS, Span
from resunet.errors import StoreError

NOW = datetime(2026, 3, 8, 12, 30, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WEEK = 7 * DAY


def look(engine: Engine | None, home: Path, length: timedelta = WEEK, now: datetime = NOW) -> Overview:
    return read_overview(engine, home, "resunet", now, length, lambda: Stages(Stage("7"), Stage("8")), lambda: None)


@pytest.fixture
def week(database_url: str, tmp_path: Path) -> Engine:
    fill(database_url, tmp_path / "home", NOW)
    return make_engine(database_url)


def test_a_week_of_traffic_is_told_to_the_last_row(week: Engine, tmp_path: Path) -> None:
    seen = look(week, tmp_path / "home")
    traffic = seen.traffic.value
    assert traffic is not None and seen.failures == ()
    # Seven days of 10, and the canary's 3; neither the twins nor the batch, which no client waits for.
    assert (traffic.answered, traffic.refused, traffic.unsummed) == (73, 5, 0)
    assert seen.span.bucket == 3 * HOUR and len(traffic.buckets) == 57 <= MOST_BUCKETS
    assert traffic.buckets[0].start == datetime(2026, 3, 1, 12, tzinfo=UTC)
    busy = {one.start: (one.answered, one.refused) for one in traffic.buckets if one.answered or one.refused}
    days = [datetime(2026, 3, day, 9, tzinfo=UTC) for day in range(2, 9)]
    assert busy == dict.fromkeys(days, (10, 0)) | {days[4]: (10, 5), days[6]: (13, 0)}
    latencies = [one.p95_ms for one in traffic.buckets if one.answered]
    assert latencies[:6] == pytest.approx([10, 20, 30, 40, 50, 60])
    # 10 answers of 70 ms and 3 of 200 ms: the middle one is of the first, and the bin of 200 ends in it.
    assert traffic.buckets[-2].p50_ms == pytest.approx(70, rel=0.1)
    assert latencies[-1] == pytest.approx(200, rel=0.1)
    assert [(one.version, one.route, one.answered, one.refused) for one in traffic.parts] == [
        ("7", "production", 70, 5),
        ("7", "batch", 6, 0),
        ("8", "shadow", 4, 0),
        ("8", "canary", 3, 0),
    ]
    assert traffic.parts[1].p50_ms == pytest.approx(400)
    assert (traffic.p50_ms, traffic.p95_ms) == (pytest.approx(40, rel=0.1), pytest.approx(70, rel=0.1))


@pytest.mark.parametrize(("later", "verdict"), [(-HOUR, "drift"), (HOUR, "no drift")])
def test_a_report_by_hand_is_told_where_it_is_newer(
    week: Engine, tmp_path: Path, later: timedelta, verdict: str
) -> None:
    drawn = latest_reports(week, "resunet", limit=1)[0]
    by_hand = replace(drawn, kind="window by hand", verdict="no drift", window_end=drawn.window_end + later)
    add_report(week, by_hand)
    seen = look(week, tmp_path / "home").drift.value
    assert seen is not None and seen.last.verdict == verdict


@pytest.mark.parametrize("kind", ["window", "window by hand", "trend", "trend by hand"])
def test_a_window_that_is_not_over_or_holds_no_image_hides_no_verdict(week: Engine, tmp_path: Path, kind: Kind) -> None:
    drawn = latest_reports(week, "resunet", limit=1)[0]
    add_report(week, replace(drawn, kind="trend"))
    empty = replace(drawn, kind=kind, verdict="too few rows", rows=0)
    add_report(week, replace(empty, window_end=datetime(2099, 1, 1, tzinfo=UTC), rows=3))
    for hours in (1, 2, 12):
        add_report(week, replace(empty, window_start=drawn.window_start + hours * HOUR, window_end=NOW - hours * HOUR))
    seen = look(week, tmp_path / "home")
    assert seen.drift.value is not None and seen.drift.value.last == drawn
    assert seen.trend.value == replace(drawn, kind="trend")
    assert {"the last window shows drift: version 7", "windows follow a trend: version 7"} < set(seen.concerns)


def test_where_no_window_ever_held_an_image_that_is_told(week: Engine, tmp_path: Path) -> None:
    drawn = latest_reports(week, "resunet", limit=1)[0]
    empty = replace(drawn, model_name="idle", verdict="too few rows", rows=0)
    add_report(week, empty)
    seen = read_overview(week, tmp_path, "idle", NOW, WEEK, lambda: Stages(None, None), lambda: None)
    assert seen.drift.value is not None and seen.drift.value.last == empty


def test_the_course_is_of_windows_like_the_last_one(week: Engine, tmp_path: Path) -> None:
    before = look(week, tmp_path / "home").drift.value
    assert before is not None
    for hour in range(6):
        end = before.last.window_end - hour * HOUR - timedelta(minutes=1)
        add_report(week, replace(before.last, window_start=end - HOUR, window_end=end))
        add_report(week, replace(before.last, routes=("batch",), window_end=end, window_start=end - DAY))
    seen = look(week, tmp_path / "home").drift.value
    assert seen == before


def test_reports_labels_alerts_and_jobs_are_told(week: Engine, tmp_path: Path) -> None:
    seen = look(week, tmp_path / "home")
    drift, trend, dice, alerts = seen.drift.value, seen.trend.value, seen.dice.value, seen.alerts.value
    assert drift is not None and trend is not None and dice is not None and alerts is not None
    assert [one.verdict for one in drift.course] == ["no drift", "too few rows", "no drift", "drift"]
    assert (drift.last.p_value, drift.last.moved) == (0.0004, ("brightness", "contrast"))
    assert [one.estimated_dice for one in drift.course] == [0.91, None, 0.91, None]
    assert trend.verdict == "no drift"
    # The audits alone: neither what was picked nor what a client said.
    assert [(one.version, one.images, one.mean) for one in dice.versions] == [("7", 2, pytest.approx(0.85))]
    assert [(one.start.date(), one.images, one.mean) for one in dice.course] == [
        (date(2026, 3, 3), 1, 0.8),
        (date(2026, 3, 7), 1, 0.9),
    ]
    assert dice.versions[0].low < 0.85 < dice.versions[0].high
    assert {(one.policy, one.status) for one in alerts} == {
        ("input-drift", "firing"),
        ("dice-by-labels", "firing"),
        ("refused", "pending"),
    }
    assert [(job.state.name, job.trouble) for job in seen.jobs.value or ()] == [
        ("report resunet 24h", ""),
        ("trend resunet", "trend resunet failed: exit code 2"),
    ]
    assert sorted(seen.concerns) == [
        "alert 1 fires: input-drift",
        "alert 2 fires: dice-by-labels",
        "job trend resunet failed",
        "the last window shows drift: version 7",
    ]


def test_a_job_that_nobody_runs_is_a_concern_after_a_while(week: Engine, tmp_path: Path) -> None:
    late = look(week, tmp_path, now=NOW + HOUR + timedelta(minutes=16))
    assert "job report resunet 24h is overdue" in late.concerns
    assert not any("overdue" in one for one in look(week, tmp_path, now=NOW + HOUR).concerns)


def test_the_disk_is_looked_at_without_counting_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "spool" / "rejected").mkdir(parents=True)
    (home / "spool" / "a-1.jsonl").write_bytes(b"x" * 300)
    (home / "spool" / "rejected" / "a.jsonl").write_bytes(b"x" * 20)
    for name in ("2026-03-01", "2026-02-27", "incoming"):
        (home / "masks" / name).mkdir(parents=True)
    disk = look(None, home).disk.value
    assert disk is not None and 0 < disk.free_share < 1
    assert (disk.waiting_bytes, disk.rejected_bytes) == (300, 20)
    assert (disk.masks.days, disk.masks.oldest) == (2, date(2026, 2, 27))
    assert (disk.images.days, disk.images.oldest) == (0, None)
    assert look(None, home / "not" / "there").disk.value is not None


def test_without_a_log_the_rest_is_told(tmp_path: Path) -> None:
    seen = look(None, tmp_path)
    assert seen.production.value == Stage("7") and seen.failures == ()
    assert {name for name, part in seen.parts.items() if part.missing == NO_LOG} == {
        *("traffic", "drift", "trend", "dice", "alerts", "jobs"),
    }


def test_a_log_with_nothing_in_it_says_what_to_do(database_url: str, tmp_path: Path) -> None:
    open_log(database_url).dispose()
    seen = look(make_engine(database_url), tmp_path)
    assert seen.failures == () and seen.concerns == ()
    assert seen.traffic.value is not None and seen.traffic.value.answered == 0
    missing = as_json(seen)["missing"]
    assert missing.pop("rollout") == "none was begun here: python -m serving rollout start"
    assert set(missing) == {"drift", "trend", "dice", "alerts", "jobs"}
    assert missing["drift"] == "no report yet: python -m monitoring report"
    assert all("python -m monitoring" in words for words in missing.values())


def test_a_database_without_any_table_is_told_and_stays_as_it_is(database_url: str, tmp_path: Path) -> None:
    engine = make_engine(database_url)
    with engine.connect():
        pass
    seen = look(engine, tmp_path)
    assert seen.failures == () and seen.traffic.missing.startswith("nothing was logged yet")
    assert inspect(engine).get_table_names() == []


def test_a_log_of_an_earlier_release_is_counted_and_not_changed(database_url: str, tmp_path: Path) -> None:
    engine = open_as_release_2(database_url)
    log_as_release_2(engine, "a")
    log_as_release_2(engine, "b")
    tables = inspect(engine).get_table_names()
    seen = look(engine, tmp_path, now=datetime(2026, 3, 2, tzinfo=UTC))
    traffic = seen.traffic.value
    assert traffic is not None and (traffic.answered, traffic.unsummed) == (2, 1)
    assert (traffic.p50_ms, [part.route for part in traffic.parts]) == (None, ["production"])
    assert seen.failures == () and inspect(engine).get_table_names() == tables


def test_hours_without_sums_are_counted_by_their_rows(week: Engine, tmp_path: Path) -> None:
    whole = look(week, tmp_path).traffic.value
    clear(week)
    counted = look(week, tmp_path).traffic.value
    assert whole is not None and counted is not None and counted.unsummed == 7
    assert [(one.answered, one.refused) for one in counted.buckets] == [
        (one.answered, one.refused) for one in whole.buckets
    ]
    assert [(one.version, one.route, one.answered) for one in counted.parts] == [
        (one.version, one.route, one.answered) for one in whole.parts
    ]


def test_rows_that_are_summed_up_are_not_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    fill(url, tmp_path / "home", NOW)
    engine, asked = make_engine(url), list[str]()
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    look(engine, tmp_path / "home")
    rows = [one for one in asked if "FROM predictions" in one]
    # The hours are counted in the index; the answers of labels are found by their requests.
    assert len(rows) == 2 and "GROUP BY hour" in rows[0] and "request_id IN" in rows[1]


def test_a_dead_database_is_waited_for_once_and_told_once(dead_url: str, tmp_path: Path) -> None:
    seen = look(make_engine(dead_url), tmp_path)
    (failure,) = seen.failures
    assert failure.startswith("traffic, drift, trend, dice, alerts, jobs: the SQLite database")
    assert seen.disk.value is not None and seen.production.value == Stage("7")


def test_one_damaged_part_takes_no_other_down(week: Engine, tmp_path: Path) -> None:
    with week.begin() as connection:
        connection.execute(text("UPDATE sketches SET content = :content"), {"content": b"no sketch"})
        connection.execute(text("UPDATE window_reports SET moved = 'null'"))
    seen = look(week, tmp_path)
    assert {name for name, part in seen.parts.items() if part.failed} == {"traffic", "drift", "trend"}
    assert "`python -m monitoring trend` makes it anew" in seen.traffic.missing
    assert seen.drift.missing == "it cannot be read (TypeError)"
    assert seen.dice.value is not None and seen.alerts.value is not None


def test_a_registry_that_is_away_is_told_beside_the_rest(week: Engine, tmp_path: Path) -> None:
    def away() -> Stages:
        raise StoreError("the registry does not answer")

    seen = read_overview(week, tmp_path, "resunet", NOW, WEEK, away, lambda: None)
    assert seen.failures == ("production, staging: the registry does not answer",) and seen.traffic.value is not None
    nothing = read_overview(week, tmp_path, "resunet", NOW, WEEK, lambda: Stages(None, None), lambda: None)
    assert "nothing is in Production" in nothing.concerns


def test_another_models_rows_reports_and_alerts_are_not_this_ones(week: Engine, tmp_path: Path) -> None:
    seen = read_overview(week, tmp_path, "other", NOW, WEEK, lambda: Stages(Stage("1"), None), lambda: None)
    assert seen.traffic.value is not None and seen.traffic.value.answered == 0
    assert seen.drift.value is None and seen.dice.value is None
    assert [one.policy for one in seen.alerts.value or ()] == ["of another"]


def test_what_is_told_as_json_is_what_was_read(week: Engine, tmp_path: Path) -> None:
    seen = look(week, tmp_path / "home")
    told = as_json(seen)
    assert told["traffic"]["answered"] == 73 and told["span"]["bucket"] == 3 * 3600
    assert told["drift"]["last"]["window_end"] == "2026-03-08T00:00:00+00:00"
    assert told["production"] == {"version": "7", "since": None, "dice": None}
    assert told["staging"]["version"] == "8"
    assert told["concerns"] == list(seen.concerns) and told["failures"] == []
    assert list(told["missing"]) == ["rollout"]
    assert as_json(replace(seen, disk=type(seen.disk)(missing="why", failed=True)))["failures"] == ["disk: why"]


@pytest.mark.parametrize(
    ("length", "bucket", "buckets"),
    [(HOUR, HOUR, 2), (DAY, HOUR, 25), (3 * DAY, 2 * HOUR, 37), (30 * DAY, 24 * HOUR, 31), (365 * DAY, 168 * HOUR, 53)],
)
def test_a_span_is_cut_into_buckets_that_can_be_drawn(length: timedelta, bucket: timedelta, buckets: int) -> None:
    span = Span.until(NOW, length)
    assert (span.bucket, len(span.starts)) == (bucket, buckets)
    assert span.start <= NOW - length < span.start + bucket and span.starts[-1] <= NOW < span.end
    assert span.place(NOW) == buckets - 1


def test_a_log_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    settings = RecordsSettings(home=tmp_path / "home")
    assert log_to_read(settings) is None and list(tmp_path.iterdir()) == []
    log(settings.database_url, settings.home, [prediction("a")])
    assert log_to_read(settings) is not None

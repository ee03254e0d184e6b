"""Counts of failed requests: each is in the database once, whoever counted it and whatever was away meanwhile."""

import logging
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from records_rows import prediction, stored_ids
from sqlalchemy import Engine, Table, inspect, update
from waiting import until

from records import failures
from records.engines import make_engine
from records.failures import MOST_KEYS, Failed, FailureCounts, read_failures
from records.inference import InferenceLog
from records.log_database import open_log
from records.schema import schema_version
from resunet.errors import RecordsError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def stored(url: str, model_name: str = "resunet") -> dict[tuple[str, int], int]:
    """What the database has of the day, by route and status."""
    engine = make_engine(url)
    try:
        found = read_failures(engine, model_name, NOON - 12 * HOUR, NOON + 12 * HOUR)
    finally:
        engine.dispose()
    return {(one.path, one.status): one.requests for one in found}


def test_sums_of_several_processes_are_added_up_by_model_hour_route_and_status(database_url: str) -> None:
    engine = make_engine(database_url)
    first, second = FailureCounts(), FailureCounts()
    late = NOON + timedelta(minutes=59)
    for counts, model_name, path, status, when in (
        (first, "resunet", "/segment", 503, NOON),
        (first, "resunet", "/segment", 503, late.astimezone(timezone(timedelta(hours=5, minutes=30)))),
        (first, "resunet", "/segment", 503, NOON - HOUR),
        (first, "resunet", "/v2/models/{name}/infer", 500, NOON),
        (second, "resunet", "/segment", 503, late),
        (second, "resunet", "/segment", 504, NOON),
        (second, "other", "/segment", 503, NOON),
    ):
        counts.add(model_name, path, status, when)
    first.flush(engine)
    second.flush(engine)
    second.flush(engine)  # nothing new
    assert read_failures(engine, "resunet", NOON, NOON + HOUR) == (
        Failed(NOON, "/segment", 503, 3),
        Failed(NOON, "/segment", 504, 1),
        Failed(NOON, "/v2/models/{name}/infer", 500, 1),
    )
    assert read_failures(engine, "resunet", NOON - HOUR, NOON) == (Failed(NOON - HOUR, "/segment", 503, 1),)
    assert read_failures(engine, "other", NOON - HOUR, NOON + HOUR) == (Failed(NOON, "/segment", 503, 1),)


def test_processes_that_add_at_once_lose_nothing(database_url: str) -> None:
    def work(number: int) -> None:
        engine, counts = make_engine(database_url), FailureCounts()
        for place in range(10):
            # Each in an order of its own.
            for path in ("/segment", "/invocations") if (number + place) % 2 else ("/invocations", "/segment"):
                counts.add("resunet", path, 503, NOON)
            counts.flush(engine)
        engine.dispose()

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))
    assert stored(database_url) == {("/segment", 503): 40, ("/invocations", 503): 40}


def test_a_log_without_the_table_has_no_failures_and_stays_as_it_is(database_url: str) -> None:
    engine = open_log(database_url)
    tables = inspect(engine).get_table_names()
    assert read_failures(engine, "resunet", NOON, NOON + HOUR) == ()
    FailureCounts().flush(engine)
    assert inspect(engine).get_table_names() == tables


def test_while_the_database_is_away_counts_wait_and_are_added_when_it_is_back(
    dead_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = InferenceLog.open(dead_url, tmp_path / "home", drain_interval_s=0.01, clock=lambda: NOON)
    for _ in range(3):
        log.count_failure("resunet", "/segment", 503)
        until(lambda: "counts of failed requests wait" in caplog.text)
    assert caplog.text.count("counts of failed requests wait") == 1
    (tmp_path / "volume" / "mounted").mkdir(parents=True)
    until(lambda: log.status().last_error is None)
    until(lambda: stored(dead_url) == {("/segment", 503): 3})
    log.count_failure("resunet", "/segment", 503)
    log.close()
    assert stored(dead_url) == {("/segment", 503): 4}


def test_a_clean_stop_leaves_no_count_behind(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home", drain_interval_s=60, clock=lambda: NOON)
    log.count_failure("resunet", "/segment", 504)
    assert log.close() and stored(url) == {("/segment", 504): 1}


def test_a_forked_child_does_not_add_what_its_parent_counted(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home", drain_interval_s=60, clock=lambda: NOON)
    log.count_failure("resunet", "/segment", 503)

    def child() -> None:
        log.count_failure("resunet", "/segment", 503)
        os._exit(0 if log.close(deadline_s=30) else 1)

    # Its other threads are at the database just now, and SQLite's locks are theirs: a fork has to wait for them.
    for forks in range(1, 9):
        forked = multiprocessing.get_context("fork").Process(target=child)
        forked.start()
        forked.join(60)
        assert forked.exitcode == 0 and stored(url) == {("/segment", 503): forks}
    log.close()
    assert stored(url) == {("/segment", 503): 9}


def test_predictions_go_their_way_where_the_table_cannot_be_made(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = list[str]()

    def refused(engine: Engine, *tables: Table) -> None:
        asked.extend(table.name for table in tables)
        raise RecordsError("permission denied for schema public")

    monkeypatch.setattr(failures, "prepare", refused)
    log = InferenceLog.open(url, tmp_path / "home", drain_interval_s=0.01)
    log.count_failure("resunet", "/segment", 503)
    until(lambda: asked == ["request_failures"])
    for number in range(3):
        log.append([prediction(str(number))])
        until(lambda wanted=number + 1: len(stored_ids(url)) == wanted)
    assert asked == ["request_failures"], "it is not asked again at once"
    log.close()
    assert "permission denied" in caplog.text and "wait in the spool" not in caplog.text


def test_a_log_of_another_release_is_left_alone(url: str) -> None:
    engine = open_log(url)
    with engine.begin() as connection:
        connection.execute(update(schema_version).values(version=99))
    counts = FailureCounts()
    counts.add("resunet", "/segment", 503, NOON)
    with pytest.raises(RecordsError, match="newer release"):
        counts.flush(engine)
    assert not inspect(engine).has_table("request_failures")


def test_of_too_many_hours_the_oldest_are_forgotten(dead_url: str, url: str, caplog: pytest.LogCaptureFixture) -> None:
    counts, now = FailureCounts(pause_s=10, clock=lambda: clock[0]), NOON
    clock = [0.0]
    with caplog.at_level(logging.WARNING):
        for _ in range(MOST_KEYS + 5):
            counts.add("resunet", "/segment", 503, now)
            now += HOUR
            if now == NOON + 3 * HOUR:
                counts.try_flush(make_engine(dead_url))
    engine = make_engine(url)
    counts.try_flush(engine)
    assert not inspect(engine).has_table("request_failures"), "it pauses after a failure"
    clock[0] = 10.0
    counts.try_flush(engine)
    found = read_failures(engine, "resunet", NOON, now)
    assert len(found) == MOST_KEYS and found[0].hour == NOON + 5 * HOUR

"""Requests that the gateway failed, beside what it answered: in the overview, in a terminal and on the page."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from overview_scene import fail, fill
from rich.console import Console
from sqlalchemy import Engine, make_url

from pipelines.status_screen import screen
from records.engines import make_engine
from records.log_database import open_log
from records.watch.overview import Overview, Stage, Stages, as_json, read_overview
from records.watch.traffic import Failure
from serving.page.charts import HEIGHT, traffic_chart
from serving.page.status import Gateway, render

NOW = datetime(2026, 3, 8, 12, 30, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LATE = {("/segment", 503): 3, ("/v2/models/{name}/infer", 504): 1}


def look(engine: Engine, length: timedelta = 7 * DAY) -> Overview:
    return read_overview(
        engine, Path("nowhere"), "resunet", NOW, length, lambda: Stages(Stage("7"), None), lambda: None
    )


def shown(seen: Overview) -> str:
    told = StringIO()
    Console(file=told, width=80).print(screen(seen))
    return told.getvalue()


@pytest.fixture
def week(database_url: str, tmp_path: Path) -> Engine:
    """A week of traffic with failures two days ago, others in this hour and long ago, and of another model."""
    fill(database_url, tmp_path / "home", NOW)
    fail(database_url, LATE, NOW - timedelta(minutes=20))
    fail(database_url, LATE, NOW - 30 * DAY)
    fail(database_url, LATE, NOW, "other")
    return make_engine(database_url)


def test_failed_requests_are_told_by_status_and_route_and_by_time(week: Engine) -> None:
    seen = look(week)
    traffic = seen.traffic.value
    assert traffic is not None and (traffic.answered, traffic.refused, traffic.failed) == (73, 5, 10)
    assert traffic.failures == (
        Failure(503, "/segment", 7),
        Failure(500, "/invocations", 2),
        Failure(504, "/v2/models/{name}/infer", 1),
    )
    busy = {one.start: one.failed for one in traffic.buckets if one.failed}
    assert busy == {datetime(2026, 3, 6, 12, tzinfo=UTC): 6, datetime(2026, 3, 8, 12, tzinfo=UTC): 4}
    told = as_json(seen)["traffic"]
    assert told["failed"] == 10 and told["buckets"][-1]["failed"] == 4
    assert told["failures"][0] == {"status": 503, "path": "/segment", "requests": 7}
    assert [one["requests"] for one in told["failures_lately"]] == [3, 1]


def test_what_failed_lately_is_a_concern_and_what_failed_before_is_not(week: Engine, tmp_path: Path) -> None:
    concern = "4 requests failed (3 with 503, 1 with 504) since 2026-03-08 11:00 UTC"
    assert concern in look(week).concerns and concern in look(week, HOUR).concerns
    url = f"sqlite:///{tmp_path}/another.db"
    bare = make_engine(url)
    fail(url, {("/segment", 503): 1}, NOW - timedelta(minutes=91))
    assert look(bare).concerns == (), "it is of the hour before the last one"
    fail(url, {("/segment", 503): 1}, NOW - timedelta(minutes=89))
    assert look(bare).concerns == ("1 request failed (1 with 503) since 2026-03-08 11:00 UTC",)


def test_screen_and_page_show_them(week: Engine) -> None:
    seen = look(week)
    words = "10 requests failed (7 with 503, 2 with 500, 1 with 504)"
    text, page = shown(seen), render(seen, Gateway("ok", ()), 0.0, "resunet")
    assert words in text and "failed   " in text and max(map(len, text.splitlines())) <= 80
    assert f'<p class="wrong" id="failed">{words}</p>' in page
    assert "<td>503</td><td>/segment</td><td>7</td>" in page
    assert "<td>2026-03-06 12:00</td><td>0</td><td>0</td><td>unknown</td><td>unknown</td><td>6</td>" in page


def test_bars_of_failed_requests_stand_on_the_others(week: Engine) -> None:
    traffic = look(week, DAY).traffic.value
    assert traffic is not None
    chart = traffic_chart(look(week, DAY).span, traffic)
    (bar,) = [one for one in chart.bars if one.kind == "failed"]
    assert bar.told == "2026-03-08 12:00: 0 answered, 0 refused, 4 requests failed" and (
        "failed",
        "failed requests",
    ) in (chart.keys)
    assert bar.y + bar.height == HEIGHT and "4 requests failed" in chart.told
    whole = traffic_chart(look(week).span, look(week).traffic.value or traffic)
    assert all(one.y >= 0 and one.y + one.height <= HEIGHT for one in whole.bars)


def test_where_nothing_failed_it_says_so(database_url: str) -> None:
    seen = look(open_log(database_url))
    traffic = seen.traffic.value
    assert traffic is not None and (traffic.failed, traffic.failures, seen.failures) == (0, (), ())
    page = render(seen, Gateway("ok", ()), 0.0, "resunet")
    assert "0 requests failed" in shown(seen) and '<p class="soft" id="failed">0 requests failed</p>' in page
    assert "Failed requests</summary>" not in page and seen.concerns == ()


def test_a_role_that_may_not_read_them_is_told_so_and_sees_all_else(postgres_url: str, tmp_path: Path) -> None:
    fill(postgres_url, tmp_path / "home", NOW)
    fail(postgres_url, LATE, NOW)
    engine = make_engine(postgres_url)
    role = f"monitor_{engine.url.database}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        connection.exec_driver_sql(f"REVOKE SELECT ON request_failures FROM {role}")
    theirs = make_engine(make_url(postgres_url).set(username=role).render_as_string(hide_password=False))
    seen = look(theirs)
    assert seen.traffic.value is not None and seen.traffic.value.answered == 73
    assert not seen.traffic.value.failures_known and not as_json(seen)["traffic"]["failures_known"]
    assert "failed requests: not known" in shown(seen) and seen.failures == ()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"GRANT SELECT ON request_failures TO {role}")
    allowed = look(theirs).traffic.value
    assert allowed is not None and (allowed.failed, allowed.failures_known) == (10, True)
    theirs.dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()

"""The page of the status: what is drawn, what is escaped, and that it waits for nobody."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anyio
import pytest
from overview_scene import fill
from waiting import until

from records.engines import make_engine
from records.watch.measured import MeasuredDice
from records.watch.overview import Overview, Rollout, Stage, Stages, Told, as_json, read_overview
from records.watch.traffic import Bucket, Span, Traffic
from resunet.errors import StoreError
from serving.gateway.owner import Brief, Health
from serving.gateway.releases import Release
from serving.gateway.status_board import FAILED, Seen, StatusBoard
from serving.page.charts import HEIGHT, WIDTH, Chart, dice_chart, drift_chart, latency_chart, traffic_chart
from serving.page.status import AGAIN_S, Drawn, Gateway, render

NOW = datetime(2026, 3, 8, 12, 30, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=y>\x00\x1b[2J"
WELL = Gateway("ok", ())
HEALTH = Health("ok", Release("resunet", "7", 0), (), 0, Brief("canary", "8", 0.05, 0.25))


def overview(url: str, home: Path, **more: str) -> Overview:
    fill(url, home, NOW, **more)
    model = more.get("model", "resunet")
    engine = make_engine(url)
    try:
        return read_overview(engine, home, model, NOW, 7 * DAY, lambda: Stages(Stage(model), None), lambda: None)
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Overview:
    folder = tmp_path_factory.mktemp("week")
    return overview(f"sqlite:///{folder}/log.db", folder / "home")


class Page(HTMLParser):
    """What is in a page: tags with attributes, and texts by the id of what they are in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._id = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id") or ""

    def handle_data(self, data: str) -> None:
        if self._id:
            self.texts[self._id] = self.texts.get(self._id, "") + data
        self._id = ""

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_number_is_the_one_that_programs_are_told(week: Overview) -> None:
    page, told = Page(render(week, WELL, 2.0, "resunet")), as_json(week)
    assert page.texts["answered"] == str(told["traffic"]["answered"]) == "73"
    assert page.texts["refused"] == str(told["traffic"]["refused"])
    assert page.texts["p95"] == f"{told['traffic']['p95_ms']:.3g} ms"
    assert page.texts["verdict"] == told["drift"]["last"]["verdict"] == "drift"
    assert page.texts["p"] == str(told["drift"]["last"]["p_value"])
    assert page.texts["measured"] == f"{told['dice']['versions'][0]['mean']:.3f}"
    assert page.texts["estimated"] == "declined" and told["drift"]["last"]["estimated_dice"] is None
    text = render(week, WELL, 2.0, "resunet")
    assert all(concern in text for concern in told["concerns"]) and "read 2 s ago" in text


def test_the_page_has_no_script_no_style_and_nothing_of_others(week: Overview) -> None:
    text = render(week, WELL, 2.0, "resunet")
    page = Page(text)
    assert {"script", "style", "iframe", "img", "form"}.isdisjoint(tag for tag, _ in page.tags)
    assert not any(name == "style" or name.startswith("on") for _, attributes in page.tags for name in attributes)
    links = [one.get("href") or "" for tag in ("a", "link") for one in page.named(tag)]
    assert links and not any("//" in link or link.startswith("/") for link in links), "they stand below any prefix"
    assert {"http-equiv": "refresh", "content": str(AGAIN_S)} in page.named("meta")
    # Each drawing says what it is to who does not see it.
    drawings = [one for one in page.named("svg") if one.get("role") == "img"]
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert len(drawings) == 4
    assert all(set((one["aria-labelledby"] or "").split()) <= ids for one in drawings)


def test_what_strangers_have_named_is_text(tmp_path: Path) -> None:
    evil = EVIL.replace("\x00", "")
    seen = overview(f"sqlite:///{tmp_path}/log.db", tmp_path / "home", slice=evil, model=evil)
    assert seen.traffic.value is not None and seen.alerts.value is not None
    evil_part = replace(seen.traffic.value.parts[0], version=EVIL)
    seen = replace(seen, traffic=Told(replace(seen.traffic.value, parts=(evil_part,))))
    page = Page(render(seen, Gateway("ok", (EVIL,)), 0.0, EVIL))
    assert {"script", "img"}.isdisjoint(tag for tag, _ in page.tags)
    assert "\x1b" not in render(seen, Gateway("ok", (EVIL,)), 0.0, EVIL)
    assert "&lt;script&gt;" in render(seen, WELL, 0.0, EVIL)


def test_neither_requests_nor_people_nor_machines_are_on_the_page(week: Overview) -> None:
    text = render(week, WELL, 0.0, "resunet")
    # A request that was labelled, who acknowledged an alert, and who ran a job.
    for secret in ("day1-0", "canary-0", "ada", "it is known", "node1", "exit code 2"):
        assert secret not in text


def test_folders_and_what_commands_said_are_for_the_terminal(week: Overview) -> None:
    (alert,) = [one for one in week.alerts.value or () if one.id == 1]
    disk = replace(alert, model_name="", subject="disk of /srv/secret", summary="3 % of /srv/secret is free")
    seen = replace(week, alerts=Told((disk,)), traffic=Told(missing="/srv/secret/log.db is away", failed=True))
    shown = looked(board(lambda: seen)).overview
    assert shown is not None and shown.failures == (f"traffic: {FAILED}",)
    text = render(shown, WELL, 0.0, "resunet")
    assert "/srv/secret" not in text and "alert 1 fires" in text


def test_before_the_first_reading_the_page_asks_again_soon() -> None:
    page = Page(render(None, Gateway("ok", ("the registry is away",)), 0.0, "resunet"))
    (again,) = [one["content"] for one in page.named("meta") if one.get("http-equiv") == "refresh"]
    assert int(again or 0) < AGAIN_S and page.texts["waiting"].startswith("The database")


def test_parts_that_are_not_there_are_told_in_words(week: Overview, tmp_path: Path) -> None:
    bare = read_overview(None, tmp_path, "resunet", NOW, DAY, lambda: Stages(None, None), lambda: None)
    text = render(bare, WELL, 0.0, "resunet")
    assert text.count("no predictions are logged here") >= 5 and "nothing is in Production" in text
    dead = replace(week, traffic=Told(missing="the database is away", failed=True))
    text = render(dead, WELL, 0.0, "resunet")
    assert "traffic: the database is away" in text and Page(text).texts["verdict"] == "drift"


def test_who_asks_within_a_second_is_given_the_page_that_was_drawn(
    week: Overview, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = list[float]()

    def counted(seen: Overview | None, gateway: Gateway, age_s: float, model: str) -> str:
        drawings.append(age_s)
        return render(seen, gateway, age_s, model)

    monkeypatch.setattr("serving.page.status.render", counted)
    drawn = Drawn()
    pages = [drawn.page(seen, WELL, age, "resunet") for seen, age in ((week, 2.1), (replace(week), 1.9), (week, 3.0))]
    assert drawings == [2, 3] and pages[0] == pages[1] != pages[2]
    assert "traffic: gone" in drawn.page(replace(week, traffic=Told(missing="gone", failed=True)), WELL, 3.0, "resunet")


def marks(chart: Chart) -> Iterator[tuple[float, float]]:
    for bar in chart.bars:
        yield from ((bar.x, bar.y), (bar.x + bar.width, bar.y + bar.height))
    for line in chart.lines:
        yield from line.points


def test_all_that_is_drawn_lies_in_its_box(week: Overview) -> None:
    traffic, drift, dice = week.traffic.value, week.drift.value, week.dice.value
    assert traffic is not None and drift is not None and dice is not None
    for chart in (
        traffic_chart(week.span, traffic),
        latency_chart(week.span, traffic),
        drift_chart(week.span, drift.course),
        dice_chart(week.span, drift.course, dice.course),
    ):
        assert list(marks(chart)), chart.name
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in marks(chart)), chart.name


def test_bars_are_as_high_as_their_counts_and_what_is_little_is_seen(week: Overview) -> None:
    span = Span.until(NOW, 3 * HOUR)
    counts = [(1000, 0), (500, 0), (0, 0), (999, 1)]
    buckets = tuple(Bucket(at, *count, None, None) for at, count in zip(span.starts, counts, strict=True))
    chart = traffic_chart(span, Traffic(2499, 1, None, None, buckets, (), 0))
    whole, half, most, refused = chart.bars
    assert whole.height == pytest.approx(2 * half.height) and refused.height >= 3 and refused.kind == "refused"
    assert refused.y + refused.height == pytest.approx(most.y), "one stands on the other"
    assert chart.told == "2,499 images answered and 1 refused; at most 1,000 in one bar."


def test_a_gap_in_the_latency_is_a_gap_in_the_line() -> None:
    span = Span.until(NOW, 4 * HOUR)
    values = [10.0, 20.0, None, 40.0, None]
    buckets = tuple(Bucket(at, 1, 0, value, value) for at, value in zip(span.starts, values, strict=True))
    chart = latency_chart(span, Traffic(5, 0, 20.0, 40.0, buckets, (), 0))
    assert [(line.kind, len(line.points)) for line in chart.lines] == [
        *(("p95", 2), ("p95 dot", 1), ("p50", 2), ("p50 dot", 1)),
    ]
    (_, ten), (_, twenty) = chart.lines[0].points
    assert ten > twenty > chart.lines[1].points[0][1] and chart.high == "40 ms"
    assert chart.lines[1].path.count("L") == 1, "a dot is a line without a length"


def test_verdicts_and_intervals_are_drawn_where_they_belong(week: Overview) -> None:
    drift = week.drift.value
    assert drift is not None
    chart = drift_chart(week.span, drift.course)
    assert [bar.kind for bar in chart.bars] == ["fine", "none", "fine", "wrong"]
    heights = [bar.height for bar in chart.bars]
    assert heights[3] > heights[2] > heights[0] and chart.told.startswith("1 of 4 windows drift")
    labels = (MeasuredDice("7", NOW - 2 * DAY, NOW - DAY, 30, 0.9, 0.85, 0.95),)
    chart = dice_chart(week.span, drift.course, labels)
    assert [line.kind for line in chart.lines] == [
        *(["estimated range", "estimated"] * 2),
        "measured range",
        "measured",
    ]
    (x, low), (_, high) = chart.lines[-2].points
    assert low > chart.lines[-1].points[0][1] > high and x == chart.lines[-1].points[0][0]
    assert (chart.low, chart.high) == ("0.5", "1")
    poor = replace(labels[0], mean=0.3)
    assert dice_chart(week.span, (), (poor,)).low == "0"


def test_nothing_at_all_is_drawn_as_nothing() -> None:
    span = Span.until(NOW, DAY)
    empty = tuple(Bucket(at, 0, 0, None, None) for at in span.starts)
    for chart in (
        traffic_chart(span, Traffic(0, 0, None, None, empty, (), 0)),
        latency_chart(span, Traffic(0, 0, None, None, empty, (), 0)),
        drift_chart(span, ()),
        dice_chart(span, (), ()),
    ):
        assert not chart.bars and not chart.lines and chart.told


def looked(board: StatusBoard) -> Seen:
    return anyio.run(board.look)


def board(read: Callable[[], Overview], **more: Any) -> StatusBoard:
    return StatusBoard("resunet", read, lambda: Told(Stage("8")), lambda: HEALTH, **more)


def test_the_gateway_tells_itself_what_it_serves(week: Overview) -> None:
    seen = looked(board(lambda: week)).overview
    assert seen is not None
    assert (seen.production, seen.staging) == (Told(Stage("7")), Told(Stage("8")))
    assert seen.rollout == Told(Rollout("canary", "8", 0.05, 0.25))
    down = StatusBoard("resunet", lambda: week, lambda: Told(Stage("8")), lambda: Health("down", None, (), 0))
    found = looked(down).overview
    assert found is not None and "nothing is in Production" in found.concerns


def test_a_database_that_hangs_holds_up_no_page_and_is_asked_once(week: Overview) -> None:
    answers, asked = threading.Event(), list[int]()

    def hangs() -> Overview:
        asked.append(1)
        assert answers.wait(60)
        return week

    hanging = board(hangs)
    assert [looked(hanging).overview for _ in range(2)] == [None, None] and asked == [1]
    answers.set()
    until(lambda: looked(hanging).overview is not None)
    assert asked == [1]


def test_what_was_read_is_shown_with_its_age_until_it_is_read_again(week: Overview) -> None:
    now, asked, answers = [0.0], list[float](), threading.Event()
    answers.set()

    def read() -> Overview:
        asked.append(now[0])
        assert answers.wait(60)
        if now[0] >= 200:
            raise StoreError("away")
        return week

    here = board(read, every_s=10, clock=lambda: now[0])
    assert looked(here).age_s == 0
    now[0] = 9.0
    assert (looked(here).age_s, asked) == (9, [0])
    now[0] = 11.0
    assert (looked(here).age_s, asked) == (0, [0, 11]), "who looks after a while is shown what is now"
    now[0] = 100.0
    answers.clear()
    seen = looked(here)
    assert (seen.overview is not None, seen.age_s) == (True, 89)
    answers.set()
    until(lambda: looked(here).age_s == 0)
    now[0] = 200.0
    assert (looked(here).age_s, 200.0 in asked) == (100, True), "what cannot be read anew stays"


def test_the_registry_is_not_waited_for_for_long(week: Overview) -> None:
    ends = threading.Event()

    def staging() -> Told[Stage]:
        assert ends.wait(60)
        return Told(Stage("8"))

    here = StatusBoard("resunet", lambda: week, staging, lambda: HEALTH)
    seen = looked(here).overview
    assert seen is not None and seen.staging.missing == "the registry is being asked"
    ends.set()

"""What a window's labels say: which of them count, where, and for how much."""

import json
from datetime import timedelta
from typing import Any

import cv2
import numpy as np
import pytest
from mlflow import MlflowClient
from performance_scene import ANSWERED, WEEK, Scene, at
from records_rows import NOON

from monitoring.course import COURSE_TAG
from monitoring.live import LIVE_ROUTES
from monitoring.performance.labelled import NO_SLICE, labelled_in
from monitoring.performance.window import Measured, measured
from monitoring.window import Window
from records.forget import forget
from records.picks import AuditDraw, Pick, PickedAnswer, add_picks, audit_draws
from records.subject import Subject
from records.watch.measured import read_dice
from resunet.errors import DataError


def label(scene: Scene, source: str = "audit", **dices: float) -> None:
    """Write labels, by request."""
    rows = [{"request_id": name, "dice": dice, "source": source} for name, dice in dices.items()]
    done = scene.typed("label", "--csv", str(scene.csv(rows)))
    assert done.code == 0, done.err


def ask(scene: Scene, window: Window = WEEK, **options: Any) -> list[Measured]:
    engine = scene.engine
    try:
        return measured(engine, "resunet", window, **options)
    finally:
        engine.dispose()


def means(rows: list[Measured]) -> dict[tuple[str, str | None, str | None], tuple[int, float]]:
    return {(one.version, one.slice, one.route): (one.images, round(one.dice.mean, 3)) for one in rows}


def test_versions_slices_and_routes_are_measured_apart(watched: Scene) -> None:
    watched.answer("a", "b", slice="lung")
    watched.answer("c", route="canary")
    watched.answer("d", model_version="10", slice="lung")
    watched.answer("e", route="batch")
    label(watched, a=0.9, b=0.7, c=0.5, d=0.3, e=0.1)
    whole = {("3", None, None): (3, 0.7), ("10", None, None): (1, 0.3)}
    assert means(ask(watched)) == whole
    assert list(means(ask(watched))) == list(whole)
    assert means(ask(watched, by=("slice",))) == whole | {
        ("3", "lung", None): (2, 0.8),
        ("3", NO_SLICE, None): (1, 0.5),
        ("10", "lung", None): (1, 0.3),
    }
    both = means(ask(watched, by=("slice", "route")))
    assert both["3", NO_SLICE, "canary"] == (1, 0.5) and both["3", None, "production"] == (2, 0.8)
    assert means(ask(watched, version="10")) == {("10", None, None): (1, 0.3)}
    assert means(ask(watched, routes=("batch",))) == {("3", None, None): (1, 0.1)}
    with pytest.raises(DataError, match="'hour' is nothing to measure by"):
        ask(watched, by=("hour",))


def test_a_label_counts_in_the_window_of_its_image_however_late_it_comes(watched_lite: Scene) -> None:
    watched_lite.answer("old", event_time=at(10))
    watched_lite.answer("new", event_time=at(1))
    # Written now, in 2026 or whenever this runs: long after both.
    label(watched_lite, old=0.2, new=0.8)
    assert means(ask(watched_lite)) == {("3", None, None): (1, 0.8)}
    earlier = Window(WEEK.start - timedelta(days=7), WEEK.start)
    assert means(ask(watched_lite, earlier)) == {("3", None, None): (1, 0.2)}


def test_only_audits_count_unless_others_are_asked_for(watched_lite: Scene) -> None:
    watched_lite.answer("a", "b", "c")
    label(watched_lite, a=0.9)
    label(watched_lite, "client", a=0.1, b=0.2)
    label(watched_lite, "picked", c=0.3)
    assert means(ask(watched_lite)) == {("3", None, None): (1, 0.9)}
    clients = ask(watched_lite, client=True)
    assert means(clients) == {("3", None, None): (2, 0.15)} and clients[0].sources == ("client",)
    with pytest.raises(DataError, match="not for both"):
        ask(watched_lite, client=True, picked=True)


def test_a_label_that_several_answers_share_is_left_out_by_name(watched: Scene) -> None:
    watched.answer("a", "shared")
    label(watched, a=0.9, shared=0.1)
    assert means(ask(watched)) == {("3", None, None): (2, 0.5)}
    # The client uses the id again, for another image and outside the window.
    watched.answer("shared", image_digest="sha256:other", event_time=at(20))
    assert means(ask(watched)) == {("3", None, None): (1, 0.9)}
    engine = watched.engine
    found = labelled_in(engine, "resunet", WEEK)
    engine.dispose()
    assert found.ambiguous == (("shared", "3"),) and found.answers == 2
    done = watched.typed("performance", "--until", WEEK.end.isoformat())
    assert done.code == 0 and "shared (version 3)" in done.out


def test_a_picked_label_without_its_probability_is_refused(watched_lite: Scene) -> None:
    watched_lite.answer("a", "b")
    label(watched_lite, "picked", a=0.3)
    with pytest.raises(DataError, match="request 'a' is of a picked image"):
        ask(watched_lite, picked=True)


def choose(scene: Scene, name: str, window: Window, **chances: float) -> None:
    engine = scene.engine
    found = labelled_in(engine, "resunet", WEEK, sources=("picked", "audit"), routes=LIVE_ROUTES)
    answers = {row.request_id: row.answer_id for row in found.rows}
    pick = Pick(name, "resunet", window.start, window.end, NOON)
    add_picks(engine, pick, [PickedAnswer(answers[one], "picked", chance, "far") for one, chance in chances.items()])
    engine.dispose()


def test_picked_labels_are_weighted_by_the_inverse_of_their_probability(watched_lite: Scene) -> None:
    watched_lite.answer("a", "b", "unknown")
    label(watched_lite, "picked", a=0.3, b=0.9)
    label(watched_lite, unknown=0.1)
    choose(watched_lite, "p", WEEK, a=1.0, b=0.25)
    (found,) = ask(watched_lite, picked=True)
    assert found.weighted and found.images == 2
    assert found.dice.mean == pytest.approx((0.3 + 4 * 0.9) / 5)
    assert (found.dice.low, found.dice.high) == (0, 1)
    told = watched_lite.typed("performance", "--picked", "--until", WEEK.end.isoformat())
    assert told.code == 0 and "1 audits for which no probability" in told.out and "Hájek" in told.out


def test_an_image_with_two_labels_counts_once_by_the_stronger_one(watched_lite: Scene) -> None:
    watched_lite.answer("a")
    label(watched_lite, "picked", a=0.3)
    label(watched_lite, a=0.9)
    choose(watched_lite, "p", WEEK, a=0.5)
    (found,) = ask(watched_lite, picked=True)
    assert (found.images, found.dice.mean, found.sources) == (1, pytest.approx(0.9), ("audit",))


def test_picks_from_the_same_hours_are_not_mixed(watched_lite: Scene) -> None:
    watched_lite.answer("a", "b")
    label(watched_lite, "picked", a=0.3, b=0.9)
    half = WEEK.start + (WEEK.end - WEEK.start) / 2
    choose(watched_lite, "p", Window(WEEK.start, half), a=0.5)
    choose(watched_lite, "q", Window(half - timedelta(hours=1), WEEK.end), b=0.5)
    with pytest.raises(DataError, match="chose from the same hours"):
        ask(watched_lite, picked=True)


def draw(scene: Scene, name: str, window: Window, rate: float, *requests: str, routes: Any = LIVE_ROUTES) -> None:
    """Note a pick that drew audits."""
    engine = scene.engine
    found = labelled_in(engine, "resunet", WEEK)
    answers = {row.request_id: row.answer_id for row in found.rows}
    drawn = [PickedAnswer(answers[one], "audit", rate, "drawn at random") for one in requests]
    add_picks(engine, Pick(name, "resunet", window.start, window.end, NOON), drawn, AuditDraw("3", routes, rate))
    engine.dispose()


BUSY, QUIET = Window(at(3), at(2)), Window(at(2), at(1))


def two_days(scene: Scene) -> tuple[list[str], list[str]]:
    """Twelve audits of a good day, and twelve of a bad one."""
    busy, quiet = [f"busy{place}" for place in range(12)], [f"quiet{place}" for place in range(12)]
    scene.answer(*busy, event_time=at(2.5))
    scene.answer(*quiet, event_time=at(1.5))
    label(scene, **dict.fromkeys(busy, 0.9), **dict.fromkeys(quiet, 0.3))
    return busy, quiet


def test_a_bad_quiet_day_counts_as_its_images_and_not_as_its_audits(watched: Scene) -> None:
    busy, quiet = two_days(watched)
    draw(watched, "busy", BUSY, 0.0012, *busy)
    draw(watched, "quiet", QUIET, 0.12, *quiet)
    (found,) = ask(watched)
    wanted = (100 * 0.9 + 0.3) / 101
    assert found.weighted and found.images == 24 and found.dice.mean == pytest.approx(wanted)
    # Twelve images say what the busy day was: no more than twelve alone would.
    assert 0.6 < found.dice.low < 0.7 and wanted < found.dice.high < 0.96
    # The busy day alone has one rate.
    (alone,) = ask(watched, BUSY)
    assert not alone.weighted and alone.dice.mean == pytest.approx(0.9)
    engine = watched.engine
    told = read_dice(engine, "resunet", WEEK.start, WEEK.end)
    engine.dispose()
    assert (told.versions[0].mean, told.versions[0].high) == (pytest.approx(wanted), pytest.approx(found.dice.high))
    assert [bit.mean for bit in told.course] == [pytest.approx(0.9), pytest.approx(0.3)]
    shown = watched.typed("performance", "--until", WEEK.end.isoformat())
    assert "random audits, which were drawn at different rates" in " ".join(shown.out.split())


def test_audits_of_one_rate_and_of_none_count_alike(watched_lite: Scene) -> None:
    busy, quiet = two_days(watched_lite)
    (before,) = ask(watched_lite)
    draw(watched_lite, "busy", BUSY, 0.12, *busy)
    (partly,) = ask(watched_lite)
    told = watched_lite.typed("performance", "--until", WEEK.end.isoformat())
    assert "Not weighted: where one of 12 audits for which no probability of being chosen is on record" in told.out
    draw(watched_lite, "quiet", QUIET, 0.12, *quiet)
    (after,) = ask(watched_lite)
    assert before == partly == after and not after.weighted and after.dice.mean == pytest.approx(0.6)


def test_what_two_picks_could_have_drawn_was_drawn_by_one_or_the_other(watched_lite: Scene) -> None:
    busy, quiet = two_days(watched_lite)
    both = Window(BUSY.start, QUIET.end)
    draw(watched_lite, "first", both, 0.2, *busy, *quiet[:6])
    draw(watched_lite, "again", QUIET, 0.5, *quiet[6:])
    # Neither is about these images.
    draw(watched_lite, "batch", QUIET, 0.9, routes=("batch",))
    (found,) = ask(watched_lite)
    busy_weight, quiet_weight = 1 / 0.2, 1 / (1 - 0.8 * 0.5)
    wanted = (busy_weight * 0.9 + quiet_weight * 0.3) / (busy_weight + quiet_weight)
    assert found.dice.mean == pytest.approx(wanted)


def test_of_picks_of_an_earlier_release_the_rate_is_worked_out(watched: Scene) -> None:
    busy, quiet = two_days(watched)
    draw(watched, "busy", BUSY, 0.0012, *busy)
    draw(watched, "quiet", QUIET, 0.12, *quiet)
    (known,) = ask(watched)
    engine = watched.engine
    audit_draws.drop(engine)
    engine.dispose()
    (worked_out,) = ask(watched)
    assert worked_out.weighted and worked_out.dice == pytest.approx(known.dice)


def test_a_forgotten_request_is_in_no_figure(watched: Scene) -> None:
    watched.answer("a", "b")
    label(watched, "picked", a=0.3, b=0.9)
    choose(watched, "p", WEEK, a=0.5, b=0.5)
    engine = watched.engine
    forget(engine, watched.home, Subject("request", "a"), actor="ada", clock=lambda: NOON + timedelta(days=1))
    with engine.connect() as connection:
        left = connection.exec_driver_sql("SELECT COUNT(*) FROM picks").scalar()
    engine.dispose()
    assert left == 1
    assert [one.images for one in ask(watched, picked=True)] == [1]


def test_the_command_writes_page_sheet_matrix_and_figures(watched: Scene) -> None:
    png = bytes(cv2.imencode(".png", np.full((20, 20, 3), 90, np.uint8))[1])
    watched.answer("<b>kept", image=png, keep_images=1.0)
    watched.answer("b", slice="lung")
    watched.answer("no mask", mask_rle=None)
    rows = [
        {"request_id": "<b>kept", "mask": 5},
        {"request_id": "b", "mask": 10},
        {"request_id": "no mask", "dice": 0.9},
    ]
    assert watched.typed("label", "--csv", str(watched.csv(rows)), "--source", "audit").code == 0
    out = watched.folder / "out"
    done = watched.typed("performance", "--until", WEEK.end.isoformat(), "--by", "slice", "--out", str(out))
    assert done.code == 0, done.err
    assert "0.856" in done.out and "slice lung" in done.out

    figures = json.loads((out / "performance.json").read_text())
    assert figures["pixels"]["3"] == {"images": 2, "counts": [[400, 100], [0, 300]]}
    assert figures["measured"][0]["recall"] == {"mean": 1.0, "low": pytest.approx(0, abs=0.3), "high": 1.0}
    page = (out / "performance.html").read_text()
    assert "&lt;b&gt;kept" in page and "<b>kept" not in page and page.count("data:image/png") == 3
    assert page.index("&lt;b&gt;kept") < page.index("request no mask") and "no longer kept" in page
    assert cv2.imread(str(out / "worst.png")).shape[0] > 200
    assert (out / "confusion_3.png").stat().st_size > 5000
    _check_mlflow(watched)


def _check_mlflow(scene: Scene) -> None:
    client = MlflowClient(tracking_uri=scene.tracking_uri)
    experiment = client.get_experiment_by_name(scene.experiment)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'performance'")
    (course,) = client.search_runs([experiment.experiment_id], f"tags.{COURSE_TAG} != ''")
    assert course.info.run_name == "resunet: course of performance of version 3, 7d, canary, production, shadow"
    assert course.data.metrics == run.data.metrics
    assert run.info.status == "FINISHED" and run.data.tags["kind"] == "performance"
    assert run.data.metrics["performance.dice"] == pytest.approx((2 / 3 + 1 + 0.9) / 3)
    assert run.data.metrics["performance.slice lung.images"] == 1
    (point,) = client.get_metric_history(run.info.run_id, "performance.dice.low")
    assert point.timestamp == int(WEEK.end.timestamp() * 1000)
    # Nothing of a request, nothing of an image.
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"performance.json", "confusion_3.png"}
    assert not any("kept" in value for value in run.data.tags.values())


def runs_of(scene: Scene) -> dict[str, list[float]]:
    """Mean Dice of the runs, the oldest first, by the day on which their window ends."""
    client = MlflowClient(tracking_uri=scene.tracking_uri)
    experiment = client.get_experiment_by_name(scene.experiment)
    found: dict[str, list[float]] = {}
    if experiment is not None:
        ours = "tags.kind = 'performance'"
        for run in client.search_runs([experiment.experiment_id], ours, order_by=["attributes.start_time"]):
            day = run.data.tags["window_end"][:10]
            found.setdefault(day, []).append(round(run.data.metrics["performance.dice"], 3))
    return found


def test_rounds_keep_what_is_new_of_each_window_and_nothing_twice(watched_lite: Scene) -> None:
    asked = ("performance", "--windows", "3", "--window", "24h", "--until", NOON.isoformat())
    watched_lite.answer("old", "late", event_time=at(2.5))
    watched_lite.answer("new", event_time=at(0.5))
    none = watched_lite.typed(*asked)
    assert none.code == 0 and none.out.startswith("nothing to measure: the last 3 windows of 24h hold no labels")
    assert len(none.out.splitlines()) == 1 and runs_of(watched_lite) == {}
    label(watched_lite, old=0.2, new=0.8)
    first = watched_lite.typed(*asked)
    assert first.code == 0 and "2 of the last 3 windows of 24h hold labels that count, 2 runs with new" in first.out
    assert "version 3: Dice 0.800 (0.00–1.00) on 1 images" in first.out
    days = [(NOON - timedelta(days=days)).date().isoformat() for days in (2, 0)]
    assert runs_of(watched_lite) == {days[0]: [0.2], days[1]: [0.8]}
    assert "0 runs with new figures" in watched_lite.typed(*asked).out
    label(watched_lite, late=0.4)
    assert "1 runs with new figures" in watched_lite.typed(*asked).out
    assert runs_of(watched_lite) == {days[0]: [0.2, 0.3], days[1]: [0.8]}
    # Corrected, and back again: those figures stood in a run before, and not in the last one.
    for new in (0.6, 0.8):
        label(watched_lite, new=new)
        assert "1 runs with new figures" in watched_lite.typed(*asked).out
    assert runs_of(watched_lite)[days[1]] == [0.8, 0.6, 0.8]
    refused = watched_lite.typed(*asked, "--out", str(watched_lite.folder / "out"))
    assert refused.code == 2 and "--out is for one window" in refused.err
    endless = watched_lite.typed("performance", "--windows", "366", "--window", "3650d")
    assert endless.code == 2 and "366 windows of 3650d begin before year 1" in endless.err


def test_a_window_without_labels_says_what_to_do(watched_lite: Scene) -> None:
    asked = ("performance", "--until", WEEK.end.isoformat())
    for answers, source, told in (
        ([], None, "holds no answers of resunet"),
        (["a"], None, "no label of them. Choose images with `python -m monitoring pick`"),
        ([], "client", "(1 client)"),
    ):
        if answers:
            watched_lite.answer(*answers)
        if source:
            label(watched_lite, source, a=0.5)
        done = watched_lite.typed(*asked)
        assert done.code == 2 and told in done.err, done.err
    assert np.any(ANSWERED)
    of_another = watched_lite.typed(*asked, "--version", "9")
    assert of_another.code == 2 and "holds no answers of version 9 of" in of_another.err
    early = watched_lite.typed("performance", "--until", "9999-01-01")
    assert early.code == 2 and "is in the future" in early.err
    assert watched_lite.typed(*asked, "--route", "back door").code == 2
    assert watched_lite.typed(*asked, "--by", "hour").code == 2

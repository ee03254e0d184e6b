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
from records.picks import Pick, PickedAnswer, add_picks
from records.subject import Subject
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
    assert watched_lite.typed(*asked, "--route", "back door").code == 2
    assert watched_lite.typed(*asked, "--by", "hour").code == 2

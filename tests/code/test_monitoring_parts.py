"""Which slices bear a drift, which versions see otherwise: rows that were drawn, the real judge, the real log."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sketch_scene import END, START, log, rows
from sqlalchemy import Engine

from monitoring.answer import Question
from monitoring.drift import ColumnDrift, Drift, Rule, TestResult
from monitoring.families import ANSWER, make_families
from monitoring.judge import judge
from monitoring.live import LIVE_ROUTES, OTHER_VERSIONS, RowCounts
from monitoring.parts.as_json import as_json
from monitoring.parts.blame import blame
from monitoring.parts.breakdown import Breakdown, LookedAt, divide
from monitoring.parts.names import LONGEST, NO_SLICE, shown
from monitoring.parts.pairs import same_images
from monitoring.parts.slices import FEWEST, MOST_SHOWN, SliceDrift, Slices
from monitoring.parts.words import sentences, slice_rows
from monitoring.sampling import sample_rows
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.engines import make_engine
from records.log_database import open_log
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

VERSION = WatchedVersion("resunet", "3", "sha256:a")
WINDOW = Window(START, END)
# Nothing of it is read where the rows are at hand.
NOT_ASKED = make_engine("sqlite:///nowhere/records.db")
NAMES = [*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS]


def reference(count: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    known = pd.DataFrame(rng.normal(50, 4, (count, len(NAMES))), columns=NAMES)
    known["split"] = np.where(np.arange(count) < count * 2 // 3, "train", "test")
    known["path"] = [f"{place}.png" for place in range(count)]
    known.loc[known["split"] == "train", list(PREDICTION_DESCRIPTORS)] = np.nan
    return known


def window(sizes: Mapping[str | None, int], moved: Mapping[str | None, Mapping[str, float]]) -> pd.DataFrame:
    """So many images of each slice; `moved` adds standard deviations to descriptors of some."""
    rng, frames = np.random.default_rng(1), []
    for name, count in sizes.items():
        frame = pd.DataFrame(rng.normal(50, 4, (count, len(NAMES))), columns=NAMES)
        for column, shift in moved.get(name, {}).items():
            frame[column] += 4 * shift
        frame["slice"] = pd.Series([name] * count, dtype=object)
        frames.append(frame)
    live = pd.concat(frames, ignore_index=True)
    live[ANSWER] = [f"{place:x}" for place in range(len(live))]
    return live.assign(image_digest=None, request_id=live[ANSWER])


def divided(live: pd.DataFrame, known: pd.DataFrame | None = None) -> tuple[Drift, Breakdown]:
    known = reference() if known is None else known
    families, _ = make_families(known, live, min_live=20)
    drift = judge(families, Rule())
    looked_at = LookedAt(known, live, tuple(families), RowCounts(len(live)))
    return drift, divide(Question(VERSION, WINDOW), drift, looked_at, NOT_ASKED)


def test_two_slices_that_have_drifted_of_four_are_named_together() -> None:
    moved = {"b": {"brightness": 3.0}, "d": {"brightness": 3.0}}
    drift, found = divided(window(dict.fromkeys("abcd", 40), moved))
    assert [column.column for column in drift.moved] == ["brightness"]
    assert found.blame is not None
    assert (found.blame.kind, set(found.blame.names), found.blame.rest) == ("all", {"b", "d"}, "no drift")
    assert sum(one.part or 0 for one in found.slices.shown) == pytest.approx(1)
    assert "all of it is in slices" in sentences(found)[0]
    assert "(50% of the images): without them none of the descriptors moved" in sentences(found)[0]


def test_where_all_slices_have_drifted_none_is_blamed() -> None:
    everywhere = {name: {"brightness": 2.0} for name in "abc"}
    drift, found = divided(window({"a": 100, "b": 30, "c": 30}, everywhere))
    assert drift.verdict == "drift"
    assert found.blame is not None
    assert (found.blame.kind, found.blame.names) == ("alike", ())
    assert sentences(found) == ["By slice: none stands out, each bears about its share of the drift."]
    for one in found.slices.shown:
        assert one.part == pytest.approx(one.share, abs=0.1)
        assert [move.column for move in one.moves] == ["brightness"]


def test_a_slice_whose_rest_drifted_too_bears_most_of_it_and_not_all() -> None:
    moved = {"a": {"brightness": 6.0}, "b": {"brightness": 0.8}}
    _, found = divided(window({"a": 60, "b": 120}, moved))
    assert found.blame is not None
    assert (found.blame.kind, found.blame.names) == ("most", ("a",))
    assert "most of it is in slice a: 33% of the images" in sentences(found)[0]


def test_a_window_without_drift_blames_nobody_and_has_no_parts_though_its_slices_differ() -> None:
    known = reference()
    known["brightness"] += np.where(np.arange(len(known)) % 2, 20.0, 0.0)
    live = window({"a": 60, "b": 60}, {"b": {"brightness": 5.0}})
    drift, found = divided(live, known)
    assert drift.verdict == "no drift"
    assert found.blame is None
    assert sentences(found) == []
    assert {one.part for one in found.slices.shown} == {None}
    # What differs is told to whoever looks, as that: not as an alarm.
    assert [move.column for one in found.slices.shown for move in one.moves] == ["brightness", "brightness"]


def test_a_slice_is_compared_with_the_reference_s_images_of_the_same_slice_where_there_are_some() -> None:
    known = reference()
    bright = np.arange(len(known)) % 4 == 0
    known["brightness"] += np.where(bright, 40.0, 0.0)
    known["slices"] = [frozenset({"site=B"} if it else {"site=A"}) for it in bright]
    live = window({"site=A": 40, "site=B": 80}, {"site=B": {"brightness": 10.0}})
    drift, found = divided(live, known)
    assert drift.verdict == "drift"
    b = next(one for one in found.slices.shown if one.name == "site=B")
    # It looks as it always did: there is more of it.
    assert (b.own, b.moves) == (True, ())
    assert b.reference_share == pytest.approx(0.25)
    assert slice_rows(found.slices)[0][:3] == ("site=B", "80", "67% (trained on 25%)")
    assert slice_rows(found.slices)[0][4] == "like the reference of the same slice, as far as chance lets see"


def test_slices_of_few_images_are_counted_and_those_of_some_are_not_compared() -> None:
    names: dict[str | None, int] = {f"patient {place}": 1 for place in range(3_000)}
    live = window(names | {"small": FEWEST, None: 40}, {None: {"brightness": 4.0}})
    families, _ = make_families(reference(), live, min_live=20)
    drift = judge(families, Rule())
    found = divide(
        Question(VERSION, WINDOW),
        drift,
        LookedAt(reference(), live, tuple(families), RowCounts(len(live))),
        NOT_ASKED,
    )
    assert [one.name for one in found.slices.shown] == [None, "small"]
    assert (found.slices.more, found.slices.more_rows, found.slices.small) == (3_000, 3_000, 3_000)
    told = slice_rows(found.slices)
    assert told[0][0] == NO_SLICE
    assert told[1][4] == "too few images to compare by themselves"
    assert told[2] == ("3,000 more", "3,000", "", "", "3,000 of them with too few images to be named")
    assert "patient" not in json.dumps(as_json(found))


def test_of_many_slices_as_many_are_shown_as_can_be_read() -> None:
    _, found = divided(window({f"site {place}": 6 for place in range(40)}, {}))
    assert len(found.slices.shown) == MOST_SHOWN
    assert (found.slices.more, found.slices.more_rows) == (32, 192)


def test_images_like_none_of_the_reference_are_of_the_slice_that_holds_them() -> None:
    far = {name: 5.0 * (-1) ** place for place, name in enumerate(IMAGE_DESCRIPTORS)}
    drift, found = divided(window({"a": 40, "b": 8}, {"b": far}))
    assert [test.name for test in drift.alarms] == ["strangers"]
    assert found.slices.shown[0].name == "b"
    assert [one.part for one in found.slices.shown] == [1.0, 0.0]
    assert found.blame is not None
    assert (found.blame.kind, found.blame.names) == ("all", ("b",))


def test_the_rest_that_is_too_small_to_judge_acquits_nobody() -> None:
    def one(name: str, share: float, part: float) -> SliceDrift:
        return SliceDrift(name, int(100 * share), share, None, part, True, (), False)

    slices = Slices((one("a", 0.6, 0.95), one("b", 0.4, 0.05)))
    column = ColumnDrift("brightness", "input", 0.001, 0.9, 3.0, 50, 60, 1.0, 100, 50, True)
    drift = Drift("drift", Rule(), (column,), (TestResult("input", "gaps", 0.001, 0.9, 0.01, True),))
    for rest, kind, verdict in (
        (None, "most", "too few rows"),
        (drift, "most", "drift"),
        (replace(drift, verdict="no drift"), "all", "no drift"),
    ):
        found = blame(slices, lambda names, rest=rest: rest)  # type: ignore[misc]
        assert found is not None
        assert (found.kind, found.rest, found.names) == (kind, verdict, ("a",))


def test_a_rest_that_passes_only_because_it_is_smaller_is_not_acquitted() -> None:
    def one(name: str, share: float, part: float) -> SliceDrift:
        return SliceDrift(name, int(100 * share), share, None, part, True, (), False)

    found = blame(Slices((one("a", 0.5, 0.6), one("b", 0.5, 0.4))), lambda names: Drift("no drift", Rule()))
    assert found is not None
    assert (found.kind, found.names) == ("alike", ())


def test_a_name_is_one_short_plain_line() -> None:
    assert shown("site=Köln, ward 3") == "site=Köln, ward 3"
    assert shown("http://127.0.0.1/x") == "http:··127.0.0.1/x"
    hostile = shown("</script><b>\n\x1b[31m[red]|`![x](http://x)` \u202e" + 10_000 * "x")
    assert len(hostile) == LONGEST
    assert not set(hostile) & set('<>&\n\x1b[]|`!\u202e"\\')


def twins(count: int) -> list[Any]:
    """Answers of version 3 to clients, and of version 4 in its shadow, which finds twice the foreground."""
    made = []
    for version, digest, route in (("3", "sha256:a", "production"), ("4", "sha256:b", "shadow")):
        for row in rows(count, status="ok", model_version=version, model_digest=digest, route=route):
            same = {"event_time": START + timedelta(minutes=len(made) % count), "image_digest": row.request_id}
            numbers = dict.fromkeys(IMAGE_DESCRIPTORS, 100.0) | {"brightness": float(len(made) % count)}
            seen = dict.fromkeys(PREDICTION_DESCRIPTORS, 0.5)
            seen["foreground_fraction"] = (0.1 if version == "3" else 0.2) + 0.001 * (len(made) % count)
            made.append(replace(row, descriptors=numbers, prediction_descriptors=seen, **same))
    return made


def looked_at(engine: Engine, counts: RowCounts) -> tuple[Drift, LookedAt]:
    wanted = (*NAMES, ANSWER, "request_id", "image_digest", "slice")
    live = sample_rows(engine, VERSION, WINDOW, routes=LIVE_ROUTES, columns=wanted, limit=10_000, seed=0)
    families, _ = make_families(reference(), live, min_live=20)
    return judge(families, Rule()), LookedAt(reference(), live, tuple(families), counts)


def test_another_version_on_the_same_images_shows_what_is_the_version_s(database_url: str, tmp_path: Path) -> None:
    made = twins(60)
    # A client that uses ids again: under the same ones version 4 got other images.
    made[60:65] = [replace(row, image_digest="another") for row in made[60:65]]
    log(database_url, tmp_path / "home", made)
    engine = open_log(database_url)
    drift, those = looked_at(engine, RowCounts(60, {OTHER_VERSIONS: 60}))
    pairs = same_images(engine, VERSION, WINDOW, those.live, routes=LIVE_ROUTES)
    assert len(pairs) == 55
    assert len(same_images(engine, VERSION, WINDOW, those.live, routes=["canary"])) == 0
    (other,) = divide(Question(VERSION, WINDOW), drift, those, engine).versions
    assert (other.version, other.rows, other.same_images, other.images) == ("4", 60, 55, ())
    different = {one.column: (one.watched, one.other) for one in other.predictions if one.differs}
    assert list(different) == ["foreground_fraction"]
    assert different["foreground_fraction"] == pytest.approx((0.132, 0.232))
    (said,) = sentences(Breakdown(versions=(other,)))
    assert said == (
        "Version 4 sees the same images otherwise (on 55 same images: foreground_fraction 0.132 → 0.232 of pixels): "
        "that is the versions' difference, whatever the images are."
    )
    engine.dispose()


def test_of_more_rows_than_are_sampled_the_sums_of_all_tell_the_slices(database_url: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    made = [
        replace(
            row,
            image_digest=row.request_id,
            descriptors=dict(
                zip(IMAGE_DESCRIPTORS, rng.normal(70 if row.slice == "ward=b" else 50, 4, 18), strict=True)
            ),
        )
        for row in rows(120, status="ok", model_version="3", model_digest="sha256:a", route="production")
    ]
    log(database_url, tmp_path / "home", made)
    engine = open_log(database_url)
    drift, those = looked_at(engine, RowCounts(120))
    assert drift.verdict == "drift"
    exact = divide(Question(VERSION, WINDOW), drift, those, engine).slices
    sample = replace(those, live=those.live[:50])
    summed = divide(Question(VERSION, WINDOW, sample_rows=50), drift, sample, engine).slices
    assert {one.name: one.rows for one in summed.shown} == {None: 40, "ward=a": 40, "ward=b": 40}
    for one, other in zip(exact.shown, summed.shown, strict=True):
        assert (one.name, one.rows, one.share) == (other.name, other.rows, other.share)
        assert one.part == pytest.approx(other.part, abs=0.05)
        assert [move.column for move in one.moves][:1] == [move.column for move in other.moves][:1]
        if one.moves:
            assert other.moves[0].live_mean == pytest.approx(one.moves[0].live_mean)
            assert other.moves[0].effect <= one.moves[0].effect + 1e-9
    engine.dispose()

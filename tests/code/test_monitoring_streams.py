"""Statistics of a window from its sketches are those of its rows."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch_scene import END, START, clear, held, log, rows
from sqlalchemy import Engine, event, func, select

from monitoring.judge import effect
from monitoring.live import LIVE_ROUTES
from monitoring.sampling import sample_rows
from monitoring.streams import read_stream
from monitoring.summary import Summary
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.log_database import open_log
from records.schema import predictions
from records.sketch import Sketch
from records.sketch_bins import COLUMNS

VERSION = WatchedVersion("resunet", "3", "sha256:a")
# Two whole hours, and ragged ends of 40 and 10 minutes.
RAGGED = Window(START + timedelta(minutes=20), START + timedelta(hours=3, minutes=10))


def rows_in(engine: Engine, window: Window) -> int:
    time = predictions.c.event_time
    with engine.connect() as connection:
        mine = predictions.c.model_name == "resunet", time >= window.start, time < window.end
        return connection.scalar(select(func.count()).where(*mine)) or 0


def assert_as_the_rows(summary: Summary, frame: pd.DataFrame) -> None:
    assert summary.rows == len(frame)
    for name in COLUMNS:
        column, known = summary[name], frame[name].dropna().to_numpy()
        assert (column.count, column.missing) == (len(known), len(frame) - len(known))
        np.testing.assert_allclose([column.mean, column.std], [known.mean(), known.std()], rtol=1e-9)
        assert (column.minimum, column.maximum) == (known.min(), known.max())
        for share in (0.0, 0.25, 0.5, 0.99, 1.0):
            true = np.quantile(known, share, method="inverted_cdf")
            estimate = column.quantile(share)
            assert estimate.low <= true <= estimate.high and estimate.low <= estimate.value <= estimate.high
        assert column.quantile(1.0).value == known.max()


def test_a_window_of_any_ends_is_summed_up_as_its_rows_are(database_url: str, tmp_path: Path) -> None:
    log(database_url, tmp_path / "home", rows(300), drains=2)
    engine = open_log(database_url)
    stream = read_stream(engine, "resunet", RAGGED)
    everything: dict[str, Any] = {"columns": (*COLUMNS, "slice"), "limit": 1000, "seed": 0}
    frame = sample_rows(engine, VERSION, RAGGED, routes=LIVE_ROUTES, **everything)
    assert 60 < len(frame) < 130
    assert_as_the_rows(stream.of(VERSION, LIVE_ROUTES), frame)
    by_slice = stream.by("slice", VERSION, LIVE_ROUTES)
    assert by_slice.keys() == {None, "ward=a", "ward=b"}
    for name, summary in by_slice.items():
        assert_as_the_rows(summary, frame[frame["slice"].isna() if name is None else frame["slice"] == name])
    for route, summary in stream.by("route", VERSION, LIVE_ROUTES).items():
        theirs = sample_rows(engine, VERSION, RAGGED, routes=[str(route)], **everything)
        assert_as_the_rows(summary, theirs)
    counts = stream.counts(VERSION, LIVE_ROUTES)
    assert counts.compared == len(frame)
    assert counts.compared + sum(counts.left_out.values()) == rows_in(engine, RAGGED)
    assert set(stream.by("model_version", None, LIVE_ROUTES)) == {"3", "4"}
    engine.dispose()


@pytest.mark.parametrize("length", [timedelta(minutes=7), timedelta(minutes=80), timedelta(0)])
def test_a_window_without_a_whole_hour_is_summed_up_from_its_rows(tmp_path: Path, length: timedelta) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    log(url, tmp_path / "home", rows(200))
    engine = open_log(url)
    window = Window(START + timedelta(minutes=30), START + timedelta(minutes=30) + length)
    counts = read_stream(engine, "resunet", window).counts(VERSION, LIVE_ROUTES)
    asked: dict[str, Any] = {"columns": COLUMNS, "limit": 1000, "seed": 0}
    assert counts.compared == len(sample_rows(engine, VERSION, window, routes=LIVE_ROUTES, **asked))
    assert counts.compared + sum(counts.left_out.values()) == rows_in(engine, window)
    engine.dispose()


def test_rows_of_whole_hours_are_not_read_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    log(url, tmp_path / "home", rows(200))
    engine = open_log(url)
    read = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_c: Any, _u: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "predictions.brightness" in statement:
            read.append(tuple(value for value in parameters if ":" in str(value)))

    read_stream(engine, "resunet", RAGGED)
    assert [tuple(text[11:16] for text in times) for times in read] == [("10:20", "11:00"), ("13:00", "13:10")]
    clear(engine)
    read_stream(engine, "resunet", RAGGED)
    assert {key.hour for key in held(engine)} == {START + timedelta(hours=1), START + timedelta(hours=2)}
    read_stream(engine, "resunet", Window(START, END))
    read.clear()
    whole = read_stream(engine, "resunet", Window(START, END))
    assert read == [] and sum(sketch.rows for sketch in whole.groups.values()) == 200
    engine.dispose()


numbers = st.floats(-10, 300, allow_nan=False) | st.sampled_from([0.0, 2.0, 254.0, 255.0])


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=40), st.lists(numbers, min_size=1, max_size=40))
def test_the_gap_bounds_the_statistic_of_kolmogorov_and_smirnov(live: list[float], reference: list[float]) -> None:
    values = np.full((len(live), len(COLUMNS)), np.nan)
    values[:, COLUMNS.index("brightness")] = live
    column = Summary(Sketch.of(values))["brightness"]
    gap = column.gap(np.array([*reference, np.nan]))
    true = effect(np.array(reference), np.array(live))
    assert gap.effect <= true + 1e-12 and true <= gap.most + 1e-12
    assert gap.effect == pytest.approx(abs(np.mean(np.array(live) <= gap.at) - np.mean(np.array(reference) <= gap.at)))
    edges, counts = column.histogram()
    assert counts.sum() == len(live) and len(edges) == len(counts) + 1 and (np.diff(edges) >= 0).all()


def test_of_no_values_nothing_is_said() -> None:
    column = Summary(Sketch.of(np.full((3, len(COLUMNS)), np.nan)))["confidence"]
    assert (column.count, column.missing) == (0, 3)
    said = [column.mean, column.std, column.minimum, column.quantile(0.5).value, column.gap(np.ones(2)).effect]
    assert np.isnan(said).all() and column.histogram()[0].size == 0

"""A sample of a window is bounded, uniform and the same each time, and is found without reading the window."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from records_rows import NOON, answer
from scipy import stats
from sketch_scene import END, START, log, rows
from sqlalchemy import Engine, event

from monitoring import sampling
from monitoring.live import LIVE_ROUTES, why_not_compared
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.log_database import open_log
from records.new_rows import insert_new
from records.rows import answer_id
from records.schema import predictions
from records.window import read_window

VERSION = WatchedVersion("resunet", "3", "sha256:a")
WINDOW = Window(START + timedelta(minutes=20), END)
COLUMNS = ("request_id", "event_time", "brightness", "confidence", "model_version", "status")


def sample(engine: Engine, limit: int, seed: int = 0, **changes: Any) -> Any:
    asked: dict[str, Any] = {"routes": LIVE_ROUTES, "columns": COLUMNS, "version": VERSION, "window": WINDOW}
    asked |= changes
    return sampling.sample_rows(engine, **asked, limit=limit, seed=seed)


def compared(engine: Engine, version: WatchedVersion) -> pd.DataFrame:
    """Every row of the window that counts, by reading all of them."""
    frame = pd.concat(read_window(engine, WINDOW.start, WINDOW.end, version.name))
    counts = [
        why_not_compared(version, LIVE_ROUTES, row.model_version, row.model_digest, row.route, row.status) is None
        for row in frame.itertuples()
    ]
    return frame[counts].reset_index(drop=True)


def test_it_draws_from_the_rows_that_are_compared_and_gives_all_of_them_where_they_are_few(
    database_url: str, tmp_path: Path
) -> None:
    log(database_url, tmp_path / "home", rows(300))
    log(database_url, tmp_path / "home", rows(50, mark="foreign", seed=1, model_version="3", model_digest="sha256:x"))
    log(database_url, tmp_path / "home", rows(20, mark="unknown", seed=2, model_version="3", model_digest=""))
    engine = open_log(database_url)
    for version in (VERSION, WatchedVersion("resunet", "3", None)):
        asked: dict[str, Any] = {"routes": LIVE_ROUTES, "columns": COLUMNS, "limit": 1000, "seed": 0}
        expected = compared(engine, version)
        found = sampling.sample_rows(engine, version, WINDOW, **asked)
        assert len(found) > 50
        assert found.equals(expected[list(COLUMNS)])
        part = sampling.sample_rows(engine, version, WINDOW, **asked | {"limit": 30})
        assert len(part) == 30 and part["event_time"].is_monotonic_increasing
        assert set(part["request_id"]) < set(expected["request_id"])
        assert part.equals(sampling.sample_rows(engine, version, WINDOW, **asked | {"limit": 30}))
    assert set(sample(engine, 30, seed=1)["request_id"]) != set(sample(engine, 30, seed=2)["request_id"])
    empty = sample(engine, 30, window=Window(END, END + timedelta(days=1)))
    assert empty.shape == (0, len(COLUMNS)) and empty["brightness"].dtype == "float64"
    engine.dispose()


def test_each_row_has_the_same_chance_at_any_time_of_the_window(tmp_path: Path) -> None:
    """Of 150 models with 30 rows each 6 are drawn: whichever place in the window, about 30 times."""
    models, many, limit = 150, 30, 6
    engine = open_log(f"sqlite:///{tmp_path}/records.db")
    blank = dict.fromkeys(predictions.c.keys()) | {"model_version": "3", "model_digest": "", "status": "ok"}
    made = []
    for model in range(models):
        for place in range(many):
            values = {**blank, "model_name": f"m{model}", "request_id": str(place), "route": "production"}
            values |= {"image_digest": str(model), "event_time": NOON + timedelta(seconds=place)}
            made.append(values | {"answer_id": answer_id(values)})
    with engine.begin() as connection:
        assert len(insert_new(connection, made)) == models * many
    times = np.zeros(many)
    for model in range(models):
        version = WatchedVersion(f"m{model}", "3", None)
        drawn = sample(engine, limit, version=version, columns=("request_id",))["request_id"].astype(int)
        assert len(drawn) == limit == drawn.nunique()
        times[drawn] += 1
    engine.dispose()
    assert stats.chisquare(times).pvalue > 0.001
    assert stats.chisquare(times.reshape(6, -1).sum(axis=1)).pvalue > 0.001


def test_ids_are_uniform_whatever_the_rows_say() -> None:
    made = [row for seed in range(3) for row in rows(700, mark=f"{seed}", seed=seed)]
    share = np.array([int(answer(row), 16) / 16**64 for row in made])
    assert stats.kstest(share, "uniform").pvalue > 0.001
    order = np.argsort([row.event_time.timestamp() for row in made])
    assert abs(stats.spearmanr(share[order], np.arange(len(made))).statistic) < 0.08


def test_the_window_is_not_read_only_its_index(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    log(url, tmp_path / "home", rows(300))
    engine = open_log(url)
    asked: list[tuple[str, Any]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_c: Any, _u: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    sample(engine, 10)
    steps = []
    with engine.connect() as connection:
        for statement, parameters in [one for one in asked if "answer_id" in one[0]]:
            steps += [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    reads = [step for step in steps if "predictions" in step]
    assert any("COVERING INDEX predictions_window" in step for step in reads)
    found_by_key = ("COVERING INDEX", "rowid=?", "answer_id=?")
    assert all(any(word in step for word in found_by_key) for step in reads), steps
    engine.dispose()


@pytest.mark.parametrize("limit", [0, 1])
def test_a_sample_of_nothing_or_of_one(tmp_path: Path, limit: int) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    log(url, tmp_path / "home", rows(40))
    engine = open_log(url)
    assert len(sample(engine, limit)) == limit
    engine.dispose()


def test_a_sample_of_chunks_is_bounded_ordered_and_repeatable() -> None:
    chunks = [pd.DataFrame({"at": np.arange(start, start + 70)}) for start in range(0, 700, 70)]
    sample = sampling.sample_chunks(chunks, 100, seed=1)["at"].to_numpy()
    assert sample.size == 100 == np.unique(sample).size
    assert (np.diff(sample) > 0).all()
    assert (sample == sampling.sample_chunks(chunks, 100, seed=1)["at"]).all()
    assert (sample != sampling.sample_chunks(chunks, 100, seed=2)["at"]).any()


def test_each_row_of_all_chunks_has_the_same_chance() -> None:
    chunks = [pd.DataFrame({"at": np.arange(start, start + 20)}) for start in range(0, 100, 20)]
    drawn = np.concatenate([sampling.sample_chunks(chunks, 10, seed)["at"].to_numpy() for seed in range(400)])
    share_of_chunk = np.histogram(drawn, bins=5, range=(0, 100))[0] / drawn.size
    assert np.allclose(share_of_chunk, 0.2, atol=0.03)


def test_copies_are_counted_in_the_whole_window(database_url: str, tmp_path: Path) -> None:
    # 60 rows of 20 images, and 30 of one that nobody knows; some are refused, or of another version or route.
    made = [replace(row, image_digest=f"image {place % 20}") for place, row in enumerate(rows(60, "copied"))]
    made += rows(30, "unknown", seed=1, image_digest=None)
    log(database_url, tmp_path / "home", made)
    engine = open_log(database_url)
    frame = sample(engine, 1000, columns=("image_digest",))
    known = frame["image_digest"].dropna()
    copies, count = sampling.count_copies(engine, VERSION, WINDOW, routes=LIVE_ROUTES)
    assert (copies, count) == (len(known) - known.nunique(), len(frame)) and copies > 3
    engine.dispose()

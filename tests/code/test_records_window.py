"""Reading the inference log back."""

from collections.abc import Iterator
from datetime import timezone

import numpy as np
import pandas as pd
import pytest
from records_rows import NOON, minutes, prediction
from sqlalchemy import Engine

from records.inference import InferenceLog, VersionActivity, count_window, read_window, versions_in_window
from records.log_database import open_log
from records.schema import predictions
from resunet.errors import RecordsError

HOUR = minutes(60)
FAR_EAST = timezone(HOUR * 11)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Ten rows a minute apart from noon, logged backwards, and some of another version, route and model."""
    folder = tmp_path_factory.mktemp("window")
    url = f"sqlite:///{folder}/records.db"
    log = InferenceLog.open(url, folder / "home")
    log.append([prediction(f"a{i}", event_time=NOON + minutes(i)) for i in reversed(range(10))])
    log.append([prediction(f"b{i}", event_time=NOON, model_version="4", model_digest="sha256:bb") for i in (2, 0, 1)])
    log.append([prediction("c", event_time=NOON, route="shadow", status="refused", descriptors={}, width=None)])
    log.append([prediction("d", event_time=NOON, model_name="liver")])
    assert log.close(deadline_s=60)
    engine = open_log(url)
    yield engine
    engine.dispose()


def ids(frames: Iterator[pd.DataFrame]) -> list[str]:
    return [request_id for frame in frames for request_id in frame["request_id"]]


def test_the_window_is_half_open_and_in_order_of_time(engine: Engine) -> None:
    assert ids(read_window(engine, NOON + minutes(2), NOON + minutes(5), "resunet")) == ["a2", "a3", "a4"]


def test_a_window_can_be_given_in_any_zone(engine: Engine) -> None:
    start, end = (time.astimezone(FAR_EAST) for time in (NOON + minutes(8), NOON + HOUR))
    assert ids(read_window(engine, start, end, "resunet")) == ["a8", "a9"]


def test_frames_are_bounded_and_together_complete(engine: Engine) -> None:
    frames = list(read_window(engine, NOON, NOON + HOUR, "resunet", "3", "production", chunk_rows=4))
    assert [len(frame) for frame in frames] == [4, 4, 2]
    assert ids(iter(frames)) == [f"a{i}" for i in range(10)]


def test_version_route_and_status_select(engine: Engine) -> None:
    window = (engine, NOON, NOON + HOUR, "resunet")
    assert ids(read_window(*window, model_version="4")) == ["b0", "b1", "b2"]
    assert ids(read_window(*window, route="shadow")) == ["c"]
    assert ids(read_window(*window, status="refused")) == ["c"]
    assert count_window(*window) == 14
    assert count_window(*window, status="ok") == 13


def test_columns_are_those_asked_for_with_stable_types(engine: Engine) -> None:
    (frame,) = read_window(engine, NOON, NOON + HOUR, "resunet", columns=["brightness", "event_time", "width"])
    assert list(frame.columns) == ["brightness", "event_time", "width"]
    assert [str(kind) for kind in frame.dtypes] == ["float64", "datetime64[ns, UTC]", "float64"]
    (refused,) = read_window(engine, NOON, NOON + HOUR, "resunet", route="shadow")
    assert list(refused.columns) == list(predictions.c.keys())
    assert np.isnan(refused["brightness"][0])
    assert refused["sharpness"].dtype == np.float64


def test_an_embedding_is_64_floats(engine: Engine) -> None:
    (frame,) = read_window(engine, NOON, NOON + minutes(1), "resunet", "3", "production", columns=["embedding"])
    assert np.frombuffer(frame["embedding"][0], "<f4").shape == (64,)


def test_an_empty_window_yields_nothing(engine: Engine) -> None:
    assert list(read_window(engine, NOON - HOUR, NOON, "resunet")) == []
    assert count_window(engine, NOON - HOUR, NOON, "resunet") == 0
    assert versions_in_window(engine, NOON - HOUR, NOON, "resunet") == []


def test_the_versions_that_answered_are_told_with_the_busiest_first(engine: Engine) -> None:
    assert versions_in_window(engine, NOON, NOON + HOUR, "resunet") == [
        VersionActivity("3", "sha256:aa", rows=11, refused=1),
        VersionActivity("4", "sha256:bb", rows=3, refused=0),
    ]
    assert versions_in_window(engine, NOON, NOON + HOUR, "resunet", route="shadow") == [
        VersionActivity("3", "sha256:aa", rows=1, refused=1)
    ]


def test_mistakes_are_told_before_anything_is_read(engine: Engine) -> None:
    with pytest.raises(RecordsError, match="no column colour"):
        read_window(engine, NOON, NOON + HOUR, "resunet", columns=["colour"])
    with pytest.raises(RecordsError, match="aware"):
        read_window(engine, NOON.replace(tzinfo=None), NOON, "resunet")

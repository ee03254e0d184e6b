"""Which rows of the inference log a report looks at."""

import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))

from drift_scene import NOON, Scene, draw_descriptors, post

from monitoring.live import LIVE_ROUTES, open_log
from monitoring.sampling import sample_rows
from monitoring.streams import read_stream
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.settings import RecordsSettings
from resunet.errors import RecordsError

DAY = Window(NOON - timedelta(days=1), NOON)
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene("", tmp_path, "").other_log("log")


def descriptors(count: int, seed: int = 0) -> pd.DataFrame:
    return draw_descriptors(np.random.default_rng(seed), count)


def test_rows_that_do_not_count_are_named(scene: Scene) -> None:
    version = WatchedVersion("resunet", "3", DIGEST)
    post(scene, descriptors(30), version="3", digest=DIGEST)
    post(scene, descriptors(6), version="3", route="canary")
    post(scene, descriptors(5), version="2", route="shadow")
    post(scene, descriptors(4), version="3", status="refused", digest=DIGEST)
    post(scene, descriptors(8), version="3", route="batch", digest=DIGEST)
    post(scene, descriptors(7), version="3", route="shadow", digest="sha256:" + "b" * 64)
    post(scene, descriptors(9), version="3", name="another", digest=DIGEST)
    post(scene, descriptors(3), version="3", route="canary", end=NOON - timedelta(days=2))

    engine = open_log(RecordsSettings(home=scene.home, inference_log=scene.log))
    day = read_stream(engine, "resunet", DAY)
    counts = day.counts(version, LIVE_ROUTES)
    rows = sample_rows(
        engine, version, DAY, routes=LIVE_ROUTES, columns=["brightness", "confidence"], limit=1000, seed=0
    )
    batch = day.counts(version, ["batch"])
    engine.dispose()

    assert counts.compared == 36 == len(rows)
    assert counts.left_out == {
        "refused images": 4,
        "rows of other bytes under the same version number": 7,
        "rows of other versions": 5,
        "rows on the route batch": 8,
    }
    assert list(rows) == ["brightness", "confidence"]
    assert rows.notna().all().all()
    assert batch.compared == 8


def test_refused_images_are_counted_by_their_route_from_rows_and_from_sums(scene: Scene) -> None:
    version = WatchedVersion("resunet", "3", DIGEST)
    for route, count in (("production", 5), ("canary", 3), ("batch", 4)):
        post(scene, descriptors(count), version="3", route=route, status="refused", digest=DIGEST)
    post(scene, descriptors(6), version="3", route="canary", digest=DIGEST)
    engine = open_log(RecordsSettings(home=scene.home, inference_log=scene.log))
    for routes, left_out in (
        (LIVE_ROUTES, {"refused images": 8, "rows on the route batch": 4}),
        (("canary",), {"refused images": 3, "rows on the route batch": 4, "rows on the route production": 5}),
        (("batch",), {"refused images": 4, "rows on the route canary": 9, "rows on the route production": 5}),
    ):
        assert read_stream(engine, "resunet", DAY).counts(version, routes).left_out == left_out
    engine.dispose()


def test_the_end_of_a_window_belongs_to_the_next(scene: Scene) -> None:
    post(scene, descriptors(1), version="3", end=NOON + timedelta(seconds=30))
    engine = open_log(RecordsSettings(home=scene.home, inference_log=scene.log))
    version = WatchedVersion("resunet", "3", None)
    assert read_stream(engine, "resunet", DAY).counts(version, LIVE_ROUTES).compared == 0
    next_day = Window(NOON, NOON + timedelta(days=1))
    assert read_stream(engine, "resunet", next_day).counts(version, LIVE_ROUTES).compared == 1
    engine.dispose()


def test_an_empty_window_gives_an_empty_frame(scene: Scene) -> None:
    engine = open_log(RecordsSettings(home=scene.home, inference_log=scene.log))
    version = WatchedVersion("resunet", "3", None)
    rows = sample_rows(engine, version, DAY, routes=LIVE_ROUTES, columns=["brightness"], limit=10, seed=0)
    engine.dispose()
    assert rows.shape == (0, 1)


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    with pytest.raises(RecordsError, match="RESUNET_INFERENCE_LOG"):
        open_log(RecordsSettings(home=tmp_path, inference_log=f"sqlite:///{path}"))
    assert not path.exists()

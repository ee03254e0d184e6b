"""One caller has all cores; many have one each, with the same answers, and large images wait their turn."""

import importlib.util
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow_state import mlflow_state_kept
from version_factory import draw, register_version, write_version
from waiting import until

from serving import crowd
from serving.batching import BatchingEngine
from serving.crowd import CrowdEngine, for_many
from serving.engine import Engine, Images, Output, open_engine
from serving.fetch import fetch_model
from serving.gateway.loading import Batching, load
from serving.predictor import Predictor
from serving.settings import ServingSettings
from serving.version import EngineName

ENGINES: list[EngineName] = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name)]
DEADLINE_S = 30.0
SMALL: Images = np.zeros((1, 16, 16, 3), np.uint8)
LARGE: Images = np.zeros((1, 512, 512, 3), np.uint8)


class Held:
    """An engine that notes each run and waits in it until it is let go."""

    name: EngineName = "onnxruntime"

    def __init__(self, fails: bool = False) -> None:
        self.runs, self._fails = 0, fails
        self.go = threading.Event()

    def run(self, images: Images) -> Output:
        self.runs += 1
        assert self.go.wait(DEADLINE_S), "nobody let this run go"
        if self._fails:
            raise RuntimeError("no")
        return np.zeros((1, 1, 1, 1), np.float32), np.zeros((1, 64), np.float32)


class Scene:
    def __init__(self, cores: int, pool: ThreadPoolExecutor) -> None:
        self.alone, self.crowd, self._pool = Held(), Held(), pool
        self.engine = CrowdEngine(self.alone, self.crowd, cores)

    def runs(self, *images: Images) -> tuple[int, int]:
        """Calls that stay, one after the other; how many are in each engine then."""
        for one in images:
            before = self._all()
            self._pool.submit(self.engine.run, one)
            until(lambda before=before: self._all() > before, seconds=DEADLINE_S, every=0.001)  # type: ignore[misc]
        return self.alone.runs, self.crowd.runs

    def _all(self) -> int:
        return self.alone.runs + self.crowd.runs

    def let_go(self) -> None:
        self.alone.go.set()
        self.crowd.go.set()


@contextmanager
def scene_of(cores: int) -> Iterator[Scene]:
    with ThreadPoolExecutor(32) as pool:
        scene = Scene(cores, pool)
        try:
            yield scene
        finally:
            scene.let_go()


@pytest.mark.parametrize(("cores", "alone"), [(2, 1), (4, 2), (16, 11)])
def test_calls_share_the_cores_from_when_there_are_enough_of_them(cores: int, alone: int) -> None:
    with scene_of(cores) as scene:
        assert scene.runs(*[SMALL] * (alone + 3)) == (alone, 3)


def test_large_images_have_all_cores_one_after_the_other() -> None:
    with scene_of(2) as scene:
        assert scene.runs(SMALL, LARGE, SMALL, LARGE) == (3, 1)


def test_who_is_alone_again_has_all_cores_again() -> None:
    with scene_of(2) as scene:
        scene.runs(SMALL, SMALL)
        scene.let_go()
    assert (scene.alone.runs, scene.crowd.runs) == (1, 1)
    scene.engine.run(SMALL)
    assert (scene.alone.runs, scene.crowd.runs) == (2, 1)


def test_a_call_that_failed_is_over() -> None:
    alone, many = Held(fails=True), Held()
    alone.go.set()
    engine = CrowdEngine(alone, many, 2)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            engine.run(SMALL)
    assert (alone.runs, many.runs) == (3, 0)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a version") / "version"
    write_version(root)
    return root


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("classes", [1, 3])
def test_an_answer_is_the_same_alone_and_in_a_crowd(name: EngineName, classes: int, tmp_path: Path) -> None:
    spec = write_version(tmp_path, classes)
    alone, many = (open_engine(name, tmp_path / spec.serving_file, spec.precision, 2 // n, n) for n in (1, 2))
    for number, side in enumerate((16, 97, 256)):
        image = draw(side, side + 13, seed=number)[None]
        expected, embedding = alone.run(image)
        with ThreadPoolExecutor(4) as pool:
            for probabilities, found in pool.map(many.run, [image] * 4):
                np.testing.assert_allclose(probabilities, expected, atol=1e-6)
                np.testing.assert_allclose(found, embedding, atol=1e-5)


def test_a_version_is_made_ready_for_many(version: Path) -> None:
    plain = Predictor.load(version, "onnxruntime", threads=2)
    many = for_many(plain, version, threads=2)
    assert isinstance(many.engine, CrowdEngine) and many.engine.name == "onnxruntime"
    rgb = draw(64, 80)
    with ThreadPoolExecutor(6) as pool:
        for prediction in pool.map(many.predict, [rgb] * 12):
            assert (prediction.mask == plain.predict(rgb).mask).all()


def test_one_core_is_not_shared(version: Path) -> None:
    plain = Predictor.load(version, "onnxruntime", threads=1)
    assert for_many(plain, version, threads=1) is plain


def test_an_engine_that_answers_otherwise_in_a_crowd_is_kept_from_it(
    version: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        name: EngineName = "onnxruntime"

        def __init__(self, inner: Engine) -> None:
            self._inner = inner

        def run(self, images: Images) -> Output:
            probabilities, embedding = self._inner.run(images)
            return 1 - probabilities, embedding

    plain = Predictor.load(version, "onnxruntime", threads=2)
    monkeypatch.setattr(crowd, "open_engine", lambda *where, **how: Wrong(open_engine(*where, **how)))
    with caplog.at_level(logging.WARNING):
        assert for_many(plain, version, threads=2) is plain
    assert "does not reproduce its golden mask" in caplog.text


def test_what_serves_is_ready_for_many_or_batches(version: Path, tmp_path: Path) -> None:
    tracking, uri = register_version(version, tmp_path / "store")
    with mlflow_state_kept():
        mlflow.set_tracking_uri(tracking)
        folder = fetch_model(uri, tmp_path / "fetched")
    settings = ServingSettings(engine="onnxruntime")
    for batching, kind in ((Batching(), CrowdEngine), (Batching(most=4), BatchingEngine)):
        assert isinstance(load(folder, settings, 2, batching).predictor.engine, kind)

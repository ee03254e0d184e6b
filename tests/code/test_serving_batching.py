"""Images that wait together run together: nobody's answer changes, no size starves, no failure strays."""

import importlib.util
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from version_factory import draw, make_spec, write_version
from waiting import until

from serving.batching import BatchingEngine, agrees
from serving.engine import Engine, Images, Output, open_engine
from serving.errors import BusyError
from serving.version import EngineName

ENGINES: list[EngineName] = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name)]
DEADLINE_S = 30.0
FOR_EVER = 1e6


class Held:
    """An engine that notes each run and waits in it until it is let go; what it gives says whose image it was."""

    name: EngineName = "onnxruntime"

    def __init__(self, inner: Engine | None = None) -> None:
        self.inner = inner
        self.runs: list[tuple[int, ...]] = []
        self.most_at_once = 0
        self.fails: Callable[[Images], BaseException | None] = lambda images: None
        self._here = 0
        self._lock = threading.Lock()
        self._go = threading.Semaphore(0)

    def let_go(self, runs: int = 1) -> None:
        self._go.release(runs)

    def run(self, images: Images) -> Output:
        with self._lock:
            self.runs.append(images.shape)
            self._here += 1
            self.most_at_once = max(self.most_at_once, self._here)
        try:
            assert self._go.acquire(timeout=DEADLINE_S), "nobody let this run go"
            if failure := self.fails(images):
                raise failure
            if self.inner is not None:
                return self.inner.run(images)
            probabilities = images[..., :1].transpose(0, 3, 1, 2).astype(np.float32)
            return probabilities, np.repeat(images[:, 0, 0, :1], 64, axis=1).astype(np.float32)
        finally:
            with self._lock:
                self._here -= 1


class Clock:
    """A clock that is set; `looks` counts who looked at it."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now


class Scene:
    """Calls from threads of their own, each in the queue before the next comes."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.held = Held()

    def engine(self, most: int = 4, wait_s: float = 0.0, lanes: int = 1, **more: Clock) -> BatchingEngine:
        return BatchingEngine(self.held, most, wait_s, lanes, **more)

    def runs(self, engine: BatchingEngine, images: Images) -> Future[Output]:
        """A call that is in the engine when this returns."""
        before = len(self.held.runs)
        call = self.pool.submit(engine.run, images)
        until(lambda: len(self.held.runs) > before, seconds=DEADLINE_S, every=0.001)
        return call

    def waits(self, engine: BatchingEngine, images: Images) -> Future[Output]:
        """A call that is in the queue when this returns."""
        before = engine.waiting
        call = self.pool.submit(engine.run, images)
        until(lambda: engine.waiting > before, seconds=DEADLINE_S, every=0.001)
        return call


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ThreadPoolExecutor(32) as pool:
        scene = Scene(pool)
        try:
            yield scene
        finally:
            scene.held.let_go(1000)  # a test that failed leaves no thread behind


def image(value: int, height: int = 16, width: int = 16) -> Images:
    return np.full((1, height, width, 3), value, np.uint8)


def answer(call: Future[Output]) -> int:
    """Whose image was answered."""
    probabilities, embedding = call.result(DEADLINE_S)
    assert probabilities.shape[0] == embedding.shape[0] == 1
    assert (probabilities == embedding[0, 0]).all()
    return int(embedding[0, 0])


@pytest.mark.parametrize("name", ENGINES)
def test_an_image_has_the_same_answer_in_company_as_alone(name: EngineName, tmp_path: Path, scene: Scene) -> None:
    spec = write_version(tmp_path / "version")
    plain = open_engine(name, tmp_path / "version" / spec.serving_file, spec.precision)
    scene.held.inner = plain
    engine = scene.engine(most=4)
    images = [draw(64, 80, seed)[None] for seed in range(5)]
    calls = [scene.runs(engine, images[0]), *(scene.waits(engine, one) for one in images[1:])]
    scene.held.let_go(2)
    for one, call in zip(images, calls, strict=True):
        probabilities, embedding = call.result(DEADLINE_S)
        alone, alone_embedding = plain.run(one)
        assert ((probabilities >= spec.threshold) == (alone >= spec.threshold)).mean() >= 0.9999
        np.testing.assert_allclose(probabilities, alone, atol=1e-3)
        np.testing.assert_allclose(embedding, alone_embedding, atol=1e-3)
    assert [shape[0] for shape in scene.held.runs] == [1, 4]


def test_a_run_has_at_most_so_many_images(scene: Scene) -> None:
    engine = scene.engine(most=3)
    calls = [scene.runs(engine, image(0)), *(scene.waits(engine, image(value)) for value in range(1, 6))]
    scene.held.let_go(3)
    assert [answer(call) for call in calls] == list(range(6))
    assert [shape[0] for shape in scene.held.runs] == [1, 3, 2]


def test_a_call_of_several_images_gets_all_of_them_back(scene: Scene) -> None:
    engine = scene.engine(most=3)
    first = scene.runs(engine, image(1))
    pair = scene.waits(engine, np.concatenate([image(2), image(3)]))
    too_many = scene.waits(engine, np.concatenate([image(value) for value in range(4, 9)]))
    last = [scene.waits(engine, image(value)) for value in (9, 10)]
    scene.held.let_go(4)
    assert answer(first) == 1
    assert pair.result(DEADLINE_S)[1][:, 0].tolist() == [2, 3]
    assert too_many.result(DEADLINE_S)[1][:, 0].tolist() == [4, 5, 6, 7, 8]
    assert [answer(call) for call in last] == [9, 10]
    # There was room for one beside the pair, but those before it could not join: nobody is passed by in a size.
    assert [shape[0] for shape in scene.held.runs] == [1, 2, 5, 2]


def test_large_images_have_no_company_so_that_memory_stays_bounded(scene: Scene) -> None:
    engine = scene.engine(most=8)
    calls = [scene.runs(engine, image(0)), *(scene.waits(engine, image(value, 512, 520)) for value in (1, 2))]
    calls += [scene.waits(engine, image(value, 512, 512)) for value in (3, 4)]
    scene.held.let_go(4)
    assert [answer(call) for call in calls] == list(range(5))
    assert [shape[0] for shape in scene.held.runs] == [1, 1, 1, 2]


def test_sizes_are_served_in_the_order_in_which_they_came(scene: Scene) -> None:
    engine = scene.engine(most=2)
    calls = [scene.runs(engine, image(0))]
    calls += [scene.waits(engine, image(1, 32)), scene.waits(engine, image(2))]
    calls += [scene.waits(engine, image(value, 32)) for value in (3, 4)]
    scene.held.let_go(4)
    assert [answer(call) for call in calls] == list(range(5))
    # 4 came behind 2: the third of its size does not pass the first of another.
    assert scene.held.runs == [(1, 16, 16, 3), (2, 32, 16, 3), (1, 16, 16, 3), (1, 32, 16, 3)]


def test_images_of_the_same_area_and_another_shape_do_not_mix(scene: Scene) -> None:
    engine = scene.engine()
    calls = [scene.runs(engine, image(0)), scene.waits(engine, image(1, 16, 32)), scene.waits(engine, image(2, 32, 16))]
    scene.held.let_go(3)
    assert [answer(call) for call in calls] == [0, 1, 2]
    assert len(scene.held.runs) == 3


def test_a_call_that_finds_a_free_lane_runs_at_once(scene: Scene) -> None:
    engine = scene.engine(wait_s=FOR_EVER, lanes=2)
    calls = [scene.runs(engine, image(0)), scene.runs(engine, image(1))]
    scene.held.let_go(2)
    assert [answer(call) for call in calls] == [0, 1]


def test_who_cannot_join_those_that_wait_ends_their_wait(scene: Scene) -> None:
    engine = scene.engine(most=2, wait_s=FOR_EVER)
    calls = [scene.runs(engine, image(0)), scene.waits(engine, image(1, 32))]
    calls += [scene.waits(engine, image(2)), scene.waits(engine, image(3))]
    scene.held.let_go(3)
    assert [answer(call) for call in calls] == [0, 1, 2, 3]


def test_no_more_runs_than_lanes_go_on_at_a_time(scene: Scene) -> None:
    engine = scene.engine(most=1, lanes=2)
    calls = [scene.runs(engine, image(0)), scene.runs(engine, image(1))]
    calls += [scene.waits(engine, image(value)) for value in range(2, 8)]
    scene.held.let_go(8)
    assert [answer(call) for call in calls] == list(range(8))
    assert scene.held.most_at_once == 2


def test_who_waits_for_companions_runs_when_the_run_is_full(scene: Scene) -> None:
    clock = Clock()
    engine = scene.engine(most=2, wait_s=FOR_EVER, clock=clock)
    first, second = scene.runs(engine, image(0)), scene.waits(engine, image(1))
    looks = clock.looks
    scene.held.let_go(1)
    assert answer(first) == 0
    until(lambda: clock.looks > looks, seconds=DEADLINE_S, every=0.001)  # it looked whether to go on waiting
    third = scene.pool.submit(engine.run, image(2))
    scene.held.let_go(1)
    assert (answer(second), answer(third)) == (1, 2)
    assert [shape[0] for shape in scene.held.runs] == [1, 2]


def test_runs_are_told_by_their_images_and_so_is_who_waits(scene: Scene) -> None:
    told = list[int]()
    engine = BatchingEngine(scene.held, most=4, wait_s=0.0, lanes=1, ran=told.append)
    calls = [scene.runs(engine, image(0)), *(scene.waits(engine, image(value)) for value in (1, 2, 3))]
    assert engine.waiting_images == 3
    scene.held.let_go(2)
    assert [answer(call) for call in calls] == [0, 1, 2, 3]
    assert told == [1, 3] and engine.waiting_images == 0


def test_who_waits_for_companions_that_do_not_come_runs_alone(scene: Scene) -> None:
    engine = scene.engine(most=2, wait_s=0.01)
    calls = [scene.runs(engine, image(0)), scene.waits(engine, image(1))]
    scene.held.let_go(2)
    assert [answer(call) for call in calls] == [0, 1]


def test_the_wait_counts_from_when_the_call_came(scene: Scene) -> None:
    clock = Clock()
    engine = scene.engine(most=2, wait_s=FOR_EVER, clock=clock)
    calls = [scene.runs(engine, image(0)), scene.waits(engine, image(1))]
    clock.now = FOR_EVER + 1  # all of it went by while the lane was taken
    scene.held.let_go(2)
    assert [answer(call) for call in calls] == [0, 1]


def test_who_waits_for_companions_looks_up_when_its_own_time_is_over(scene: Scene) -> None:
    clock = Clock()
    engine = scene.engine(most=2, wait_s=FOR_EVER, clock=clock)
    calls = [scene.runs(engine, image(0)), scene.waits(engine, image(1))]
    clock.now = FOR_EVER - 0.01  # the lane was taken for nearly all of it
    looks = clock.looks
    scene.held.let_go(2)
    assert answer(calls[0]) == 0
    until(lambda: clock.looks > looks + 2, seconds=DEADLINE_S, every=0.001)  # it waits for what is left, not for all
    assert len(scene.held.runs) == 1
    clock.now = FOR_EVER + 1
    assert answer(calls[1]) == 1


def test_a_failure_reaches_the_calls_of_its_run_and_no_other(scene: Scene) -> None:
    engine = scene.engine(most=2)
    scene.held.fails = lambda images: ValueError("no such kernel") if (images == 1).any() else None
    calls = [scene.runs(engine, image(0)), *(scene.waits(engine, image(value)) for value in (1, 2, 3, 4))]
    scene.held.let_go(3)
    assert [answer(calls[index]) for index in (0, 3, 4)] == [0, 3, 4]
    for failed in calls[1:3]:
        with pytest.raises(ValueError, match="no such kernel"):
            failed.result(DEADLINE_S)
    assert engine.waiting == 0


def test_nobody_hangs_when_the_thread_that_leads_is_ended(scene: Scene) -> None:
    engine = scene.engine(most=2)
    scene.held.fails = lambda images: SystemExit() if (images == 1).any() else None
    calls = [scene.runs(engine, image(0)), *(scene.waits(engine, image(value)) for value in (1, 2, 3))]
    scene.held.let_go(3)
    with pytest.raises(SystemExit):
        calls[1].result(DEADLINE_S)
    with pytest.raises(BusyError, match="send the request again"):
        calls[2].result(DEADLINE_S)
    assert (answer(calls[0]), answer(calls[3])) == (0, 3)


def test_memory_runs_out_in_one_call_alone(scene: Scene) -> None:
    """What goes wrong while images are put together is a failure of that run too."""
    engine = scene.engine(most=2)
    scene.held.fails = lambda images: MemoryError() if len(images) == 2 else None
    calls = [scene.runs(engine, image(0)), *(scene.waits(engine, image(value)) for value in (1, 2))]
    scene.held.let_go(2)
    for failed in calls[1:]:
        with pytest.raises(MemoryError):
            failed.result(DEADLINE_S)
    scene.held.let_go(1)
    assert answer(scene.pool.submit(engine.run, image(3))) == 3


def test_nothing_of_a_call_is_kept_when_it_is_answered(scene: Scene) -> None:
    engine = scene.engine(most=2)
    images = [image(value) for value in range(3)]
    kept = [weakref.ref(each) for each in images]
    calls = [scene.runs(engine, images[0]), *(scene.waits(engine, each) for each in images[1:])]
    scene.held.let_go(2)
    assert [answer(call) for call in calls] == [0, 1, 2]
    del images, calls
    until(lambda: not any(reference() is not None for reference in kept), seconds=DEADLINE_S, every=0.001)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("wait_s", [0.0, 0.001])
def test_many_threads_of_many_sizes_get_their_own_answers(lanes: int, wait_s: float, scene: Scene) -> None:
    engine = scene.engine(most=4, wait_s=wait_s, lanes=lanes)
    scene.held.let_go(10_000)
    start = threading.Barrier(16)

    def ask(number: int) -> list[int]:
        start.wait(DEADLINE_S)
        sizes = np.random.default_rng(number).integers(16, 19, 30)
        return [
            int(engine.run(image((number * 30 + index) % 251, int(side)))[1][0, 0]) for index, side in enumerate(sizes)
        ]

    for number, answers in enumerate(scene.pool.map(ask, range(16), timeout=DEADLINE_S)):
        assert answers == [(number * 30 + index) % 251 for index in range(30)]
    assert scene.held.most_at_once <= lanes
    assert engine.waiting == 0


def test_one_image_a_run_needs_no_measurement(scene: Scene) -> None:
    blank: NDArray[np.uint8] = np.zeros((16, 16, 3), np.uint8)
    assert agrees(scene.held, make_spec(), blank, most=1)
    assert not scene.held.runs

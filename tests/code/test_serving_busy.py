"""One request does not block the others: small ones have a lane, waiting ends, and so does work nobody waits for."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModelContext
from version_factory import draw, encode, make_spec, write_version
from waiting import until

from resunet.images import MAX_PIXELS
from serving.budget import SMALL_PIXELS, WorkBudget
from serving.errors import BusyError
from serving.pyfunc import SegmentationModel
from serving.scoring import RequestError, server_limit_s, server_threads

LARGE = SMALL_PIXELS + 1
DEADLINE_S = 20.0


def test_small_work_goes_on_while_large_work_takes_all() -> None:
    budget = WorkBudget(threads=6, wait_s=0)
    with budget.take(10 * MAX_PIXELS):
        with pytest.raises(BusyError, match="no turn came in 0 s"), budget.take(LARGE):
            pass
        with budget.take(SMALL_PIXELS), budget.take(SMALL_PIXELS):
            pass
    with budget.take(MAX_PIXELS):
        pass


def test_the_small_lane_is_bounded_too() -> None:
    budget = WorkBudget(threads=6, wait_s=0)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(budget.take(SMALL_PIXELS))
        with pytest.raises(BusyError), budget.take(1):
            pass


def test_turns_come_in_the_order_of_asking() -> None:
    budget, order = WorkBudget(threads=6, wait_s=DEADLINE_S), list[str]()

    def work(name: str, pixels: int) -> None:
        with budget.take(pixels):
            order.append(name)

    with ThreadPoolExecutor(3) as pool:
        with budget.take(MAX_PIXELS - LARGE):
            first = pool.submit(work, "all", MAX_PIXELS)
            until(lambda: len(budget._large._queue) == 1)
            second = pool.submit(work, "what is free", LARGE)
            until(lambda: len(budget._large._queue) == 2)
        first.result(DEADLINE_S)
        second.result(DEADLINE_S)
    assert order == ["all", "what is free"], "else small takers would starve a large one"


def test_who_gives_up_leaves_the_queue() -> None:
    budget = WorkBudget(threads=6, wait_s=0.01)
    with budget.take(MAX_PIXELS):
        for _ in range(3):
            with pytest.raises(BusyError), budget.take(LARGE):
                pass
    with budget.take(LARGE):
        pass


def test_a_wait_ends_at_the_request_s_deadline() -> None:
    budget = WorkBudget(threads=6, wait_s=DEADLINE_S)
    started = time.monotonic()
    with budget.take(MAX_PIXELS), pytest.raises(BusyError), budget.take(LARGE, started + 0.05):
        pass
    assert time.monotonic() - started < DEADLINE_S / 2


@pytest.mark.parametrize(("threads", "large"), [(1, 1), (5, 3), (6, 4), (12, 9), (32, 24)])
def test_large_requests_leave_threads_for_small_ones(threads: int, large: int) -> None:
    budget = WorkBudget(threads, wait_s=DEADLINE_S)
    with ExitStack() as held:
        for _ in range(large):
            held.enter_context(budget.admit(LARGE))
        with pytest.raises(BusyError, match="other large images"), budget.admit(LARGE):
            pass
        for _ in range(threads):
            held.enter_context(budget.admit(SMALL_PIXELS))
    with budget.admit(LARGE):
        pass


# The same in a model: large images are held up by the test, small ones are not.

SMALL = encode(draw(32, 32))


class _HeldUp:
    """Stands before a predictor; images of more than 2 million pixels wait until `let_go`."""

    def __init__(self, predict: Callable[..., Any]) -> None:
        self._predict = predict
        self.waiting = 0
        self.let_go = threading.Event()

    def __call__(self, rgb: Any, *given: Any, **options: Any) -> Any:
        if rgb.shape[0] * rgb.shape[1] > 2_000_000:
            self.waiting += 1
            assert self.let_go.wait(DEADLINE_S)
        return self._predict(rgb, *given, **options)


@pytest.fixture(scope="module")
def large_png() -> bytes:
    return encode(np.tile(draw(500, 500), (5, 5, 1)))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SegmentationModel:
    monkeypatch.setenv("RESUNET_WAIT_SECONDS", "0.2")
    monkeypatch.setattr("serving.pyfunc.server_threads", lambda: 6)
    write_version(tmp_path, spec=make_spec(whole_side=1024, core=512))
    loaded = SegmentationModel()
    loaded.load_context(PythonModelContext({"version": str(tmp_path)}, None))
    return loaded


def ask(model: SegmentationModel, *images: bytes) -> Any:
    return model.predict(PythonModelContext({}, None), pd.DataFrame({"image": list(images)}), None)


def test_tiny_requests_are_answered_while_large_ones_are_worked_on(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, large_png: bytes
) -> None:
    held = _HeldUp(model.predictor.predict)
    monkeypatch.setattr(model.predictor, "predict", held)
    with ThreadPoolExecutor(6) as pool:
        large: list[Future[Any]] = [pool.submit(ask, model, large_png) for _ in range(4)]
        try:
            until(lambda: held.waiting == 4)
            assert len(ask(model, SMALL, SMALL)) == 2
            # All threads that large requests may have are taken: a fifth is told at once, in words.
            with pytest.raises(RequestError, match="busy with other large images") as refusal:
                ask(model, large_png)
            assert refusal.value.get_http_status_code() == 503
        finally:
            held.let_go.set()
        assert all(answer.result(DEADLINE_S)["width"][0] == 2500 for answer in large)


def test_a_request_of_many_rows_gives_way_between_them(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, large_png: bytes
) -> None:
    held = _HeldUp(model.predictor.predict)
    monkeypatch.setattr(model.predictor, "predict", held)
    turns: list[int] = []
    real = model.budget.take
    monkeypatch.setattr(model.budget, "take", lambda pixels, *rest: turns.append(pixels) or real(pixels, *rest))
    held.let_go.set()
    assert len(ask(model, large_png, large_png, SMALL)) == 3
    pixels = 2500 * 2500
    assert turns == [pixels, pixels, 32 * 32] * 2, "once to look at all, once to answer"


def test_a_wait_for_a_turn_ends_in_words(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, large_png: bytes
) -> None:
    with model.budget.take(MAX_PIXELS):
        with pytest.raises(RequestError, match=r"busy: no turn came in 0 s; send the request again later") as refusal:
            ask(model, large_png)
        assert refusal.value.get_http_status_code() == 503
        assert len(ask(model, SMALL)) == 1
    assert len(ask(model, large_png)) == 1


def test_a_large_file_of_few_pixels_waits_with_the_large_ones(model: SegmentationModel) -> None:
    stuffed = SMALL + bytes(8 * LARGE)
    with model.budget.take(MAX_PIXELS), pytest.raises(RequestError, match="busy"):
        ask(model, stuffed)
    assert len(ask(model, stuffed)) == 1


def test_work_that_the_server_has_given_up_is_stopped_at_the_next_tile(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, large_png: bytes
) -> None:
    tiles: list[int] = []
    run = model.predictor.engine.run
    monkeypatch.setattr(model.predictor.engine, "run", lambda images: tiles.append(1) or time.sleep(0.2) or run(images))
    model.limit_s = 0.3
    with pytest.raises(RequestError, match="MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT") as refusal:
        ask(model, large_png)
    assert refusal.value.get_http_status_code() == 504
    assert len(tiles) < 25
    model.limit_s = None
    assert len(ask(model, SMALL)) == 1, "its turn was given back"


def test_the_server_s_limits_are_mlflow_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert server_threads() == 6
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "600")
    monkeypatch.delenv("__pyfunc_model_path__", raising=False)
    assert server_limit_s() is None, "no server, no limit"
    monkeypatch.setenv("__pyfunc_model_path__", "somewhere")
    assert server_limit_s() == 600

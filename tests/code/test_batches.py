"""Batches: a function of seed and step, kept in memory only within the budget."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from pipelines.training.batches import SampleStore, batches
from resunet.augment import augmented_crop, random_crop

SIDE = 32
PROJECT = Path(__file__).resolve().parents[2]


def _sample(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(index)
    rgb = rng.integers(0, 256, (40 + index, 50, 3), dtype=np.uint8)
    return rgb, (rgb[..., 0] > 200).astype(np.uint8)


def _store(budget: int = 1 << 30) -> SampleStore:
    return SampleStore(_sample, [50 * 40 * 4] * 6, budget)


def _take(store: SampleStore, start: int, count: int, seed: int = 0, workers: int = 0) -> list[torch.Tensor]:
    source = batches(store, batch_size=4, crop=SIDE, seed=seed, start=start, workers=workers)
    return [torch.cat([part.flatten() for part in next(source)]) for _ in range(count)]


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    whole = _take(_store(), 0, 5)
    later = _take(_store(), 3, 2)
    assert torch.equal(whole[3], later[0])
    assert torch.equal(whole[4], later[1])
    assert not torch.equal(whole[0], _take(_store(), 0, 1, seed=1)[0])


def test_batches_that_workers_read_equal_those_from_memory() -> None:
    streamed = _store(budget=0)
    streamed.warm()
    assert not streamed.in_memory
    for kept, read in zip(_take(_store(), 0, 3), _take(streamed, 0, 3, workers=2), strict=True):
        assert torch.equal(kept, read)


def test_processes_that_read_ahead_are_not_forked_from_a_training_which_has_threads() -> None:
    """Here one holds a lock that is not released in a child; the real ones are those of libraries."""
    held = threading.Lock()
    with held:
        store = SampleStore(partial(_waiting, _Lock(held)), [50 * 40 * 4] * 6, 0)
        assert len(_take(store, 0, 1, workers=1)) == 1


class _Lock:
    """A lock of its own in each process, but for forked ones."""

    def __init__(self, lock: threading.Lock) -> None:
        self.lock = lock

    def __reduce__(self) -> tuple[Callable[[], "_Lock"], tuple[()]]:
        return _new_lock, ()


def _new_lock() -> _Lock:
    return _Lock(threading.Lock())


def _waiting(one: _Lock, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    assert one.lock.acquire(timeout=20), "the lock of another process is waited for"
    one.lock.release()
    return _sample(index)


PROGRAM = """
import sys, time
import numpy as np
from pipelines.training.batches import SampleStore, batches

def load(index):
    return np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)

if __name__ == "__main__":
    source = batches(SampleStore(load, [1] * 4, 0), batch_size=2, crop=32, seed=0, start=0, workers=1)
    next(source)
    print("ready", flush=True)
    time.sleep(600)
"""


def test_processes_that_read_ahead_end_with_a_training_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as training:
        try:
            assert training.stdout is not None and training.stdout.readline() == "ready\n"
            others = psutil.Process(training.pid).children(recursive=True)
        finally:
            training.kill()
    assert others
    _, left = psutil.wait_procs(others, timeout=60)
    for process in left:
        process.kill()
    assert left == []


def test_images_within_the_budget_are_decoded_once() -> None:
    decoded: list[int] = []

    def load(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        decoded.append(index)
        return _sample(index)

    store = SampleStore(load, [8000] * 6, 48_000)
    store.warm()
    _take(store, 0, 10)
    assert decoded == list(range(6))


def test_every_image_is_seen_once_an_epoch() -> None:
    seen: list[int] = []

    def load(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        seen.append(index)
        return _sample(index)

    _take(SampleStore(load, [1] * 6, 0), 0, 3)
    assert sorted(seen) == sorted([*range(6)] * 2)


def test_mask_and_image_go_through_the_same_geometry() -> None:
    mask = np.zeros((97, 131), np.uint8)
    mask[30:70, 40:100] = 1
    rgb = np.repeat(mask[..., None] * 200, 3, axis=2).astype(np.uint8)
    for seed in range(20):
        picture, truth = random_crop(rgb, mask, 64, np.random.default_rng(seed))
        assert np.mean((picture[..., 0] > 100) != (truth > 0)) < 0.03


@pytest.mark.parametrize("shape", [(16, 16), (16, 700), (300, 17)])
def test_images_smaller_than_the_crop_are_mirrored_to_size(shape: tuple[int, int]) -> None:
    rgb = np.full((*shape, 3), 90, np.uint8)
    picture, truth = augmented_crop(rgb, np.ones(shape, np.uint8), 160, np.random.default_rng(0))
    assert picture.shape == (160, 160, 3)
    assert truth.shape == (160, 160)
    assert truth.all()

"""A training of a second on bright discs: settings, a stand-in for a kill, and what makes two runs the same."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.training.batches import SampleStore
from pipelines.training.fit import Fitted, fit
from pipelines.training.settings import FitSettings

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def blobs(index: int) -> Pixels:
    """A bright disc on a dark ground."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[:64, :64]
    centre, radius = rng.integers(16, 48, 2), rng.integers(8, 16)
    mask = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2).astype(np.uint8)
    rgb = np.clip(40 + 120 * mask[..., None] + rng.normal(0, 12, (64, 64, 3)), 0, 255).astype(np.uint8)
    return rgb, mask


def small_settings(**changed: object) -> FitSettings:
    small = {"width": 4, "crop": 32, "batch_size": 4, "epochs": 4, "evaluations": 4, "learning_rate": 0.01}
    return FitSettings.checked(**{**small, **changed})


def fit_small(settings: FitSettings, checkpoint: Path | None = None, **more: object) -> Fitted:
    training = SampleStore(blobs, [64 * 64 * 4] * 16, settings.memory_budget_mb * 1_000_000)
    return fit(settings, training, [blobs(index) for index in range(100, 104)], checkpoint=checkpoint, **more)  # type: ignore[arg-type]


def same_weights(one: Fitted, other: Fitted) -> bool:
    mine, theirs = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


class KilledError(Exception):
    """Stands for a kill."""


def die_at(last: int) -> Callable[[int, int, float], None]:
    def die(step: int, total: int, loss: float) -> None:
        if step == last:
            raise KilledError

    return die


def assert_same_run(one: Fitted, other: Fitted) -> None:
    """The same weights, and the same history but for the seconds."""
    assert same_weights(one, other)
    assert str(one.schedule) == str(other.schedule)
    told = [[replace(row, seconds=0.0) for row in fitted.history] for fitted in (one, other)]
    assert told[0] == told[1]

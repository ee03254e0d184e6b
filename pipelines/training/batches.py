"""Training batches: decoded once and kept in memory while they fit a budget, else read by workers.

A batch is a pure function of (seed, step), so a resumed run sees what an uninterrupted one would have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipelines.data.dataset import Sample, load
from resunet.augment import augmented_crop

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Load = Callable[[int], Pixels]


class PixelsByIndex(Protocol):
    """Images with their masks: a list, or a `SampleStore`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pixels: ...


class SampleStore:
    """Images and masks by index, kept decoded while they fit.

    Args:
        load: reads and decodes sample `index` to ((H, W, 3) uint8, (H, W) class indices).
        sizes: decoded bytes of each sample.
        budget: bytes that may be kept; over it, nothing is kept and every access decodes.
    """

    def __init__(self, load: Load, sizes: Sequence[int], budget: int) -> None:
        self._load = load
        self._count = len(sizes)
        self.in_memory = sum(sizes) <= budget
        self.kept_bytes = sum(sizes) if self.in_memory else 0
        self._kept: list[Pixels] | None = None

    def __len__(self) -> int:
        return self._count

    def warm(self, tick: Callable[[], None] = lambda: None) -> None:
        """Decode everything that will be kept; `tick` is called after each sample."""
        if not self.in_memory or self._kept is not None:
            return
        kept = []
        for index in range(self._count):
            kept.append(self._load(index))
            tick()
        self._kept = kept

    def __getitem__(self, index: int) -> Pixels:
        if self._kept is not None:
            return self._kept[index]
        return self._load(index)


def sample_store(samples: Sequence[Sample], manifest: pd.DataFrame, budget_mb: int) -> SampleStore:
    """Samples of a data set as pixels by index: kept decoded while they fit `budget_mb`."""
    sizes = manifest.set_index("path").loc[[sample.file for sample in samples], ["width", "height"]]
    decoded: NDArray[np.int64] = sizes["width"].to_numpy(np.int64) * sizes["height"].to_numpy(np.int64) * 4
    return SampleStore(partial(_loaded, samples), decoded.tolist(), budget_mb * 1_000_000)


def _loaded(samples: Sequence[Sample], index: int) -> Pixels:
    return load(samples[index])


class _BatchesByStep(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, store: SampleStore, batch_size: int, crop: int, seed: int) -> None:
        self._store, self._batch_size, self._crop, self._seed = store, batch_size, crop, seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        images = np.empty((self._batch_size, self._crop, self._crop, 3), np.uint8)
        masks = np.empty((self._batch_size, self._crop, self._crop), np.uint8)
        for place in range(self._batch_size):
            index = self._sample_at(step * self._batch_size + place)
            rng = np.random.default_rng([self._seed, 1, step, place])
            images[place], masks[place] = augmented_crop(*self._store[index], self._crop, rng)
        return torch.from_numpy(images), torch.from_numpy(masks)

    def _sample_at(self, position: int) -> int:
        """Every image once an epoch, in an order of that epoch's own."""
        epoch, within = divmod(position, len(self._store))
        if self._order[0] != epoch:
            shuffled = np.random.default_rng([self._seed, 0, epoch]).permutation(len(self._store))
            self._order = (epoch, shuffled)
        return int(self._order[1][within])


def batches(
    store: SampleStore, *, batch_size: int, crop: int, seed: int, start: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches from step `start` on, without end.

    Args:
        store: the training images.
        batch_size: crops a batch.
        crop: side of a crop in pixels.
        seed: with the step, decides everything random.
        start: the first step.
        workers: processes that read ahead when the store does not fit in memory. Each imports the program anew: what
            it does by itself belongs under `if __name__ == "__main__"`, and the store's `load` has to be pickled.

    Yields:
        images (N, crop, crop, 3) uint8 and masks (N, crop, crop) uint8 class indices.
    """
    ahead = 0 if store.in_memory else workers
    loader = DataLoader(
        _BatchesByStep(store, batch_size, crop, seed),
        batch_size=None,
        sampler=range(start, 1 << 40),
        num_workers=ahead,
        prefetch_factor=4 if ahead else None,
        # Not forked: of a process that has threads, its own and of libraries, a child inherits the locks that they
        # held, which nobody releases there. And it ends when this process does, which those of a fork server do not.
        multiprocessing_context="spawn" if ahead else None,
    )
    return iter(loader)

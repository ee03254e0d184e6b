"""Training throughput against the same network in a plain fp32 PyTorch loop.

    python -m benchmarks.training            # about 3 minutes
    python -m benchmarks.training --smoke

Width 16, 160x160 crops, batch 8. Ours is `pipelines.training.fit` whole: augmentation, bf16 where it is faster,
channels_last, clipping, averaged weights. The peer is what one would first write: fp32, default memory format, AdamW,
the same loss, the same batches, and units that sum, upsample, concatenate and convolve, as the paper draws them. Each
side has a process of its own, since ours changes how the process keeps its memory. Images a second, steps of one round
by the median.
"""

import functools
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.rounds import arguments, interleave, print_comparison
from pipelines.data.synthetic import draw
from pipelines.training.batches import SampleStore, batches
from pipelines.training.fit import fit
from pipelines.training.settings import FitSettings
from resunet.losses import segmentation_loss
from resunet.networks import build_network
from resunet.networks.blocks import ResidualUnit, RisingUnit, Stem
from resunet.networks.graph import normalise

WIDTH, CROP, BATCH = 16, 160, 8
IMAGES = 16


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _store() -> SampleStore:
    drawn: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = [
        draw(np.random.default_rng((0, index))) for index in range(IMAGES)
    ]
    return SampleStore(lambda index: drawn[index], [1] * IMAGES, 1 << 30)


def ours(steps: int) -> float:
    """Images a second of `fit`."""
    ticks: list[float] = []
    store = _store()
    settings = FitSettings.checked(width=WIDTH, crop=CROP, batch_size=BATCH, max_steps=steps, evaluations=1)
    fit(settings, store, [store[0]], on_step=lambda *_: ticks.append(time.perf_counter()))
    return BATCH / statistics.median(np.diff(ticks[2:]))


def _as_drawn(unit: Stem | ResidualUnit | RisingUnit, x: Tensor, skip: Tensor | None = None) -> Tensor:
    """A unit as the paper draws it."""
    if skip is not None:
        risen: Tensor = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        x = torch.cat([risen, skip], dim=1)
    total: Tensor = unit.body(x) + unit.shortcut(x)
    return total


def plain(steps: int) -> float:
    """Images a second of a plain loop."""
    network = build_network("resunet", WIDTH)
    for unit in network.modules():
        if isinstance(unit, (Stem, ResidualUnit, RisingUnit)):
            unit.forward = functools.partial(_as_drawn, unit)  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    ticks = []
    source = batches(_store(), batch_size=BATCH, crop=CROP, seed=0, start=0, workers=0)
    for _ in range(steps):
        images, masks = next(source)
        loss = segmentation_loss(network(normalise(images.permute(0, 3, 1, 2).float().contiguous())), masks.long())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        ticks.append(time.perf_counter())
    return BATCH / statistics.median(np.diff(ticks[2:]))


def main(given: Sequence[str] | None = None) -> int:
    """Measure and say whether the figure holds."""
    options = arguments(__doc__, given)
    rounds, steps = (1, 4) if options.smoke else (7, 18)
    with _process() as our_process, _process() as plain_process:
        sides = {
            "ours": lambda: our_process.submit(ours, steps).result(),
            "plain fp32 loop": lambda: plain_process.submit(plain, steps).result(),
        }
        measured = interleave(sides, rounds)
    title = f"Training throughput, width {WIDTH}, {CROP}x{CROP} crops, batch {BATCH}"
    held = print_comparison(title, measured, "images/s", [("ours", "plain fp32 loop", 2.0)])
    return 0 if held or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())

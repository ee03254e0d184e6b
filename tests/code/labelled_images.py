"""Labelled images for tests of what is measured, beside the little versions of `version_factory`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from version_factory import draw

from pipelines.evaluate import LabelledImage


def truth_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) uint8: 1 where the image is bright."""
    return np.asarray(rgb.mean(axis=2) > 90, np.uint8)


def labelled(seeds: Sequence[int], groups: Sequence[str | None] | None = None, stain: str = "a") -> list[LabelledImage]:
    """One image a seed, 64x72."""
    images = []
    for place, seed in enumerate(seeds):
        rgb = draw(64, 72, seed)
        group = groups[place] if groups else None
        images.append(LabelledImage(f"images/{seed}.png", group, {"stain": stain}, rgb, truth_of(rgb)))
    return images

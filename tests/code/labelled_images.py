"""Labelled images for tests of what is measured, beside the little versions of `version_factory`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from version_factory import draw, write_version

from pipelines.data.labelled import LabelledImage
from serving.engine import Engine, Output
from serving.predictor import Predictor


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


class Counting:
    """An engine that counts its calls."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name, self.calls = engine, engine.name, 0

    def run(self, images: NDArray[np.uint8]) -> Output:
        self.calls += 1
        return self.engine.run(images)


class FourClasses(Counting):
    """A binary engine that passes for one of four classes."""

    def run(self, images: NDArray[np.uint8]) -> Output:
        found, embedding = super().run(images)
        return np.concatenate([1 - found, found / 3, found / 3, found / 3], axis=1), embedding


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that finds bright spots, for whoever leaves it as it is."""
    root = tmp_path_factory.mktemp("a version")
    write_version(root)
    return root


@pytest.fixture(scope="session")
def predictor(version: Path) -> Predictor:
    return Predictor.load(version, "onnxruntime")

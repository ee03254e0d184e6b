"""Small data sets on disk for tests."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.data.prepare import PreparedReport
from pipelines.data.problems import Problem
from pipelines.data.splits import Split, key_of, split_of


def picture(seed: int, height: int = 48, width: int = 48) -> NDArray[np.uint8]:
    """A smooth colour picture that resembles no other seed's: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def blob(height: int = 48, width: int = 48, value: int = 255) -> NDArray[np.uint8]:
    """A mask with a square in it: (H, W) uint8."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = value
    return mask


def save(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    assert cv2.imwrite(str(path), stored)


def add(root: Path, stem: str, rgb: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None) -> str:
    """Add an image and a mask; its name in the data set comes back."""
    save(root / "images" / f"{stem}.png", rgb)
    save(root / "masks" / f"{stem}.png", blob(*rgb.shape[:2]) if mask is None else mask)
    return f"images/{stem}.png"


def make(root: Path, count: int = 24, first_seed: int = 0) -> Path:
    """A data set in which nothing is wrong and no split is empty."""
    for index in range(first_seed, first_seed + count):
        add(root, f"p{index:03d}", picture(index))
    return root


def group_in(split: Split, but: str = "") -> str:
    """Some group name of that split, another one than `but`."""
    names = (f"g{number}" for number in range(1000))
    return next(name for name in names if name != but and split_of(key_of(name, "")) == split)


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def changed(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A darker near-copy."""
    return np.asarray(rgb * 0.7, np.uint8)


def problem(report: PreparedReport, check: str) -> Problem:
    """The one problem of that name."""
    (found,) = [each for each in report.problems if each.check == check]
    return found


def splits_of(report: PreparedReport) -> dict[str, str]:
    """The split of each image, by path."""
    return dict(zip(report.manifest["path"], report.manifest["split"], strict=True))

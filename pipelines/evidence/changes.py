"""Bounded changes of an image, as a microscope, a camera or a file format makes them; a person sees the same in it.

rgb = CHANGES["noise"].apply(rgb, np.random.default_rng(0))

Each takes and gives (H, W, 3) uint8, and beside them little memory: images may have 100 million pixels.
"""

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Rgb = NDArray[np.uint8]
Apply = Callable[[Rgb, np.random.Generator], Rgb]

NOISE_LEVELS: Final = 8.0
BLUR_PX: Final = 1.0
DARKER, BRIGHTER = 0.8, 1.25
JPEG_QUALITY: Final = 50
_ROWS: Final = 256


class Change(NamedTuple):
    """One change; `flip` is the axis along which the truth is flipped with the image."""

    title: str
    apply: Apply
    flip: int | None = None

    def truth(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The truth of the changed image."""
        return mask if self.flip is None else np.ascontiguousarray(np.flip(mask, self.flip))


def _noise(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    noisy = np.empty_like(rgb)
    for start in range(0, len(rgb), _ROWS):
        part = rgb[start : start + _ROWS]
        drawn = rng.standard_normal(part.shape, np.float32) * np.float32(NOISE_LEVELS)
        noisy[start : start + _ROWS] = np.clip(np.rint(part + drawn), 0, 255)
    return noisy


def _gain(factor: float) -> Apply:
    table = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)
    return lambda rgb, rng: np.asarray(cv2.LUT(rgb, table), np.uint8)


def _blur(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), BLUR_PX), np.uint8)


def _jpeg(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    with io.BytesIO() as file:
        Image.fromarray(rgb).save(file, "JPEG", quality=JPEG_QUALITY)
        return np.array(Image.open(file), np.uint8)


def _flipped(axis: int) -> Apply:
    return lambda rgb, rng: np.ascontiguousarray(np.flip(rgb, axis))


CHANGES: Final[Mapping[str, Change]] = MappingProxyType(
    {
        "noise": Change(f"noise of σ {NOISE_LEVELS:g} grey levels", _noise),
        "blur": Change(f"blur of σ {BLUR_PX:g} px", _blur),
        "darker": Change(f"brightness × {DARKER:g}", _gain(DARKER)),
        "brighter": Change(f"brightness × {BRIGHTER:g}", _gain(BRIGHTER)),
        "jpeg": Change(f"JPEG of quality {JPEG_QUALITY}", _jpeg),
        "mirrored": Change("left and right exchanged", _flipped(1), flip=1),
        "upside_down": Change("top and bottom exchanged", _flipped(0), flip=0),
    }
)

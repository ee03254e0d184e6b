"""Described images for the benchmarks of drift: real and drawn ones, as they are and changed in small ways.

real = read_described(Path("../shared/data/nuclei"), where="fluorescence")
real["as they are"], real["blur 0.5"]       # (N, D), a row an image
drawn = draw_described(2_000, seed=0)       # (N, D)
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.synthetic import Knobs, draw
from resunet.descriptors import describe_image
from resunet.images import read_image

Rgb = NDArray[np.uint8]
Rows = NDArray[np.float64]
PLAIN: Final = "as they are"
_SIDES: Final = (64, 128)


def grey(rgb: Rgb) -> Rgb:
    """The luma in all three channels."""
    return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def gamma(rgb: Rgb) -> Rgb:
    """A little brighter: exponent 0.9."""
    return np.rint(255 * (rgb / 255.0) ** 0.9).astype(np.uint8)


def blur(rgb: Rgb) -> Rgb:
    """A little out of focus: a Gaussian of 0.5 px."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.5), np.uint8)


def jpeg(rgb: Rgb) -> Rgb:
    """Through a JPEG of quality 75."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file).convert("RGB"))


def noise(rgb: Rgb) -> Rgb:
    """With noise of 3 grey levels, the same in all channels, as of a grey camera."""
    added = np.random.default_rng(rgb.size).normal(0, 3, rgb.shape[:2])[..., None]
    return np.clip(np.rint(rgb + added), 0, 255).astype(np.uint8)


CHANGES: Final[dict[str, Callable[[Rgb], Rgb]]] = {
    "gamma 0.9": gamma,
    "blur 0.5 px": blur,
    "JPEG 75": jpeg,
    "noise 3 levels": noise,
}


def describe(images: list[Rgb]) -> Rows:
    """(N, D): descriptors of images."""
    return np.array([list(describe_image(rgb).values()) for rgb in images], dtype=np.float64)


def read_described(data: Path, modality: str, changes: dict[str, Callable[[Rgb], Rgb]]) -> dict[str, Rows]:
    """Describe the images of a modality, or of all others with "not ", as they are and changed."""
    with (data / "metadata.csv").open(encoding="utf-8") as file:
        wanted = [
            data / "images" / row["file"]
            for row in csv.DictReader(file)
            if (row["modality"] == modality.removeprefix("not ")) != modality.startswith("not ")
        ]
    images = [read_image(path) for path in wanted]
    return {PLAIN: describe(images)} | {
        name: describe([change(rgb) for rgb in images]) for name, change in changes.items()
    }


def draw_described(count: int, seed: int) -> Rows:
    """Describe so many drawn images of fluorescence."""
    rng = np.random.default_rng(seed)
    return describe([draw(rng, Knobs(stain="fluorescence", size=_SIDES))[0] for _ in range(count)])

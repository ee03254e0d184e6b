"""Described images for the benchmarks of drift: real and drawn ones, as they are and changed in small ways.

real = read_described(Path("../shared/data/nuclei"), "fluorescence", CHANGES, predictor)
real["as they are"], real["blur 0.5 px"]           # (N, WIDTH), a row an image
drawn = draw_described(2_000, 0, predictor)        # (N, WIDTH)
families(drawn[:340], drawn[340:490], drawn[490:540])

A row has the descriptors of the image, then those of its prediction, then its embedding.
"""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monitoring.drift import Family
from pipelines.data.synthetic import Knobs, draw
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.images import read_image
from serving.predictor import EMBEDDING_SIZE, Predictor

Rgb = NDArray[np.uint8]
Rows = NDArray[np.float64]
PLAIN: Final = "as they are"
INPUT: Final = slice(0, len(IMAGE_DESCRIPTORS))
_PREDICTION: Final = slice(INPUT.stop, INPUT.stop + len(PREDICTION_DESCRIPTORS))
_EMBEDDING: Final = slice(_PREDICTION.stop, _PREDICTION.stop + EMBEDDING_SIZE)
WIDTH: Final = _EMBEDDING.stop
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


def families(training: Rows, held_out: Rows, window: Rows) -> list[Family]:
    """What a report compares: images with training images, predictions and embeddings with those of held-out ones."""
    points = held_out[:, _EMBEDDING], window[:, _EMBEDDING]
    return [
        Family("input", IMAGE_DESCRIPTORS, training[:, INPUT], window[:, INPUT]),
        Family("prediction", PREDICTION_DESCRIPTORS, held_out[:, _PREDICTION], window[:, _PREDICTION], points),
    ]


def describe(images: Iterable[Rgb], predictor: Predictor) -> Rows:
    """(N, WIDTH): what the log would hold of images."""
    rows = []
    for rgb in images:
        told = predictor.predict(rgb)
        rows.append([*told.descriptors.values(), *told.prediction_descriptors.values(), *told.embedding.tolist()])
    return np.array(rows, dtype=np.float64).reshape(-1, WIDTH)


def read_described(
    data: Path, modality: str, changes: dict[str, Callable[[Rgb], Rgb]], predictor: Predictor
) -> dict[str, Rows]:
    """Describe the images of a modality, or of all others with "not ", as they are and changed."""
    with (data / "metadata.csv").open(encoding="utf-8") as file:
        wanted = [
            data / "images" / row["file"]
            for row in csv.DictReader(file)
            if (row["modality"] == modality.removeprefix("not ")) != modality.startswith("not ")
        ]
    images = [read_image(path) for path in wanted]
    return {PLAIN: describe(images, predictor)} | {
        name: describe((change(rgb) for rgb in images), predictor) for name, change in changes.items()
    }


def draw_described(count: int, seed: int, predictor: Predictor) -> Rows:
    """Describe so many drawn images of fluorescence."""
    rng = np.random.default_rng(seed)
    return describe((draw(rng, Knobs(stain="fluorescence", size=_SIDES))[0] for _ in range(count)), predictor)

"""How the network behaves on its test images: on changed ones, and near boundaries."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.data.labelled import LabelledImage
from pipelines.evidence.changes import CHANGES
from pipelines.evidence.subject import Subject
from pipelines.version.calibrate import BAND_PX, near_boundary
from pipelines.version.parity import class_mask
from registry.evidence import Band, BandCalibration, Bin, Condition, Robustness
from registry.noninferiority import FEWEST_CLUSTERS
from resunet.confidence import apply_temperature
from resunet.metrics import dice
from serving.predictor import Predictor

Advance = Callable[[int], None]

BINS: Final = 15
_DRAWS: Final = 1000
# Few images or groups say nothing of the next, and no pixel says nothing at all.
_UNKNOWN: Final = (0.0, 1.0)


def robustness(subject: Subject, advance: Advance) -> Robustness:
    """Score every test image as it is and after each change; `advance` is told of images."""
    predictor = subject.candidate.predictor
    images: list[str] = []
    groups: list[str | None] = []
    clean: list[float] = []
    changed: dict[str, list[float]] = {name: [] for name in CHANGES}
    for number, image in enumerate(subject.images):
        images.append(image.path)
        groups.append(image.group)
        clean.append(dice(class_mask(predictor, image.rgb), image.mask))
        for place, (name, change) in enumerate(CHANGES.items()):
            # A generator for each image and change: its noise is the same whatever else is measured.
            rgb = change.apply(image.rgb, np.random.default_rng([number, place]))
            changed[name].append(dice(class_mask(predictor, rgb), change.truth(image.mask)))
        advance(1)
    return Robustness(
        fingerprint=subject.fingerprint,
        images=images,
        groups=groups,
        clean=clean,
        conditions={name: Condition(title=CHANGES[name].title, dice=values) for name, values in changed.items()},
    )


def calibration(subject: Subject, advance: Advance) -> BandCalibration:
    """Hold the calibrated probabilities against the truth, near its boundary and everywhere."""
    band, everywhere = [], []
    groups: list[str | None] = []
    for image in subject.images:
        near, far = _tallies(subject.candidate.predictor, image)
        band.append(near)
        everywhere.append(near + far)
        groups.append(image.group)
        advance(1)
    return BandCalibration(
        fingerprint=subject.fingerprint,
        band_px=BAND_PX,
        images=len(groups),
        band=_band(np.array(band), groups),
        everywhere=_band(np.array(everywhere), groups),
    )


def _tallies(predictor: Predictor, image: LabelledImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two tables (3, bins) of one image, near the boundary and far from it: pixels, sum of what is said, of hits."""
    tables = np.zeros((2, 3, BINS))
    temperature, binary = predictor.spec.calibration.temperature, predictor.spec.binary
    for tile, probabilities in predictor.by_tile(image.rgb):
        scaled = apply_temperature(probabilities, temperature) if temperature != 1 else probabilities
        truth = image.mask[tile.keep]
        stated = scaled[0] if binary else scaled.max(axis=0)
        right = truth != 0 if binary else scaled.argmax(axis=0) == truth
        bins = np.minimum((stated * BINS).astype(np.int64), BINS - 1)
        near = near_boundary(image.mask, tile)
        for table, chosen in zip(tables, (near, ~near), strict=True):
            table[0] += np.bincount(bins[chosen], minlength=BINS)
            table[1] += np.bincount(bins[chosen], weights=stated[chosen], minlength=BINS)
            table[2] += np.bincount(bins[chosen], weights=right[chosen].astype(np.float64), minlength=BINS)
    return tables[0], tables[1]


def _band(tables: NDArray[np.float64], groups: list[str | None]) -> Band:
    """The error over all images, and its interval over draws of images or whole groups.

    Args:
        tables: (images, 3, bins), as `_tallies` gives them.
        groups: of the images.
    """
    clusters = _clusters(groups)
    summed = np.zeros((clusters.max() + 1, *tables.shape[1:]))
    np.add.at(summed, clusters, tables)
    pixels, stated, right = whole = summed.sum(axis=0)
    low, high = _UNKNOWN
    if len(summed) >= FEWEST_CLUSTERS and pixels.any():
        rng = np.random.default_rng(0)
        weights = rng.multinomial(len(summed), np.full(len(summed), 1 / len(summed)), size=_DRAWS)
        errors = [_error(table) for table in np.tensordot(weights, summed, axes=1)]
        low, high = np.quantile(errors, [0.025, 0.975])
    bins = [
        Bin(confidence=float(s / n), frequency=float(r / n), pixels=int(n))
        for n, s, r in zip(pixels, stated, right, strict=True)
        if n
    ]
    return Band(error=_error(whole), low=float(low), high=float(high), pixels=int(pixels.sum()), bins=bins)


def _clusters(groups: list[str | None]) -> NDArray[np.int64]:
    """(images,) number of what each is drawn with: its group, else itself alone."""
    numbers: dict[object, int] = {}
    names = [place if group is None else group for place, group in enumerate(groups)]
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _error(table: NDArray[np.float64]) -> float:
    """Expected calibration error of (3, bins); 0 where there is no pixel."""
    pixels, stated, right = table
    return float(np.abs(right - stated).sum() / pixels.sum()) if pixels.sum() else 0.0

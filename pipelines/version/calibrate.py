"""What a version's confidence is worth: measured on the validation split, through the serving file.

validated = validate(predictor, LabelledImages(data.split("validation")))
validated.calibration, validated.dice["images/a.png"], validated.reliability_after
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.data.labelled import LabelledImage, LabelledSet
from resunet.confidence import (
    apply_confidence_map,
    apply_temperature,
    conformal_halfwidth,
    fit_confidence_map,
    fit_temperature,
)
from resunet.errors import DataError
from resunet.metrics import confusion, dice
from resunet.tiling import Tile
from serving.predictor import Predictor
from serving.version import Calibration

BAND_PX: Final = 5
_FOLDS: Final = 5
_PIXELS: Final = 400_000
_LEVELS: Final = 20


@dataclass(frozen=True)
class Reliability:
    """Stated against observed, by bins of stated probability, of pixels within `BAND_PX` of a true boundary.

    For a binary version the probability is the foreground's; for more classes it is the winning class's, and
    what is observed is how often it was right. Far from boundaries nearly all pixels are near 0 or 1, and
    would hide what happens between.

    Attributes:
        stated: (bins,) mean probability of a bin's pixels; nan where there are none.
        observed: (bins,) fraction of them that are foreground (that are right).
        pixels: (bins,) how many there are.
        error: expected calibration error, the mean of |observed - stated| over pixels.
    """

    stated: NDArray[np.float64]
    observed: NDArray[np.float64]
    pixels: NDArray[np.int64]
    error: float


@dataclass(frozen=True)
class Validated:
    """A version on its validation split.

    Attributes:
        calibration: for `version.json`.
        dice: of each image, by path.
        confusion: (n, n) pixels by true (row) and predicted class, the background first.
        before, after: reliability of a sample of the pixels without and with the temperature.
    """

    calibration: Calibration
    dice: dict[str, float]
    confusion: NDArray[np.int64]
    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class _Drawn:
    """Some pixels of one image: probabilities (C, n), true classes (n,), whether they are near a boundary (n,)."""

    probabilities: NDArray[np.float32]
    truth: NDArray[np.uint8]
    near: NDArray[np.bool_]


def validate(
    predictor: Predictor,
    images: LabelledSet,
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> Validated:
    """Fit a version's calibration, and keep what the pictures of a run need.

    The temperature is fitted on all images: it is one number from hundreds of thousands of pixels. The
    confidence map is fitted on all images too, but the residuals that give the conformal half width are
    out of fold: an image's residual comes from a map fitted without its fold, and groups are kept together
    (cross-conformal prediction, Vovk 2015, arXiv 1208.0806).

    Args:
        predictor: with the version's serving file; its own calibration is not looked at.
        images: the validation split; gone through twice.
        seed: of the pixels drawn and of the folds.
        advance: told how many images were done; 2 for each in all.

    Raises:
        DataError: there is no image.
    """
    if len(images) == 0:
        raise DataError("the validation split is empty: a confidence cannot be calibrated; add images")
    rng = np.random.default_rng(seed)
    share = max(64, _PIXELS // len(images))
    drawn = []
    for image in images:
        drawn.append(_draw(predictor, image, share, rng))
        advance(1)
    temperature = fit_temperature(
        [part.probabilities for part in drawn],
        [part.truth for part in drawn],
        pixels=share * len(drawn),
        seed=seed,
    )

    scaled = _with_temperature(predictor, temperature)
    classes = max(2, len(predictor.spec.class_names))
    table = np.zeros((classes, classes), np.int64)
    soft: list[float] = []
    dices: dict[str, float] = {}
    groups: list[str | None] = []
    for image in images:
        prediction = scaled.predict(image.rgb)
        table += confusion(prediction.mask, image.mask, classes)
        soft.append(prediction.soft_dice)
        dices[image.path] = dice(prediction.mask, image.mask)
        groups.append(image.group)
        advance(1)
    truth = list(dices.values())
    x, y = fit_confidence_map(soft, truth)
    return Validated(
        calibration=Calibration(
            temperature=temperature,
            confidence_x=x,
            confidence_y=y,
            conformal_halfwidth=conformal_halfwidth(out_of_fold_residuals(soft, truth, groups, seed)),
            images=len(truth),
        ),
        dice=dices,
        confusion=table,
        before=_reliability(drawn, 1.0),
        after=_reliability(drawn, temperature),
    )


def out_of_fold_residuals(
    soft: Sequence[float], truth: Sequence[float], groups: Sequence[str | None], seed: int = 0
) -> NDArray[np.float64]:
    """Dice minus confidence of each image, the confidence map fitted on the other folds.

    Args:
        soft, truth: (images,) soft Dice and Dice.
        groups: kept in one fold; None stands alone.
        seed: of the folds.

    Returns:
        (images,), empty where there are not two groups to cut folds from.
    """
    keys: list[tuple[str, object]] = [("alone", i) if g is None else ("in", g) for i, g in enumerate(groups)]
    distinct = list(dict.fromkeys(keys))
    if len(distinct) < 2:
        return np.empty(0)
    order = np.random.default_rng(seed).permutation(len(distinct))
    fold_of = {distinct[group]: place % _FOLDS for place, group in enumerate(order)}
    folds = np.array([fold_of[key] for key in keys])
    soft_, truth_ = np.asarray(soft, np.float64), np.asarray(truth, np.float64)
    residuals = np.empty(len(soft_))
    for fold in np.unique(folds):
        held = folds == fold
        x, y = fit_confidence_map(soft_[~held], truth_[~held])
        residuals[held] = [t - apply_confidence_map(x, y, s) for s, t in zip(soft_[held], truth_[held], strict=True)]
    return residuals


def _with_temperature(predictor: Predictor, temperature: float) -> Predictor:
    """The same version with this temperature and the identity for a confidence map."""
    plain = Calibration(
        temperature=temperature, confidence_x=[0, 1], confidence_y=[0, 1], conformal_halfwidth=1, images=0
    )
    return Predictor(predictor.spec.model_copy(update={"calibration": plain}), predictor.engine)


def _draw(predictor: Predictor, image: LabelledImage, share: int, rng: np.random.Generator) -> _Drawn:
    """Draw pixels first and then look at them tile by tile: of a large image, the probabilities never lie in memory."""
    mask = image.mask
    chosen = np.arange(mask.size) if mask.size <= share else np.sort(rng.choice(mask.size, share, replace=False))
    rows, columns = np.divmod(chosen, mask.shape[1])
    probabilities = np.empty((len(predictor.spec.class_names), chosen.size), np.float32)
    near = np.empty(chosen.size, np.bool_)
    for tile, found in predictor.by_tile(image.rgb):
        top, left = tile.keep_top, tile.keep_left
        inside = np.flatnonzero(
            (rows >= top) & (rows < tile.keep_bottom) & (columns >= left) & (columns < tile.keep_right)
        )
        within = rows[inside] - top, columns[inside] - left
        probabilities[:, inside] = found[:, *within]
        near[inside] = near_boundary(mask, tile)[within]
    return _Drawn(probabilities, mask[rows, columns], near)


def near_boundary(mask: NDArray[np.uint8], tile: Tile) -> NDArray[np.bool_]:
    """(h, w) of what a tile keeps: whether the mask changes within `BAND_PX` pixels."""
    top, left = max(0, tile.keep_top - BAND_PX), max(0, tile.keep_left - BAND_PX)
    seen = np.ascontiguousarray(mask[top : tile.keep_bottom + BAND_PX, left : tile.keep_right + BAND_PX])
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND_PX + 1, 2 * BAND_PX + 1))
    changes = cv2.dilate(seen, disk) != cv2.erode(seen, disk)
    return np.asarray(
        changes[tile.keep_top - top : tile.keep_bottom - top, tile.keep_left - left : tile.keep_right - left]
    )


def _reliability(drawn: Sequence[_Drawn], temperature: float) -> Reliability:
    sums, hits = np.zeros(_LEVELS), np.zeros(_LEVELS)
    pixels = np.zeros(_LEVELS, np.int64)
    for part in drawn:
        # With three axes, so that a binary model's one row is not taken for one of several classes.
        rows = part.probabilities[:, None, part.near]
        scaled = apply_temperature(rows, temperature)[:, 0] if temperature != 1 else rows[:, 0]
        truth = part.truth[part.near]
        binary = len(scaled) == 1
        stated = scaled[0] if binary else scaled.max(axis=0)
        right = truth != 0 if binary else scaled.argmax(axis=0) == truth
        bins = np.minimum((stated * _LEVELS).astype(np.int64), _LEVELS - 1)
        sums += np.bincount(bins, weights=stated, minlength=_LEVELS)
        hits += np.bincount(bins, weights=right.astype(np.float64), minlength=_LEVELS)
        pixels += np.bincount(bins, minlength=_LEVELS)
    known = pixels > 0
    stated = np.full(_LEVELS, math.nan)
    observed = np.full(_LEVELS, math.nan)
    stated[known], observed[known] = sums[known] / pixels[known], hits[known] / pixels[known]
    error = float(np.abs(hits - sums).sum() / pixels.sum()) if known.any() else 0.0
    return Reliability(stated, observed, pixels, error)

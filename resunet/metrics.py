"""How well a mask agrees with the truth, per image, and how sure one can be of a mean over images.

    scores = score(prediction, truth, probability)       # one float a name in METRICS
    scores = overlap_scores(prediction, truth)           # all but AUC, which needs the probabilities
    mean, low, high = bootstrap_interval(dices, groups=patients)

Masks are (H, W): class indices with 0 as background, or bool, or 0/255 for binary. With several classes a
metric is the mean over the foreground classes present in the truth or in the prediction. What has no value
(AUC where the truth holds one class only) is nan, and means leave it out. Masks of any size are gone through in
parts: beside them, a metric takes at most two bytes a pixel.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from resunet.errors import DataError
from resunet.ranking import Ranking

Mask = NDArray[np.uint8] | NDArray[np.bool_]

METRICS: Final[tuple[str, ...]] = ("dice", "iou", "precision", "recall", "boundary_f1", "auc")

_CHUNK: Final = 1 << 22


def confusion(prediction: Mask, truth: Mask, n: int) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        prediction, truth: (H, W) masks.
        n: number of classes, the background included.

    Returns:
        (n, n), rows are true classes, columns predicted ones.

    Raises:
        DataError: the masks differ in shape or hold a class of `n` or more.
    """
    prediction, truth = _classes(prediction), _classes(truth)
    if prediction.shape != truth.shape:
        raise DataError(f"a prediction of {prediction.shape} cannot be compared with a truth of {truth.shape}")
    table = np.zeros(65536, np.int64)
    true, predicted = truth.ravel(), prediction.ravel()
    for start in range(0, true.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        table += np.bincount(true[part].astype(np.uint16) << 8 | predicted[part], minlength=65536)
    square = table.reshape(256, 256)
    if square[n:].any() or square[:, n:].any():
        raise DataError(f"a mask holds class indices of {n} or more; there are {n} classes")
    return square[:n, :n].copy()


def dice(prediction: Mask, truth: Mask) -> float:
    """2 TP / (2 TP + FP + FN) (Dice 1945); 1 when both masks are empty."""
    return _overlap(confusion(prediction, truth, 256))["dice"]


def iou(prediction: Mask, truth: Mask) -> float:
    """TP / (TP + FP + FN) (Jaccard 1912); 1 when both masks are empty."""
    return _overlap(confusion(prediction, truth, 256))["iou"]


def precision(prediction: Mask, truth: Mask) -> float:
    """TP / (TP + FP); 1 when nothing is predicted: no claim is wrong."""
    return _overlap(confusion(prediction, truth, 256))["precision"]


def recall(prediction: Mask, truth: Mask) -> float:
    """TP / (TP + FN); 1 when there is nothing to find."""
    return _overlap(confusion(prediction, truth, 256))["recall"]


def boundary_f1(prediction: Mask, truth: Mask, tolerance_px: int = 2) -> float:
    """F1 of boundary pixels that lie within a distance of the other mask's boundary (Csurka et al. 2013).

    The boundary is the foreground pixels with a 4-neighbour outside; the image's edge is no boundary. Where
    neither mask has one, 1 if they are equal, else 0; where one has, 0.

    Args:
        prediction, truth: (H, W) masks.
        tolerance_px: largest Euclidean distance, pixels.
    """
    prediction, truth = _classes(prediction), _classes(truth)
    if prediction.shape != truth.shape:
        raise DataError(f"a prediction of {prediction.shape} cannot be compared with a truth of {truth.shape}")
    present = _present(prediction, truth)
    scores = [_class_boundary_f1(prediction, truth, c, tolerance_px) for c in present]
    return float(np.mean(scores)) if scores else 1.0


def auc(probability: NDArray[np.generic], truth: Mask) -> float:
    """Area under the ROC curve of pixels, ties counted half (Mann & Whitney 1947).

    Args:
        probability: (H, W) or (1, H, W) of the foreground, (C, H, W) of all classes; float, or uint8
            round(255 p).
        truth: (H, W) mask.

    Returns:
        0 to 1; for more classes the mean of each foreground class against the rest; nan where the truth
        leaves none to tell apart. `resunet.ranking` says how exact it is on very large images.
    """
    truth = _classes(truth)
    values = probability[None] if probability.ndim == 2 else probability
    if values.shape[1:] != truth.shape:
        raise DataError(f"probabilities of {values.shape} cannot be compared with a truth of {truth.shape}")
    ranking = Ranking(values.shape[0], truth.size)
    ranking.add(values, truth)
    return ranking.auc()


def overlap_scores(prediction: Mask, truth: Mask) -> dict[str, float]:
    """All of `METRICS` but AUC for one image; see each for its definition."""
    return {**_overlap(confusion(prediction, truth, 256)), "boundary_f1": boundary_f1(prediction, truth)}


def score(prediction: Mask, truth: Mask, probability: NDArray[np.generic]) -> dict[str, float]:
    """All of `METRICS` for one image; see each for its definition."""
    values = overlap_scores(prediction, truth) | {"auc": auc(probability, truth)}
    return {name: values[name] for name in METRICS}


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[object] | NDArray[np.generic] | None = None,
    seed: int = 0,
    n: int = 2000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Mean over images with a percentile bootstrap interval (Efron 1979).

    Args:
        values: (images,); nan is left out.
        groups: one name an image (patient, slide); whole groups are drawn, since images of one are alike.
            None, or None for an image: it stands alone.
        seed: of the draws; the same input gives the same interval.
        n: number of draws.
        level: coverage of the interval.

    Returns:
        (mean, low, high); all nan where there is no value.
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    codes = np.arange(numbers.size)
    if groups is not None:
        names = list(groups)
        if len(names) != numbers.size:
            raise DataError(f"{numbers.size} values need as many groups, not {len(names)}")
        numbering: dict[object, int] = {}
        codes = np.array(
            [
                numbering.setdefault(("alone", i) if g is None else ("in", g), len(numbering))
                for i, g in enumerate(names)
            ],
            dtype=np.int64,
        )
    known = np.isfinite(numbers)
    numbers, codes = numbers[known], np.unique(codes[known], return_inverse=True)[1]
    if numbers.size == 0:
        return math.nan, math.nan, math.nan
    sums, sizes = np.bincount(codes, weights=numbers), np.bincount(codes)
    rng = np.random.default_rng(seed)
    clusters = sums.size
    means = np.empty(n)
    chunk = max(1, 2_000_000 // clusters)
    for start in range(0, n, chunk):
        drawn = rng.integers(clusters, size=(min(chunk, n - start), clusters))
        means[start : start + chunk] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(numbers.mean()), float(low), float(high)


def _classes(mask: Mask) -> NDArray[np.uint8]:
    """A mask as class indices: 0/255 is the stored form of a binary one."""
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.bool_):
        raise DataError(f"a mask is (H, W) uint8 or bool; this is {mask.shape} {mask.dtype}")
    indices = mask.view(np.uint8)
    counts = _counts(indices, 256)
    stored = counts[255] > 0 and not counts[1:255].any()
    return np.asarray(np.minimum(indices, 1)) if stored else indices


def _counts(values: NDArray[np.integer[Any]], length: int) -> NDArray[np.int64]:
    """How often each of 0 to length - 1 occurs; in parts, since `bincount` makes 8 bytes of each value."""
    flat = values.ravel()
    counts = np.zeros(length, np.int64)
    for start in range(0, flat.size, _CHUNK):
        counts += np.bincount(flat[start : start + _CHUNK], minlength=length)
    return counts


def _present(*masks: NDArray[np.uint8]) -> list[int]:
    """The foreground classes that any of the masks holds."""
    counts = sum(_counts(mask, 256) for mask in masks)
    return [int(c) for c in np.flatnonzero(counts) if c > 0]


def _overlap(table: NDArray[np.int64]) -> dict[str, float]:
    hit = np.diag(table)
    true, predicted = table.sum(axis=1), table.sum(axis=0)
    present = np.flatnonzero(true + predicted)
    present = present[present > 0]
    if present.size == 0:
        return {"dice": 1.0, "iou": 1.0, "precision": 1.0, "recall": 1.0}
    hit, true, predicted = hit[present], true[present], predicted[present]
    return {
        "dice": float((2 * hit / (true + predicted)).mean()),
        "iou": float((hit / (true + predicted - hit)).mean()),
        "precision": float(np.where(predicted > 0, hit / np.maximum(predicted, 1), 1.0).mean()),
        "recall": float(np.where(true > 0, hit / np.maximum(true, 1), 1.0).mean()),
    }


def _class_boundary_f1(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], c: int, tolerance: int) -> float:
    """Of one class, in strips of rows, each read with as much around it as its boundary pixels can see."""
    offsets = np.arange(-tolerance, tolerance + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= tolerance**2).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))

    def boundary(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        inside = np.ascontiguousarray(rows == c).view(np.uint8)
        return np.asarray(inside - cv2.erode(inside, cross), dtype=np.uint8)

    my_length = their_length = right = found = 0
    differ = False
    height, reach = truth.shape[0], tolerance + 1
    step = max(1, _CHUNK // max(1, truth.shape[1]))
    for top in range(0, height, step):
        first, end = max(0, top - reach), min(height, top + step + reach)
        kept = slice(top - first, min(height, top + step) - first)
        mine, theirs = boundary(prediction[first:end]), boundary(truth[first:end])
        differ = differ or not np.array_equal(prediction[first:end] == c, truth[first:end] == c)
        my_length += cv2.countNonZero(mine[kept])
        their_length += cv2.countNonZero(theirs[kept])
        right += cv2.countNonZero(cv2.bitwise_and(mine, cv2.dilate(theirs, disk))[kept])
        found += cv2.countNonZero(cv2.bitwise_and(theirs, cv2.dilate(mine, disk))[kept])
    if my_length == 0 and their_length == 0:
        return float(not differ)
    if my_length == 0 or their_length == 0:
        return 0.0
    precise, complete = right / my_length, found / their_length
    return 2 * precise * complete / (precise + complete) if precise + complete else 0.0

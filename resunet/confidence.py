"""How sure a prediction is, and what that is worth: soft Dice, temperature, calibration, conformal interval.

    raw = soft_dice(probability, mask)
    confidence = apply_confidence_map(x, y, raw)         # the expected Dice
    low = confidence - halfwidth                         # of conformal_halfwidth

Probability arrays with three or more axes are (..., C, H, W), C = 1 for a binary model; with fewer they hold
the foreground's probability.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resunet.errors import DataError

Floats = NDArray[np.floating[Any]]
Loss = Callable[[float], float]

# Probabilities become logits again; float32 ones of 0 and 1 would be infinite.
_CLIP = 1e-6
_COLDEST, _HOTTEST = 0.25, 8.0
_LARGEST_DICE_ERROR = 1.0


def soft_dice(probability: NDArray[np.generic], mask: NDArray[np.generic]) -> float:
    """Soft Dice of a prediction with itself: 2 Σ p ŷ / (Σ p + Σ ŷ), 0 to 1 (arXiv 2402.10665).

    Probabilities count as round(255 p), so that floats and their stored quantised form give the same value
    and thousands of nearly-zero background pixels add nothing. 1 when both sums are 0.

    Args:
        probability: (H, W) of the foreground, float 0 to 1, or uint8 round(255 p).
        mask: (H, W), non-zero is foreground.
    """
    levels = probability
    if probability.dtype != np.uint8:
        levels = np.rint(probability.astype(np.float32) * 255).astype(np.uint8)
    inside = mask != 0
    claimed = int(np.count_nonzero(inside))
    total = int(levels.sum(dtype=np.int64)) / 255 + claimed
    if total == 0:
        return 1.0
    return 2 * int(levels[inside].sum(dtype=np.int64)) / 255 / total


def apply_temperature(probability: Floats, temperature: float) -> Floats:
    """Divide the logits behind probabilities by a temperature (Guo et al. 2017, arXiv 1706.04599, 4.2).

    Args:
        probability: (..., C, H, W), or foreground probabilities with at most two axes.
        temperature: above 0; more than 1 is less sure.

    Returns:
        Same shape and dtype; probabilities are clipped to 1e-6 from 0 and 1 before.
    """
    if not temperature > 0:
        raise DataError(f"a temperature is above 0, not {temperature}")
    clipped = np.clip(probability, _CLIP, 1 - _CLIP)
    if probability.ndim < 3 or probability.shape[-3] == 1:
        logits = (np.log(clipped) - np.log1p(-clipped)) / temperature
        return np.asarray((1 + np.tanh(logits / 2)) / 2, dtype=probability.dtype)  # no overflow
    logits = np.log(clipped) / temperature
    powers = np.exp(logits - logits.max(axis=-3, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-3, keepdims=True), dtype=probability.dtype)


def fit_temperature(
    probabilities: Floats | Sequence[Floats],
    truths: NDArray[np.generic] | Sequence[NDArray[np.generic]],
    *,
    logits: bool = False,
    pixels: int = 200_000,
    seed: int = 0,
) -> float:
    """The temperature between 0.25 and 8 with the smallest negative log-likelihood.

    The likelihood is convex in 1 / temperature, so a golden-section search finds it. At most `pixels` pixels
    are looked at, the same number from each image, drawn by `seed`.

    Args:
        probabilities: one array, or one an image: of the truth's shape (foreground), or (C, *truth's shape).
        truths: class indices of the same images; for binary, non-zero is foreground.
        logits: the arrays hold logits, not probabilities.
        pixels: how many pixels to look at in all.
        seed: of the draw.

    Raises:
        DataError: shapes do not fit together.
    """
    many = list(probabilities) if isinstance(probabilities, list | tuple) else [probabilities]
    answers = list(truths) if isinstance(truths, list | tuple) else [truths]
    if len(many) != len(answers):
        raise DataError(f"{len(many)} predictions and {len(answers)} truths cannot be paired")
    rng = np.random.default_rng(seed)
    share = max(1, pixels // max(len(many), 1))
    drawn = [_draw(np.asarray(p), np.asarray(t), share, rng, logits) for p, t in zip(many, answers, strict=True)]
    if not drawn or sum(margins.size for margins, _ in drawn) == 0:
        return 1.0
    scores = np.concatenate([part for part, _ in drawn], axis=1)
    classes = np.concatenate([part for _, part in drawn])

    def loss(log_temperature: float) -> float:
        scaled = scores / math.exp(log_temperature)
        top = scaled.max(axis=0)
        total = top + np.log(np.exp(scaled - top).sum(axis=0))
        return float((total - scaled[classes, np.arange(classes.size)]).mean())

    return math.exp(_golden_section(loss, math.log(_COLDEST), math.log(_HOTTEST)))


def _draw(
    values: Floats, truth: NDArray[np.generic], share: int, rng: np.random.Generator, logits: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits (C, n), the background's row first, and classes (n,) of some pixels of one image."""
    if values.shape == truth.shape:
        values = values[None]
    if values.shape[1:] != truth.shape:
        raise DataError(f"probabilities of shape {values.shape} do not fit a truth of shape {truth.shape}")
    chosen = np.arange(truth.size)
    if truth.size > share:
        chosen = rng.choice(truth.size, share, replace=False)
    rows = values.reshape(values.shape[0], -1)[:, chosen].astype(np.float64)
    classes = truth.ravel()[chosen].astype(np.int64)
    if not logits:
        rows = np.clip(rows, _CLIP, 1 - _CLIP)
        rows = np.log(rows) - np.log1p(-rows) if len(rows) == 1 else np.log(rows)
    if len(rows) == 1:
        return np.concatenate([np.zeros_like(rows), rows]), (classes != 0).astype(np.int64)
    return rows, classes


def _golden_section(loss: Loss, low: float, high: float, tolerance: float = 1e-4) -> float:
    """The minimum of a unimodal function (Kiefer 1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > tolerance:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return (low + high) / 2


def fit_confidence_map(soft: ArrayLike, dice: ArrayLike) -> tuple[list[float], list[float]]:
    """A monotone piecewise-linear map from soft Dice to expected Dice.

    Images are sorted by soft Dice and averaged in groups of about a twentieth of them, then pooled until Dice
    nowhere falls (pool adjacent violators, Ayer et al. 1955); each pool is a knot at its mean. Without the
    groups one odd image would set an end of the map.

    Args:
        soft, dice: (images,), 0 to 1; pairs that hold nan are left out.

    Returns:
        Strictly rising x, non-falling y; the identity where there is no image.
    """
    pairs = np.stack([np.asarray(soft, dtype=np.float64).ravel(), np.asarray(dice, dtype=np.float64).ravel()])
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if pairs.shape[1] == 0:
        return [0.0, 1.0], [0.0, 1.0]
    pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
    groups = np.array_split(pairs, min(20, pairs.shape[1]), axis=1)
    pools: list[tuple[float, float, int]] = []  # mean x, mean y, images
    for group in groups:
        pool = (float(group[0].mean()), float(group[1].mean()), group.shape[1])
        while pools and (pools[-1][1] >= pool[1] or pools[-1][0] >= pool[0]):
            x, y, n = pools.pop()
            m = n + pool[2]
            pool = ((x * n + pool[0] * pool[2]) / m, (y * n + pool[1] * pool[2]) / m, m)
        pools.append(pool)
    return [x for x, _, _ in pools], [y for _, y, _ in pools]


def apply_confidence_map(x: Sequence[float], y: Sequence[float], value: float) -> float:
    """Expected Dice of a soft Dice: linear between the knots, level beyond the ends.

    Args:
        x, y: what `fit_confidence_map` returned.
        value: soft Dice, 0 to 1.
    """
    return float(np.interp(value, x, y))


def conformal_halfwidth(residuals: ArrayLike, alpha: float = 0.1) -> float:
    """Half width of a split-conformal interval with coverage 1 - alpha (Lei et al. 2018, arXiv 1604.04173).

    Args:
        residuals: (images,) Dice minus confidence, on images that the map was not fitted on; nan is left out.
        alpha: how often the truth may lie outside.

    Returns:
        The ⌈(n + 1)(1 - alpha)⌉-th smallest size of a residual; 1, the whole range, where n is too small.
    """
    sizes = np.abs(np.asarray(residuals, dtype=np.float64).ravel())
    sizes = np.sort(sizes[np.isfinite(sizes)])
    rank = math.ceil((sizes.size + 1) * (1 - alpha) - 1e-9)  # 100 * (1 - 0.42) > 58
    return float(sizes[rank - 1]) if rank <= sizes.size else _LARGEST_DICE_ERROR

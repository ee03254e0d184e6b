"""Whether a mean difference is shown to be no worse than a margin: by a bound, not by a point.

    shown = noninferiority(differences, margin=0.01, groups=patients)
    shown.outcome            # "pass", "fail" or "undecided"
    shown.low, shown.high    # each end is a one-sided 95 % bound of the mean
    shown.more_images        # about how many more images would decide

The bounds are those of the paired studentised bootstrap (bootstrap-t: Efron & Tibshirani, An Introduction to the
Bootstrap, 1993, ch. 12.5), made more careful in two ways, each of which matters where few images carry the answer:

- as if a little more had been seen of the worst (for the upper bound: the best) image, see `_EXTRA`;
- never nearer than Student's t with the degrees of freedom that the spread of the squares leaves (Satterthwaite 1946).

Whole groups are drawn, with the linearised standard error of a ratio (Cochran, Sampling Techniques, 1977, ch. 6).
`benchmarks.gates` measures the rates of error, and docs/gates.md has them.

No test can see a loss that none of the images shows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Outcome = Literal["pass", "fail", "undecided"]
Floats = NDArray[np.float64]

DRAWS: Final = 8000
# Of each bound. The rest up to 5 % pays for what a bootstrap misses in small, skewed samples.
ERROR: Final = 0.045
# Of n images, the worst counts 30 / n times more than it was seen. Found by simulation: the least that keeps the error
# where a tenth of 30 images carries the whole loss; bootstrap-t alone lets 9 % through there. Its effect ends with n.
_EXTRA: Final = 30.0
FEWEST_CLUSTERS: Final = 5
# A draw in which all differences are one number has no spread of its own: its statistic is cut here.
_LARGEST_T: Final = 20.0
_FEWEST_FREEDOM: Final = 2.0
_Z: Final = NormalDist().inv_cdf(1 - ERROR)
# Of a normal variable: the chance of 80 % that more images are to give.
_Z_POWER: Final = 0.842
MOST_IMAGES: Final = 1_000_000
# Numbers that a margin is compared with come out of sums of floats: 0.89 - 0.9 is a little below -0.01.
_ROUNDING: Final = 1e-9
_CHUNK: Final = 1_000_000
# Draws of very many images are fewer: their mean is as good as normal, and nobody wants to wait for it.
_MOST_DRAWN: Final = 50_000_000
_FEWEST_DRAWS: Final = 1000


@dataclass(frozen=True)
class Shown:
    """What paired differences show of their mean.

    Attributes:
        mean: of the differences over images.
        low, high: one-sided bounds of the mean, 95 % each; infinite where there are too few images.
        images, clusters: how many there are; an image without a group is a cluster of its own.
        outcome: pass: the mean is shown to be above `-margin`; fail: below it; else undecided.
        more_images: about how many more would decide, if they go on like these; None where that is no question.
    """

    mean: float
    low: float
    high: float
    images: int
    clusters: int
    outcome: Outcome
    more_images: int | None


class Bounds(NamedTuple):
    """Of several sets of differences, each (sets,): mean, its standard error, and one-sided bounds."""

    mean: Floats
    error: Floats
    low: Floats
    high: Floats


def noninferiority(
    differences: ArrayLike, margin: float, groups: Sequence[str | None] | None = None, seed: int = 0
) -> Shown:
    """Test the mean of differences (new minus old; larger is better) against `-margin`.

    Args:
        differences: (images,).
        margin: how much may be lost, ≥ 0, in the unit of the differences.
        groups: one name an image; None stands alone.
        seed: of the draws: the same input gives the same answer.

    Raises:
        ValueError: a difference is no number.
    """
    values = np.asarray(differences, np.float64).ravel()
    if not np.isfinite(values).all():
        raise ValueError("a difference is not a finite number")
    sums, sizes = _clusters(values, groups)
    clusters = sums.size
    if clusters < FEWEST_CLUSTERS:
        mean = float(values.mean()) if values.size else math.nan
        more = max(1, round((FEWEST_CLUSTERS - clusters) * max(1.0, values.size / max(clusters, 1))))
        return Shown(mean, -math.inf, math.inf, values.size, clusters, "undecided", more)
    mean, error, low, high = (float(numbers[0]) for numbers in bounds(sums[:, None], sizes, seed))
    limit = -margin - _ROUNDING
    outcome: Outcome = "pass" if low >= limit else "fail" if high < limit else "undecided"
    more_images = _more_images(mean + margin, error, values.size) if outcome == "undecided" else None
    return Shown(mean, low, high, values.size, clusters, outcome, more_images)


def bounds(sums: Floats, sizes: Floats, seed: int = 0) -> Bounds:
    """One-sided bounds of the means of several sets of differences over the same clusters.

    Args:
        sums: (clusters, sets), of the differences in each cluster; at least two clusters.
        sizes: (clusters,), how many images each holds.
        seed: of the draws.
    """
    n, total = len(sizes), sizes.sum()
    means = sums.sum(axis=0) / total
    residuals = sums - np.outer(sizes, means)
    errors = np.sqrt((residuals**2).sum(axis=0) * n / (n - 1)) / total
    worst = _End(residuals, sizes, residuals.argmin(axis=0))
    best = _End(residuals, sizes, residuals.argmax(axis=0))
    above, below = [], []
    for drawn in _drawn(residuals, sizes, seed):
        above.append(worst.statistics(drawn))
        below.append(best.statistics(drawn))
    high_t = np.maximum(np.quantile(np.concatenate(above), 1 - ERROR, axis=0), _student(worst.freedom))
    low_t = np.minimum(np.quantile(np.concatenate(below), ERROR, axis=0), -_student(best.freedom))
    low = means + worst.shift - high_t * worst.error
    return Bounds(means, errors, low, means + best.shift - low_t * best.error)


class _Drawn(NamedTuple):
    """Sums over draws of n + 1 clusters, of which the last is the one that is added: of residuals r and sizes k.

    Arrays are (draws, sets) or (draws, 1), without the last cluster, which `times` counts.
    """

    r: Floats
    rr: Floats
    rk: Floats
    k: Floats
    kk: Floats
    times: Floats


class _End:
    """The sample with a little more of one of its clusters, seen from the sample's own mean.

    Attributes:
        shift: (sets,) by how much that moves the mean.
        error: (sets,) standard error of the mean then.
        freedom: (sets,) degrees of freedom of that error.
    """

    def __init__(self, residuals: Floats, sizes: Floats, place: NDArray[np.int64]) -> None:
        """`place`: (sets,) which of the clusters."""
        extra = _EXTRA / len(sizes)
        self._r = extra * residuals[place, np.arange(residuals.shape[1])]
        self._k = extra * sizes[place]
        self._n = len(sizes) + 1
        total = sizes.sum() + self._k
        self.shift = self._r / total
        squares = np.vstack([residuals - np.outer(sizes, self.shift), self._r - self._k * self.shift]) ** 2
        summed = squares.sum(axis=0)
        self.error = np.sqrt(summed * self._n / (self._n - 1)) / total
        with np.errstate(divide="ignore", invalid="ignore"):
            kurtosis = np.nan_to_num(self._n * (squares**2).sum(axis=0) / summed**2, nan=3.0)
        # Var(s²) ≈ s⁴ (kurtosis - 1) / n, and that of a multiple of chi² with f degrees of freedom is 2 s⁴ / f.
        self.freedom = np.clip(2 * self._n / np.maximum(kurtosis - 1, 1e-6), _FEWEST_FREEDOM, self._n - 1)

    def statistics(self, drawn: _Drawn) -> Floats:
        """The studentised mean of each draw, (draws, sets)."""
        size = drawn.k + drawn.times * self._k
        mean = (drawn.r + drawn.times * self._r) / size
        # The sum of (r - mean k)² over the drawn clusters, written out so that no draw has to be spread into a row.
        spread = drawn.rr + drawn.times * self._r**2 - 2 * mean * (drawn.rk + drawn.times * self._r * self._k)
        spread += mean**2 * (drawn.kk + drawn.times * self._k**2)
        deviation = np.sqrt(np.maximum(spread, 0.0) * self._n / (self._n - 1)) / size
        with np.errstate(divide="ignore", invalid="ignore"):
            t: Floats = np.nan_to_num((mean - self.shift) / deviation, nan=0.0)
        return np.asarray(np.clip(t, -_LARGEST_T, _LARGEST_T), np.float64)


def _drawn(residuals: Floats, sizes: Floats, seed: int) -> Iterator[_Drawn]:
    n = len(sizes)
    draws = min(DRAWS, max(_FEWEST_DRAWS, _MOST_DRAWN // n))
    squares, alike = residuals**2, bool((sizes == sizes[0]).all())
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        counts = _counts(n + 1, seed, start, min(step, draws - start)).astype(np.float64)
        weights, times = counts[:, :n], counts[:, n:]
        r = weights @ residuals
        rk = r * sizes[0] if alike else weights @ (residuals * sizes[:, None])
        yield _Drawn(r, weights @ squares, rk, (weights @ sizes)[:, None], (weights @ sizes**2)[:, None], times)


@lru_cache(maxsize=8)
def _counts(n: int, seed: int, start: int, draws: int) -> NDArray[np.uint8]:
    """How often each of n clusters is drawn, (draws, n); kept, as gates ask for the same number several times.

    A count is about one: none comes near 255.
    """
    rng = np.random.default_rng([seed, n, start])
    places = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * n).reshape(draws, n).astype(np.uint8)


def _student(freedom: Floats) -> Floats:
    """The quantile 1 - ERROR of Student's t (Fisher & Cornish 1960: within 0.4 % from two degrees of freedom on)."""
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum((term / freedom**power for power, term in enumerate(terms, 1)), np.zeros_like(freedom))


def _clusters(values: Floats, groups: Sequence[str | None] | None) -> tuple[Floats, Floats]:
    """Sum and size of each cluster."""
    names: list[object] = list(range(values.size))
    if groups is not None:
        names = [place if group is None else group for place, group in zip(names, groups, strict=True)]
    numbering: dict[object, int] = {}
    codes = np.array([numbering.setdefault(name, len(numbering)) for name in names], np.int64)
    sums = np.bincount(codes, weights=values).astype(np.float64)
    return sums, np.bincount(codes).astype(np.float64)


def _more_images(distance: float, error: float, images: int) -> int:
    """How many more images bring the bound across, with a chance of 80 %, if mean and spread stay as they are.

    Args:
        distance: of the mean from the margin, either way.
        error: standard error of the mean over `images`.
    """
    spread = error * math.sqrt(images)
    if abs(distance) * math.sqrt(MOST_IMAGES) <= (_Z + _Z_POWER) * spread:
        return MOST_IMAGES
    needed = math.ceil(((_Z + _Z_POWER) * spread / distance) ** 2)
    return max(1, needed - images)

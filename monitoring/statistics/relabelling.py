"""Permutation tests of several statistics at once, with one p-value for all of them.

    result = permutation_test(live, [gaps, shift, far], rng=np.random.default_rng(0), clusters=groups)
    result.p_value, result.adjusted["gaps"]

Under "no drift" the images of the window and of the reference are interchangeable, so what a statistic is worth when
images swap sides at random says how large it is by chance. That holds for any number of images, any distribution and
any dependence between the descriptors, and counts the error of both samples. Images of one cluster (a patient, a copy)
swap sides together.

The smallest p-value over the statistics is itself compared with its distribution over the same permutations
(Westfall & Young 1993, Resampling-Based Multiple Testing, 2.5): the level holds for all together, and costs less than
Bonferroni where they agree. Most windows are clearly no drift after a few permutations and take no more (Besag &
Clifford 1991, Sequential Monte Carlo p-values).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]

# After so many permutations a test ends if its p-value is above the limit beside it.
STAGES: Final = ((99, 0.25), (299, 0.12), (999, 0.02), (9_999, 0.0))
# Elements of a block of labels: permutations times images.
_BLOCK: Final = 500_000
_ROUNDING: Final = 1e-9


class Statistic(Protocol):
    """Something that is large when two groups of images differ."""

    @property
    def name(self) -> str:
        """What it is called in a result."""
        ...

    def __call__(self, live: Labels) -> Floats:
        """Its value for each way to divide the images.

        Args:
            live: (B, N), which of the N images stand for the window; at least one on each side.

        Returns:
            (B,).
        """
        ...


@dataclass(frozen=True)
class Permuted:
    """What a permutation test found.

    Attributes:
        p_value: of all statistics together.
        adjusted: the same of each statistic, for its being one of several.
        null: (B + 1,) each statistic's values, sorted: over the permutations, and the observed one.
        smallest: (B + 1,) the smallest p-value over the statistics, likewise.
    """

    p_value: float
    adjusted: Mapping[str, float]
    null: Mapping[str, Floats]
    smallest: Floats

    def adjusted_p(self, name: str, value: float) -> float:
        """The p-value of a part of a statistic that is the largest of several, as if it were the largest.

        Args:
            name: of the statistic.
            value: of the part.
        """
        null = self.null[name]
        as_large = null.size - int(np.searchsorted(null, value - _ROUNDING))
        return _share_up_to(self.smallest, max(as_large, 1) / null.size)


def permutation_test(
    live: Labels,
    statistics: Sequence[Statistic],
    *,
    rng: np.random.Generator,
    clusters: NDArray[np.int64] | None = None,
    stages: Sequence[tuple[int, float]] = STAGES,
) -> Permuted:
    """Test whether the division of images into window and reference is one like any other.

    Args:
        live: (N,), which images are the window's.
        statistics: what to look at.
        rng: of the permutations.
        clusters: (N,), images of the same number swap sides together; each is on one side. None: every image alone.
        stages: after how many permutations to end if the p-value is above what.
    """
    values = {statistic.name: [statistic(live[None])] for statistic in statistics}
    done = 0
    for goal, ends_above in stages:
        for block in _divisions(live, clusters, goal - done, rng):
            for statistic in statistics:
                values[statistic.name].append(statistic(block))
        done = goal
        tested = _judge({name: np.concatenate(parts) for name, parts in values.items()})
        if tested.p_value > ends_above:
            break
    return tested


def _judge(values: Mapping[str, Floats]) -> Permuted:
    """Values of the observed division first, then of the permutations."""
    count = len(next(iter(values.values())))
    # Sums of the same numbers in another order differ in the last digits.
    p_values = np.stack([rankdata(-np.round(each, 9), method="max") / count for each in values.values()])
    smallest = np.sort(p_values.min(axis=0))
    adjusted = {name: _share_up_to(smallest, float(p)) for name, p in zip(values, p_values[:, 0], strict=True)}
    null = {name: np.sort(each) for name, each in values.items()}
    return Permuted(min(adjusted.values()), adjusted, null, smallest)


def _share_up_to(ordered: Floats, value: float) -> float:
    return int(np.searchsorted(ordered, value + _ROUNDING, side="right")) / ordered.size


def _divisions(
    live: Labels, clusters: NDArray[np.int64] | None, count: int, rng: np.random.Generator
) -> Iterator[Labels]:
    """Random divisions with as many clusters on each side as there are, in blocks."""
    if clusters is None:
        of_unit, unit = live, None
    else:
        _, first, unit = np.unique(clusters, return_index=True, return_inverse=True)
        of_unit = live[first]
    rows = max(1, _BLOCK // live.size)
    for begun in range(0, count, rows):
        block = rng.permuted(np.tile(of_unit, (min(rows, count - begun), 1)), axis=1)
        yield block if unit is None else block[:, unit]

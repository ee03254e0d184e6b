"""How sure one can be of a mean over images that were labelled with unequal chances; `resunet.intervals` has the rest.

weighted_interval(dices, probabilities)
"""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from resunet.errors import DataError
from resunet.intervals import LEVEL, NOTHING, Interval

# With fewer weighted labels their spread is too badly known for a t interval.
FEW_WEIGHTED: Final = 10


def weighted_interval(values: ArrayLike, probabilities: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean over a population of which images were labelled with unequal, known chances (Hájek 1971).

    Each counts with the inverse of its probability: Σ (y / p) / Σ (1 / p). Variance is that of the linearised ratio as
    if drawn with replacement (Särndal, Swensson & Wretman 1992, 5.7 and 2.9), which errs on the wide side; t with
    n - 1 degrees of freedom. Below FEW_WEIGHTED labels the interval is 0 to 1.

    Args:
        values: (labels,), 0 to 1; nan is left out.
        probabilities: (labels,), above 0 and up to 1.

    Returns:
        (mean, low, high); all nan where there is no value.

    Raises:
        DataError: a probability is none.
    """
    numbers, chances = np.asarray(values, np.float64).ravel(), np.asarray(probabilities, np.float64).ravel()
    if numbers.shape != chances.shape or not ((chances > 0) & (chances <= 1)).all():
        raise DataError("each label needs the probability with which its image was chosen, above 0 and up to 1")
    known = np.isfinite(numbers)
    numbers, weights = numbers[known], 1 / chances[known]
    n = numbers.size
    if n == 0:
        return NOTHING
    mean = float((weights * numbers).sum() / weights.sum())
    if n < FEW_WEIGHTED:
        return mean, 0.0, 1.0
    parts = weights * (numbers - mean) / weights.sum()
    wide = float(stats.t.ppf((1 + level) / 2, n - 1)) * math.sqrt(n / (n - 1) * float((parts**2).sum()))
    return mean, max(0.0, mean - wide), min(1.0, mean + wide)

"""Distance between the means of two groups of images in all descriptors at once.

    shift = Shift(pool)              # (N, D)
    shift(live)                      # (B,)

Each descriptor is replaced by its normal scores (van der Waerden 1952), so that one outlier moves nothing; then all are
whitened by their common covariance (Hotelling's T², 1931, with a little on the eigenvalues, since some descriptors are
nearly functions of others). A change too small to be seen in any one descriptor shows in how they go together.
"""

import numpy as np
from scipy.stats import norm, rankdata

from monitoring.statistics.relabelling import Floats, Labels

_RIDGE = 0.01


class Shift:
    """The statistic over a fixed pool of values.

    Args:
        pool: (N, D), all images of both sides, finite.
        name: of the statistic.
    """

    def __init__(self, pool: Floats, name: str = "shift") -> None:
        self.name = name
        scores = norm.ppf((rankdata(pool, axis=0) - 0.5) / len(pool))
        spread = scores.std(axis=0)
        scores = (scores - scores.mean(axis=0)) / np.where(spread > 0, spread, 1)
        values, vectors = np.linalg.eigh(scores.T @ scores / len(scores))
        self._white = (scores @ (vectors / np.sqrt(np.maximum(values, 0) + _RIDGE))).astype(np.float32)

    def __call__(self, live: Labels) -> Floats:
        marked = live.astype(np.float32)
        count = marked.sum(axis=1, keepdims=True)
        # The pool's mean is 0, so the other side's mean follows.
        difference = marked @ self._white * (1 / count + 1 / (live.shape[1] - count))
        squares: Floats = np.square(difference, dtype=np.float64).sum(axis=1)
        return squares

    def along(self, live: Labels) -> Floats:
        """(N, 1): where each image lies on the line from the reference's mean to the window's.

        Args:
            live: (N,).
        """
        direction = self._white[live].mean(axis=0) - self._white[~live].mean(axis=0)
        places: Floats = (self._white @ direction).astype(np.float64)[:, None]
        return places

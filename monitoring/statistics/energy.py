"""Energy distance between two groups of points: 0 if, and only if, they come from one distribution.

    energy = Energy(points)          # (N, D), embeddings
    energy(live)                     # (B,)

Székely & Rizzo 2004, Testing for Equal Distributions in High Dimension: 2 E|X − Y| − E|X − X'| − E|Y − Y'|. It is a
maximum mean discrepancy with the distance for its kernel (Sejdinovic et al. 2013), and has no width to choose.

Distances are rounded to steps so large that each sum of them is exact in single precision, in whatever order it is
made. Else divisions that are worth the same, as of embeddings that occur twice, would differ by rounding, and so would
p-values.
"""

from typing import Final

import numpy as np
from scipy.spatial.distance import cdist

from monitoring.statistics.relabelling import Floats, Labels

# Single precision holds all whole numbers up to here.
_EXACT: Final = 2.0**24


class Energy:
    """The statistic over a fixed pool of points.

    Args:
        points: (N, D), all images of both sides, finite; each axis is divided by its standard deviation.
        name: of the statistic.
    """

    def __init__(self, points: Floats, name: str = "energy") -> None:
        self.name = name
        spread = points.std(axis=0)
        scaled = (points - points.mean(axis=0)) / np.where(spread > 1e-9, spread, 1)
        distances = cdist(scaled, scaled)
        largest = float(distances.max())
        self._step = largest * len(points) / _EXACT if largest > 0 else 1.0
        # In place: of some thousand images each copy takes a hundred megabytes.
        steps = np.floor(np.divide(distances, self._step, out=distances), out=distances)
        self._from_each = steps.sum(axis=1)
        self._all = float(steps.sum())
        self._steps = steps.astype(np.float32)

    def __call__(self, live: Labels) -> Floats:
        marked = live.astype(np.float32)
        within = ((marked @ self._steps) * marked).sum(axis=1, dtype=np.float64)
        from_live = live @ self._from_each
        between = from_live - within
        rest = self._all - 2 * between - within
        count = live.sum(axis=1, dtype=np.float64)
        other = live.shape[1] - count
        energy: Floats = 2 * between / (count * other) - within / count**2 - rest / other**2
        return energy * self._step

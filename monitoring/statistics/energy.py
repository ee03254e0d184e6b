"""Energy distance between two groups of points: 0 if, and only if, they come from one distribution.

    energy = Energy(points)          # (N, D), embeddings
    energy(live)                     # (B,)

Székely & Rizzo 2004, Testing for Equal Distributions in High Dimension: 2 E|X − Y| − E|X − X'| − E|Y − Y'|. It is a
maximum mean discrepancy with the distance for its kernel (Sejdinovic et al. 2013), and has no width to choose.
"""

import numpy as np
from scipy.spatial.distance import cdist

from monitoring.statistics.relabelling import Floats, Labels


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
        self._from_each = distances.sum(axis=1)
        self._all = float(distances.sum())
        self._distances = distances.astype(np.float32)

    def __call__(self, live: Labels) -> Floats:
        marked = live.astype(np.float32)
        within = ((marked @ self._distances) * marked).sum(axis=1, dtype=np.float64)
        from_live = live @ self._from_each
        between = from_live - within
        rest = self._all - 2 * between - within
        count = live.sum(axis=1, dtype=np.float64)
        other = live.shape[1] - count
        energy: Floats = 2 * between / (count * other) - within / count**2 - rest / other**2
        return energy

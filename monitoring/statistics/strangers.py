"""Images that lie far from every reference image: a few of another kind among many that are as ever.

    strangers = Strangers(pool)      # (N, D)
    strangers(live)                  # (B,)
    strangers.distances(live[None])  # (1, N)

The distance of an image is that to its second nearest reference image (the nearest may be a copy), in a space where
each descriptor is scaled by its median and middle range, large values are compressed (arcsinh), and all are whitened.
Of the images that lie furthest the window should hold its share: the statistic is the smallest hypergeometric tail
probability over how many of the furthest are looked at, as −log.
"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import hypergeom

from monitoring.statistics.relabelling import Floats, Labels

_FURTHEST: Final = (3, 5, 8, 12, 18, 27, 40)
_NEIGHBOURS: Final = 24
# So many for each reference image among them hardly ever hold fewer than two.
_PER_REFERENCE: Final = 12
_MOST_NEIGHBOURS: Final = 96
_NTH: Final = 2
_RIDGE: Final = 0.05
_CLIP: Final = 2.0
_MIDDLE: Final = (0.1, 0.9)
# Of a normal distribution, in standard deviations.
_MIDDLE_WIDTH: Final = 2.563
# Share of the images below which they are followed one by one.
_FEW: Final = 0.2
# Elements of a block: divisions times images times neighbours.
_BLOCK: Final = 20_000_000


class Strangers:
    """The statistic over a fixed pool of values.

    Args:
        pool: (N, D), all images of both sides, finite.
        reference: how many of them are the reference's; the fewer, the more neighbours are looked through for one.
        name: of the statistic.
    """

    def __init__(self, pool: Floats, reference: int | None = None, name: str = "strangers") -> None:
        self.name = name
        self._points = spread_out(pool)
        share = 1.0 if reference is None else max(reference, 1) / len(pool)
        count = min(max(_NEIGHBOURS, math.ceil(_PER_REFERENCE / share)), _MOST_NEIGHBOURS, len(pool) - 1)
        self._near, self._who = _neighbours(self._points, count)
        self._far = float(self._near.max())
        self._tails: dict[tuple[int, int], Floats] = {}

    def __call__(self, live: Labels) -> Floats:
        parts = [self._block(block) for block in self._blocks(live)]
        return np.concatenate(parts)

    def distances(self, live: Labels) -> Floats:
        """(B, N): of each image to its second nearest reference image."""
        found = np.concatenate([self._distances(block) for block in self._blocks(live)])
        for row, division in zip(found, live, strict=True):
            alone = np.flatnonzero(self._references_near(division[None])[0] < _NTH)
            if alone.size and np.count_nonzero(~division) > _NTH:
                # Among their like: none of the neighbours that are known is of the reference.
                away = np.sort(cdist(self._points[alone], self._points[~division]), axis=1)
                row[alone] = away[:, _NTH - 1]
        return found

    def nearest(self, live: Labels) -> NDArray[np.int64]:
        """(N,): the nearest reference image of each image, or the nearest other one if it is of the reference itself.

        Args:
            live: (N,).
        """
        references = np.flatnonzero(~live)
        away = cdist(self._points, self._points[references])
        away[references, np.arange(references.size)] = np.inf
        nearest: NDArray[np.int64] = references[away.argmin(axis=1)]
        return nearest

    def _blocks(self, live: Labels) -> Iterator[Labels]:
        rows = max(1, _BLOCK // self._near.size)
        for begun in range(0, len(live), rows):
            yield live[begun : begun + rows]

    def _distances(self, live: Labels) -> Floats:
        """(B, N): as far as the neighbours that are known tell.

        Whoever has only images of the window around it is a stranger among strangers: as far as any. Most find their
        reference images among the first few neighbours, and only the others are followed further.
        """
        reference = np.ascontiguousarray(~live.T)
        distances = np.full(reference.shape, self._far)
        met = np.zeros(reference.shape, np.int8)
        following = iter(range(self._who.shape[1]))
        for place in following:
            here = reference[self._who[:, place]]
            np.copyto(distances, self._near[:, place, None], where=here & (met == _NTH - 1))
            met += here
            if np.count_nonzero(met < _NTH) < _FEW * met.size:
                break
        image, division = np.nonzero(met < _NTH)
        left = met[image, division]
        for place in following:
            here = reference[self._who[image, place], division]
            done = here & (left == _NTH - 1)
            distances[image[done], division[done]] = self._near[image[done], place]
            image, division, left = image[~done], division[~done], (left + here)[~done]
        return distances.T

    def _references_near(self, live: Labels) -> NDArray[np.int64]:
        return np.asarray((~live[:, self._who]).sum(axis=2))

    def _block(self, live: Labels) -> Floats:
        distances = self._distances(live)
        most = min(_FURTHEST[-1], live.shape[1] - 1)
        furthest = np.argpartition(-distances, most - 1, axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(distances, furthest, axis=1), axis=1, kind="stable")
        among = np.take_along_axis(live, np.take_along_axis(furthest, order, axis=1), axis=1).cumsum(axis=1)
        counts = live.sum(axis=1)
        best = np.zeros(len(live))
        for number in (n for n in _FURTHEST if n <= most):
            for count in np.unique(counts):
                mine = counts == count
                tail = self._tail(number, int(count), live.shape[1])
                best[mine] = np.maximum(best[mine], tail[among[mine, number - 1]])
        return best

    def _tail(self, number: int, count: int, images: int) -> Floats:
        """−log P(at least k of the furthest `number` are among `count` of the images), by k."""
        known = self._tails.get((number, count))
        if known is None:
            tail = hypergeom.sf(np.arange(number + 1) - 1, images, count, number)
            known = self._tails[number, count] = -np.log(np.maximum(tail, 1e-300))
        return known


def spread_out(pool: Floats) -> Floats:
    """(N, D) scaled, compressed and whitened values; what is constant stays 0."""
    low, high = np.quantile(pool, _MIDDLE, axis=0)
    middle, spread = (high - low) / _MIDDLE_WIDTH, pool.std(axis=0)
    centre = np.median(pool, axis=0)
    flat = 1e-9 * (1 + np.abs(centre))  # the rounding of equal values
    scale = np.where(middle > flat, middle, np.where(spread > flat, spread, 1))
    scaled = np.arcsinh((pool - centre) / scale)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(np.clip(scaled, -_CLIP, _CLIP).T)))
    white: Floats = scaled @ (vectors / np.sqrt(np.maximum(values, 0) + _RIDGE))
    return white


def _neighbours(points: Floats, count: int) -> tuple[Floats, NDArray[np.int64]]:
    """Distances to the nearest others, nearest first, and who they are: (N, count) both."""
    near, who = cKDTree(points).query(points, k=count + 1)
    # An image finds itself first, or a copy of it in its place.
    itself = who == np.arange(len(points))[:, None]
    itself[~itself.any(axis=1), -1] = True
    shape = (len(points), count)
    return near[~itself].reshape(shape), who[~itself].reshape(shape)

"""How far images are from those that a version was tested on, in the space of its embeddings.

    space = ReferenceSpace(reference_embeddings)
    distances = space.distances(live_embeddings)         # to the nearest reference image
    share = (distances > space.radius).mean()            # 1 % where nothing has changed

Of the reference, held-out images alone have embeddings: on training images the network remembers.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from resunet.errors import DataError

Floats = NDArray[np.float32]

SIZE: Final = 64
# Of the reference images, this share is nearer to another one than `radius`.
NEAR: Final = 0.99
_LEAST: Final = 3
_AT_ONCE: Final = 1_000_000


class ReferenceSpace:
    """Embeddings of a version's held-out images; each dimension is measured in its standard deviations there.

    Args:
        embeddings: (n, 64), n at least 3.

    Raises:
        DataError: they are too few, or of another shape.

    Attributes:
        radius: within it, 99 % of the reference images have another one.
    """

    def __init__(self, embeddings: Floats) -> None:
        if embeddings.ndim != 2 or len(embeddings) < _LEAST:
            raise DataError(f"a distance needs at least {_LEAST} reference embeddings, not {embeddings.shape}")
        spread = embeddings.std(axis=0)
        # A dimension in which the reference does not vary has no unit of its own.
        self._scale = np.where(
            spread > 1e-6 * max(float(spread.max()), 1e-12), spread, max(float(spread.mean()), 1e-12)
        )
        self._middle = embeddings.mean(axis=0)
        self._points = self.scaled(embeddings)
        own = self._nearest(self._points, itself=True)
        self.radius = float(np.quantile(own, NEAR))

    def scaled(self, embeddings: Floats) -> Floats:
        """(n, 64) in standard deviations of the reference from its mean."""
        return np.asarray((embeddings - self._middle) / self._scale, np.float32)

    def distances(self, embeddings: Floats) -> NDArray[np.float64]:
        """(n,): of each to the nearest reference image, standard deviations."""
        return self._nearest(self.scaled(embeddings), itself=False)

    def _nearest(self, points: Floats, itself: bool) -> NDArray[np.float64]:
        found = np.empty(len(points))
        squares = (self._points**2).sum(axis=1)
        step = max(1, _AT_ONCE // len(self._points))
        for start in range(0, len(points), step):
            part = points[start : start + step]
            gaps = (part**2).sum(axis=1)[:, None] + squares - 2 * part @ self._points.T
            if itself:
                places = np.arange(len(part))
                gaps[places, start + places] = np.inf
            found[start : start + step] = np.sqrt(np.maximum(gaps.min(axis=1), 0))
        return found


def from_bytes(stored: Iterable[bytes | None]) -> Floats:
    """(n, 64): embeddings as the inference log keeps them; nan where there is none."""
    nothing = np.full(SIZE, np.nan, np.float32)
    rows = [np.frombuffer(one, "<f4") if one is not None and len(one) == 4 * SIZE else nothing for one in stored]
    return np.array(rows, np.float32).reshape(-1, SIZE)


def from_lists(stored: Iterable[Sequence[float] | None]) -> Floats:
    """(n, 64): those of a version's `reference.parquet` that are there."""
    rows = [np.asarray(one, np.float32) for one in stored if one is not None and len(one) == SIZE]
    return np.array(rows, np.float32).reshape(-1, SIZE)

"""What is known of many rows without keeping them: for each column counts in fixed bins, mean, spread and range.

    sketch = Sketch.of(values)                      # (N, len(COLUMNS)), NaN where a row has no value
    both = sketch.merge(Sketch.of(others))
    again = Sketch.from_bytes(both.to_bytes())

Counts merge exactly, means and spreads by Chan, Golub & LeVeque (1979, Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances, eq. 2.1): in whichever order and grouping, the outcome is the same up to rounding.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from records.sketch_bins import BIN_COUNT, COLUMNS, EDGES, FORMAT, Floats
from resunet.errors import RecordsError

_WIDTH = len(COLUMNS)
# format, columns, bins, rows
_HEADER = struct.Struct("<HHHQ")
_COUNT, _NUMBER = np.dtype("<u4"), np.dtype("<f8")
_BYTES = _HEADER.size + _WIDTH * (BIN_COUNT * _COUNT.itemsize + 4 * _NUMBER.itemsize)
_EDGES = [EDGES[name] for name in COLUMNS]


@dataclass(frozen=True, eq=False)
class Sketch:
    """Sums over rows; columns are in the order of `records.sketch_bins.COLUMNS`.

    Attributes:
        rows: summed up.
        counts: (columns, BIN_COUNT) int64; what a row has no value for is in no bin.
        mean: (columns,), 0 where there is no value.
        squares: (columns,), sum of the squared distances to the mean.
        minimum, maximum: (columns,), infinite where there is no value.
    """

    rows: int
    counts: NDArray[np.int64]
    mean: Floats
    squares: Floats
    minimum: Floats
    maximum: Floats

    @classmethod
    def empty(cls) -> "Sketch":
        """Of no rows."""
        zero = np.zeros(_WIDTH)
        counts = np.zeros((_WIDTH, BIN_COUNT), np.int64)
        return cls(0, counts, zero, zero, np.full(_WIDTH, np.inf), np.full(_WIDTH, -np.inf))

    @classmethod
    def of(cls, values: Floats) -> "Sketch":
        """Sum rows up; values: (N, columns), what is not finite is no value."""
        if not len(values):
            return cls.empty()
        there = np.isfinite(values)
        size = there.sum(axis=0)
        counts = np.zeros((_WIDTH, BIN_COUNT), np.int64)
        for place, edges in enumerate(_EDGES):
            known = values[there[:, place], place]
            counts[place] = np.bincount(np.searchsorted(edges, known), minlength=BIN_COUNT)
        mean = np.where(there, values, 0.0).sum(axis=0) / np.maximum(size, 1)
        squares = np.square(np.where(there, values - mean, 0.0)).sum(axis=0)
        lower, upper = np.where(there, values, np.inf).min(axis=0), np.where(there, values, -np.inf).max(axis=0)
        return cls(len(values), counts, *_exact(mean, squares, lower, upper))

    @classmethod
    def merged(cls, sketches: Iterable["Sketch"]) -> "Sketch":
        """All of them in one."""
        return reduce(Sketch.merge, sketches, cls.empty())

    @property
    def values(self) -> NDArray[np.int64]:
        """Values that are there: (columns,)."""
        return np.asarray(self.counts.sum(axis=1))

    def merge(self, other: "Sketch") -> "Sketch":
        """The sketch of the rows of both."""
        ours, theirs = self.values, other.values
        size = np.maximum(ours + theirs, 1)
        apart = np.where((ours > 0) & (theirs > 0), other.mean - self.mean, 0.0)
        mean = np.where(ours > 0, self.mean, other.mean) + apart * (theirs / size)
        squares = self.squares + other.squares + apart * apart * (ours * (theirs / size))
        lower, upper = np.minimum(self.minimum, other.minimum), np.maximum(self.maximum, other.maximum)
        return Sketch(self.rows + other.rows, self.counts + other.counts, *_exact(mean, squares, lower, upper))

    def to_bytes(self) -> bytes:
        """Little-endian numbers, packed: most bins of most sketches are empty."""
        numbers = np.stack([self.mean, self.squares, self.minimum, self.maximum])
        header = _HEADER.pack(FORMAT, _WIDTH, BIN_COUNT, self.rows)
        return zlib.compress(header + self.counts.astype(_COUNT).tobytes() + numbers.astype(_NUMBER).tobytes(), 1)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Sketch":
        """Read what `to_bytes` wrote; nothing at all is the sketch of no rows.

        Raises:
            RecordsError: it is something else.
        """
        if not content:
            return cls.empty()
        try:
            content = zlib.decompress(content)
            *shape, rows = _HEADER.unpack_from(content)
        except (zlib.error, struct.error) as error:
            raise _damaged() from error
        if shape != [FORMAT, _WIDTH, BIN_COUNT] or len(content) != _BYTES:
            raise _damaged()
        cells = _WIDTH * BIN_COUNT
        counts = np.frombuffer(content, _COUNT, cells, _HEADER.size).reshape(_WIDTH, BIN_COUNT).astype(np.int64)
        numbers = np.frombuffer(content, _NUMBER, 4 * _WIDTH, _HEADER.size + cells * _COUNT.itemsize)
        return cls(rows, counts, *numbers.reshape(4, _WIDTH).astype(np.float64))


def _exact(mean: Floats, squares: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The same; but where all values are equal, rounding must not spread them."""
    equal = lower == upper
    return np.where(equal, lower, mean), np.where(equal, 0.0, squares), lower, upper


def _damaged() -> RecordsError:
    return RecordsError(
        "a sketch of the inference log is damaged or of another format: `python -m monitoring trend` makes it anew"
    )

"""Quantiles of a stream in little memory, which several workers can add up.

    latency = Sketch.of_latencies()     # 0.1 ms to ten minutes, each quantile within 1 %
    confidence = Sketch.of_shares()     # 0 to 1, within 0.005
    latency.add(41.0)
    latency.merge(of_another_worker)
    latency.quantile(0.95), latency.mean, latency.smallest

Values fall into bins, for latencies of equal ratio as in DDSketch (Masson, Rim & Lee, PVLDB 2019); bins are added. The
mean and the smallest value are exact to a millionth.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from serving.rollout.cells import log_latency, millionths

Kind = Literal["latency", "share"]

# Half of the width of a bin: of a latency's logarithm, and of a share.
_HALF: Final[Mapping[Kind, float]] = {"latency": 0.01, "share": 0.005}
_MILLION: Final = 1_000_000


class Sketch:
    """Counts by bin. Not safe between threads: one a thread, or a lock around it."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.bins: Counter[int] = Counter()
        self._sum = 0
        self._smallest: int | None = None

    @classmethod
    def of_latencies(cls) -> Self:
        """For milliseconds."""
        return cls("latency")

    @classmethod
    def of_shares(cls) -> Self:
        """For numbers from 0 to 1."""
        return cls("share")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> int:
        """How many values."""
        return self.bins.total()

    @property
    def mean(self) -> float:
        """Of all values; nan of none."""
        return self._sum / self.count / _MILLION if self.bins else math.nan

    @property
    def smallest(self) -> float:
        """Of all values; nan of none."""
        return math.nan if self._smallest is None else self._smallest / _MILLION

    def add(self, value: float) -> None:
        """Count a value; what is outside of the range counts as its end.

        Raises:
            ValueError: it is not a number.
        """
        if math.isnan(value):
            raise ValueError("a value is not a number")
        number = log_latency(value) if self.kind == "latency" else min(1.0, max(0.0, value))
        kept = millionths(math.exp(number) if self.kind == "latency" else number)
        self.bins[math.floor(number / (2 * _HALF[self.kind]))] += 1
        self._sum += kept
        self._smallest = kept if self._smallest is None else min(self._smallest, kept)

    def merge(self, other: Self) -> None:
        """Add what another one of the same kind counted."""
        if other.kind != self.kind:
            raise ValueError(f"a sketch of {other.kind} cannot be added to one of {self.kind}")
        self.bins += other.bins
        self._sum += other._sum
        known = [one for one in (self._smallest, other._smallest) if one is not None]
        self._smallest = min(known, default=None)

    def quantile(self, q: float) -> float:
        """The value that a share `q` of the values does not exceed, to the middle of its bin; nan of none."""
        if not self.bins:
            return math.nan
        left = max(1, math.ceil(q * self.count))
        for place in sorted(self.bins):
            left -= self.bins[place]
            if left <= 0:
                break
        half = _HALF[self.kind]
        middle = (2 * place + 1) * half
        return math.exp(middle) if self.kind == "latency" else min(1.0, middle)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        bins = {str(place): self.bins[place] for place in sorted(self.bins)}
        return {"kind": self.kind, "bins": bins, "sum": self._sum, "smallest": self._smallest}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            ValueError: it gave something else.
        """
        if content["kind"] not in _HALF:
            raise ValueError(f"there is no sketch of {content['kind']}")
        sketch = cls(content["kind"])
        sketch.bins = Counter({int(place): int(count) for place, count in content["bins"].items()})
        sketch._sum, sketch._smallest = int(content["sum"]), content["smallest"]
        return sketch

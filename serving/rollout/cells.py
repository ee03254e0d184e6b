"""What was answered, in sums of groups of callers: all that the tests of a rollout need to remember.

    cells = Cells()
    cells.add(assigned.cell, Answer(ok=True, latency_ms=41.0, confidence=0.93))
    cells.merge(of_another_worker)
    answers, sums = cells.of("latency")

Each caller lives in one of `CELLS` cells, drawn by hash (`serving.rollout.assignment`), and the canary is whole cells:
so a cell holds answers of one version alone, and all that a caller ever sends stays in one cell. What is kept does not
grow with the traffic. Sums are whole numbers of millionths: merged in any order they are the same, and do not drift.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

Metric = Literal["errors", "latency", "confidence"]
Floats = NDArray[np.float64]

METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
CELLS: Final = 2000
_MILLION: Final = 1_000_000
# What is outside, a clock that stood still or a request that hung, counts as if it were at the end.
_SHORTEST_MS: Final = 0.1
_LONGEST_MS: Final = 600_000.0
_COLUMNS: Final = 5


class Answer(NamedTuple):
    """How one version did on one request. Latency and confidence say something only where it is ok.

    A request that is refused for its own fault, such as a bad image, is no answer: no version is to blame for it.

    Attributes:
        ok: False where the version failed.
        latency_ms: wall clock.
        confidence: 0 to 1.
    """

    ok: bool
    latency_ms: float = math.nan
    confidence: float = math.nan


class Sums(NamedTuple):
    """Of each cell, (CELLS,): how many answers, and the sum of one metric over them; more is worse."""

    answers: Floats
    sums: Floats


class Cells:
    """Counts and sums of each cell. Not safe between threads: one a thread, or a lock around it.

    Attributes:
        counts: (5, CELLS) int64: requests, errors, answers that are compared, and of these the sums of log latency and
            of lost confidence, in millionths.
    """

    def __init__(self, counts: NDArray[np.int64] | None = None) -> None:
        self.counts = np.zeros((_COLUMNS, CELLS), np.int64) if counts is None else counts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cells) and bool((self.counts == other.counts).all())

    __hash__ = None  # type: ignore[assignment]

    @property
    def requests(self) -> int:
        """All of them, whether answered or not."""
        return int(self.counts[0].sum())

    def add(self, cell: int, answer: Answer, *, compared: bool = True) -> None:
        """Count one request.

        Args:
            cell: of the caller.
            answer: of the version.
            compared: False: whether it is ok is all that counts.

        Raises:
            ValueError: there is no such cell, or a number that counts is none.
        """
        if not 0 <= cell < CELLS:
            raise ValueError(f"there is no cell {cell}")
        column = [1, int(not answer.ok), 0, 0, 0]
        if answer.ok and compared:
            if math.isnan(answer.latency_ms) or math.isnan(answer.confidence):
                raise ValueError("a latency or a confidence is not a number")
            lost = 1.0 - min(1.0, max(0.0, answer.confidence))
            column[2:] = 1, millionths(log_latency(answer.latency_ms)), millionths(lost)
        self.counts[:, cell] += column

    def merge(self, other: Self) -> None:
        """Add what another one counted."""
        self.counts += other.counts

    def of(self, metric: Metric) -> Sums:
        """What a metric's tests read."""
        requests, errors, answers, latency, lost = self.counts
        if metric == "errors":
            return Sums(requests.astype(np.float64), errors.astype(np.float64))
        return Sums(answers.astype(np.float64), (latency if metric == "latency" else lost) / _MILLION)

    def to_json(self) -> dict[str, list[int]]:
        """JSON-able: the cells that hold something."""
        return {str(cell): self.counts[:, cell].tolist() for cell in np.flatnonzero(self.counts[0])}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            ValueError: it gave something else.
        """
        cells = cls()
        for name, column in content.items():
            cell = int(name)
            if not 0 <= cell < CELLS or len(column) != _COLUMNS:
                raise ValueError(f"there is no cell {name} of {len(column)} numbers")
            cells.counts[:, cell] = column
        return cells


def log_latency(latency_ms: float) -> float:
    """Natural logarithm of milliseconds, between those of 0.1 ms and of ten minutes."""
    return math.log(min(_LONGEST_MS, max(_SHORTEST_MS, latency_ms)))


def millionths(number: float) -> int:
    """The nearest whole number of them."""
    return round(number * _MILLION)

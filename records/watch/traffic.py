"""How much was answered, refused and failed, bucket by bucket, from the sums that are kept by the hour.

    found = read_traffic(engine, "resunet", Span.until(now, timedelta(days=7)))
    found.buckets[-1].answered, found.parts[0].p95_ms, found.unsummed

Clients are answered by production and canary: buckets and totals are of these. Rows are counted, and only where there
are no sums of their hour: of those hours no latency is told. What is answered and refused are images; what failed are
requests, of which nobody knows how many images they had.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import Engine, func, select

from records.engines import explained
from records.failures import Failed, read_failures
from records.schema import ANSWERING_ROUTES, predictions
from records.sketch import Sketch
from records.sketch_bins import BIN_COUNT, COLUMNS, EDGES
from records.sketch_hours import HOUR, each_hour
from records.sketch_quantiles import quantile
from records.sketches import Key, hour_of

# Lengths of a bucket, in hours: that one is taken of which there are not too many to be drawn.
_HOURS: Final = (1, 2, 3, 4, 6, 12, 24, 48, 168, 672)
MOST_BUCKETS: Final = 60
_LATENCY: Final = COLUMNS.index("latency_ms")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Span:
    """A stretch of time in buckets of one length that lie end to end on UTC; the last one is under way.

    Attributes:
        start: of the first bucket.
        now: what comes later does not count.
        bucket: length of one, whole hours.
    """

    start: datetime
    now: datetime
    bucket: timedelta

    @classmethod
    def until(cls, now: datetime, length: timedelta) -> "Span":
        """The whole buckets that hold the last stretch of a length; now: aware."""
        now = now.astimezone(UTC)
        sizes = [timedelta(hours=hours) for hours in _HOURS]
        bucket = next((size for size in sizes if length / size <= MOST_BUCKETS - 1), sizes[-1])
        return cls(_floor(now - length, bucket), now, bucket)

    @property
    def starts(self) -> list[datetime]:
        """Of the buckets."""
        count = (_floor(self.now, self.bucket) - self.start) // self.bucket + 1
        return [self.start + place * self.bucket for place in range(count)]

    @property
    def end(self) -> datetime:
        """Of the last bucket, which is later than now."""
        return self.starts[-1] + self.bucket

    @property
    def lately(self) -> datetime:
        """The beginning of the hour before the one under way: of what is summed up by the hour, this is the latest."""
        return hour_of(self.now) - HOUR

    def place(self, moment: datetime) -> int:
        """The number of the bucket that a moment lies in."""
        return (moment - self.start) // self.bucket


@dataclass(frozen=True)
class Bucket:
    """What clients sent in a bucket.

    Attributes:
        p50_ms, p95_ms: of the answers' latency; None where it is not known.
        failed: requests that the server failed.
    """

    start: datetime
    answered: int
    refused: int
    p50_ms: float | None
    p95_ms: float | None
    failed: int = 0


@dataclass(frozen=True)
class Part:
    """The same of one version on one route, over the whole span; any route, also those that no client waits for."""

    version: str
    route: str
    answered: int
    refused: int
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class Failure:
    """Requests that the server failed with one status (5xx) on one route; path: its template."""

    status: int
    path: str
    requests: int


@dataclass(frozen=True)
class Traffic:
    """What a model was asked for.

    Attributes:
        answered, refused: images of clients, in all buckets.
        p50_ms, p95_ms: the same.
        buckets: all of the span, the oldest first.
        parts: by version and route, the busiest first.
        unsummed: hours whose rows were counted and whose latency is not known.
        failed: requests, in all buckets.
        failures: the same by status and route, the most first; failures_lately: those since `Span.lately`.
        failures_known: whether this role may read them; else there are none here, and nobody knows.
    """

    answered: int
    refused: int
    p50_ms: float | None
    p95_ms: float | None
    buckets: tuple[Bucket, ...]
    parts: tuple[Part, ...]
    unsummed: int
    failed: int = 0
    failures: tuple[Failure, ...] = ()
    failures_lately: tuple[Failure, ...] = ()
    failures_known: bool = True


class _Group(NamedTuple):
    bucket: int
    version: str
    route: str


@dataclass
class _Sum:
    """What is added up of a group."""

    answered: int = 0
    refused: int = 0
    counts: Any = field(default_factory=lambda: np.zeros(BIN_COUNT, np.int64))
    minimum: float = np.inf
    maximum: float = -np.inf

    def count(self, status: str, rows: int) -> None:
        if status == "ok":
            self.answered += rows
        else:
            self.refused += rows

    def time(self, sketch: Sketch) -> None:
        self.counts = self.counts + sketch.counts[_LATENCY]
        self.minimum = min(self.minimum, float(sketch.minimum[_LATENCY]))
        self.maximum = max(self.maximum, float(sketch.maximum[_LATENCY]))

    def add(self, other: "_Sum") -> None:
        self.answered, self.refused = self.answered + other.answered, self.refused + other.refused
        self.counts = self.counts + other.counts
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)

    def latency(self, share: float) -> float | None:
        if not self.counts.any():
            return None
        return quantile(EDGES["latency_ms"], self.counts, self.minimum, self.maximum, share).value

    @property
    def told(self) -> tuple[int, int, float | None, float | None]:
        return self.answered, self.refused, self.latency(0.5), self.latency(0.95)


def read_traffic(engine: Engine, model_name: str, span: Span) -> Traffic:
    """Add up what is kept of a span; nothing is written.

    Raises:
        RecordsError: the database does not answer.
    """
    groups: dict[_Group, _Sum] = {}

    def take(key: Key, rows: int, content: bytes) -> None:
        group = groups.setdefault(_Group(span.place(key.hour), key.model_version, key.route), _Sum())
        group.count(key.status, rows)
        if key.status == "ok":
            group.time(Sketch.from_bytes(content))

    unsummed = each_hour(engine, model_name, span.start, span.end, take)
    _count_rows(engine, model_name, span, unsummed, groups)
    failed = read_failures(engine, model_name, min(span.start, span.lately), span.end)
    return _traffic(span, groups, len(unsummed), failed)


def _count_rows(
    engine: Engine, model_name: str, span: Span, hours: Sequence[datetime], groups: dict[_Group, _Sum]
) -> None:
    """Count the rows of hours that have no sums."""
    table = predictions.c
    keys = (table.model_version, table.route, table.status)
    with explained(engine), engine.connect() as connection:
        for start, end in _stretches(hours, span):
            query = select(*keys, func.count()).where(
                table.model_name == model_name, table.event_time >= start, table.event_time < end
            )
            for version, route, status, rows in connection.execute(query.group_by(*keys)):
                groups.setdefault(_Group(span.place(start), version, route), _Sum()).count(status, rows)


def _stretches(hours: Sequence[datetime], span: Span) -> list[tuple[datetime, datetime]]:
    """Hours that follow each other in one bucket, together."""
    found: list[tuple[datetime, datetime]] = []
    for hour in sorted(hours):
        if found and found[-1][1] == hour and span.place(found[-1][0]) == span.place(hour):
            found[-1] = (found[-1][0], hour + HOUR)
        else:
            found.append((hour, hour + HOUR))
    return found


def _traffic(span: Span, groups: dict[_Group, _Sum], unsummed: int, known: Sequence[Failed] | None) -> Traffic:
    failed = known or ()
    buckets = [_Sum() for _ in span.starts]
    parts: dict[tuple[str, str], _Sum] = {}
    whole = _Sum()
    for group, found in groups.items():
        parts.setdefault((group.version, group.route), _Sum()).add(found)
        if group.route in ANSWERING_ROUTES:
            buckets[group.bucket].add(found)
            whole.add(found)
    within = [one for one in failed if one.hour >= span.start]
    failures = Counter[int]()
    for one in within:
        failures[span.place(one.hour)] += one.requests
    ranked = sorted(parts.items(), key=lambda item: (-item[1].answered - item[1].refused, item[0]))
    return Traffic(
        *whole.told,
        tuple(
            Bucket(start, *found.told, failures[place])
            for place, (start, found) in enumerate(zip(span.starts, buckets, strict=True))
        ),
        tuple(Part(version, route, *found.told) for (version, route), found in ranked),
        unsummed,
        failures.total(),
        _failures(within),
        _failures(one for one in failed if one.hour >= span.lately),
        known is not None,
    )


def _failures(failed: Iterable[Failed]) -> tuple[Failure, ...]:
    """Those of all hours together."""
    sums = Counter[tuple[int, str]]()
    for one in failed:
        sums[one.status, one.path] += one.requests
    ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Failure(status, path, requests) for (status, path), requests in ranked)


def _floor(moment: datetime, step: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % step

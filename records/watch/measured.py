"""What versions were worth by the labels of random audits, over a span and bit by bit, each with its 95 % interval.

    found = read_dice(engine, "resunet", start, end)
    found.versions[0].mean, found.course[-1].low

What people choose to look at, or clients send of their own accord, is no sample of what there is, and does not count.
Audits that were drawn at different rates are weighted (`records.audits`).
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import Engine

from records.audits import audit_chances, unequal
from records.labelled import LabelledAnswer, labelled_in
from resunet.intervals import mean_interval, weighted_interval

# So many bits of a span are drawn at most.
_MOST: Final = 15
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_Part = TypeVar("_Part", bound=Hashable)


@dataclass(frozen=True)
class MeasuredDice:
    """A mean over labelled images.

    Attributes:
        start, end: of the answers.
        images: labelled ones.
        low, high: of the mean's interval.
    """

    version: str
    start: datetime
    end: datetime
    images: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Dice:
    """By version, the one with most labels first; and by version and whole days (UTC), the oldest first."""

    versions: tuple[MeasuredDice, ...]
    course: tuple[MeasuredDice, ...]


def read_dice(engine: Engine, model_name: str, start: datetime, end: datetime) -> Dice:
    """Measure the versions of a model.

    Args:
        start, end: of the answers' time, aware.

    Raises:
        RecordsError: the database does not answer.
    """
    rows = labelled_in(engine, model_name, start, end).rows
    chances = audit_chances(engine, model_name, rows)
    step = _DAY * max(1, -(-(end - start) // (_DAY * (_MOST - 1))))
    versions = [_mean(version, start, end, some, chances) for version, some in _by(rows, lambda row: row.model_version)]
    versions.sort(key=lambda one: (-one.images, one.version))
    bits = _by(rows, lambda row: ((row.event_time - _EPOCH) // step, row.model_version))
    course = [
        _mean(version, _EPOCH + place * step, _EPOCH + (place + 1) * step, some, chances)
        for (place, version), some in bits
    ]
    return Dice(tuple(versions), tuple(sorted(course, key=lambda one: (one.start, one.version))))


def _by(
    rows: Iterable[LabelledAnswer], part: Callable[[LabelledAnswer], _Part]
) -> list[tuple[_Part, list[LabelledAnswer]]]:
    parts: dict[_Part, list[LabelledAnswer]] = {}
    for row in rows:
        parts.setdefault(part(row), []).append(row)
    return list(parts.items())


def _mean(
    version: str, start: datetime, end: datetime, rows: list[LabelledAnswer], chances: Mapping[str, float]
) -> MeasuredDice:
    dices, images = [row.dice for row in rows], [row.image_digest for row in rows]
    weighted = unequal(chances.get(row.answer_id) for row in rows)
    found = mean_interval(dices, images) if weighted is None else weighted_interval(dices, weighted, images)
    return MeasuredDice(version, start, end, len(rows), *found)

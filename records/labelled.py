"""The labels of the images of a stretch of time, each beside its prediction.

    found = labelled_in(engine, "resunet", start, end)
    found.rows[0].dice, found.ambiguous, found.sources

An image belongs to the time at which it was answered, however late its label comes. A label names a request and a
version; where a version answered several images under one id, at whatever time, nobody can tell which of them is
meant: such labels are left out, by name. Of one image with labels of several sources the strongest counts: a random
audit before a picked one before a client's.

What is read grows with the labels, not with the predictions: those are found by the index of their request ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, null, select

from records.engines import explained
from records.labels import SCORES, Source, pixels_of
from records.log_database import has_column
from records.schema import LIVE_ROUTES, labels, predictions

NO_SLICE: Final = "(none)"
_STRENGTH: Final[dict[str, int]] = {"audit": 0, "picked": 1, "client": 2}
# A label comes after its answer, by whatever clock; those of two machines may differ.
_CLOCKS_APART: Final = timedelta(days=1)
_AT_A_TIME: Final = 500
_COLUMNS: Final = (
    "answer_id",
    "request_id",
    "model_version",
    "event_time",
    "route",
    "slice",
    "image_digest",
    "confidence",
)


@dataclass(frozen=True)
class LabelledAnswer:
    """One label and the answer that it is of.

    Attributes:
        slice: NO_SLICE where the request named none.
        image_digest: of the encoded image; the same image twice is one piece of evidence.
        scores: of the label, by name; what was not told is missing.
        pixels: by true and predicted class; None where they are not known.
    """

    answer_id: str
    request_id: str
    model_version: str
    event_time: datetime
    route: str
    slice: str
    image_digest: str | None
    confidence: float | None
    source: Source
    label_time: datetime
    scores: dict[str, float]
    pixels: dict[tuple[int, int], int] | None

    @property
    def dice(self) -> float:
        return self.scores["dice"]


@dataclass(frozen=True)
class Labelled:
    """What a stretch of time holds of labels.

    Attributes:
        rows: that count, the oldest image first.
        ambiguous: request id and version of labels that nobody can join.
        sources: how many labels of each source there are, counted or not.
    """

    rows: tuple[LabelledAnswer, ...] = ()
    ambiguous: tuple[tuple[str, str], ...] = ()
    sources: dict[str, int] = field(default_factory=dict)


def labelled_in(
    engine: Engine,
    model: str,
    start: datetime,
    end: datetime,
    *,
    sources: Sequence[Source] = ("audit",),
    version: str | None = None,
    routes: Sequence[str] = LIVE_ROUTES,
) -> Labelled:
    """Join labels and predictions.

    Args:
        model: registered.
        start, end: of the predictions' event time, aware; the end does not count.
        sources: that count.
        version: one alone; None for all.
        routes: that count.

    Raises:
        RecordsError: the database does not answer.
    """
    found: list[LabelledAnswer] = []
    shared: set[tuple[str, str]] = set()
    with explained(engine), engine.connect() as connection:
        for told in _labels_since(connection, model, start - _CLOCKS_APART, version):
            answers = _answers_of(connection, model, [one.request_id for one in told])
            for label in told:
                meant = answers.get((label.request_id, label.model_version), [])
                if not any(start <= one.event_time < end and one.route in routes for one in meant):
                    continue
                if len(meant) > 1:
                    shared.add((label.request_id, label.model_version))
                else:
                    found.append(_joined(meant[0], label))
    counts: dict[str, int] = {}
    strongest: dict[str, LabelledAnswer] = {}
    for row in sorted(found, key=lambda row: (row.event_time, row.answer_id)):
        counts[row.source] = counts.get(row.source, 0) + 1
        other = strongest.get(row.answer_id)
        if row.source in sources and (other is None or _STRENGTH[row.source] < _STRENGTH[other.source]):
            strongest[row.answer_id] = row
    return Labelled(tuple(strongest.values()), tuple(sorted(shared)), counts)


def _labels_since(connection: Connection, model: str, moment: datetime, version: str | None) -> Iterator[Sequence[Any]]:
    """Labels with a Dice, some at a time."""
    pixels = labels.c.pixels if has_column(connection, labels.c.pixels) else null().label("pixels")
    names = ("request_id", "model_version", "source", "label_time", *SCORES)
    query = select(*(labels.c[name] for name in names), pixels)
    query = query.where(labels.c.model_name == model, labels.c.label_time >= moment, labels.c.dice.is_not(None))
    if version is not None:
        query = query.where(labels.c.model_version == version)
    rows = connection.execute(query).all()
    for start in range(0, len(rows), _AT_A_TIME):
        yield rows[start : start + _AT_A_TIME]


def _answers_of(connection: Connection, model: str, requests: Sequence[str]) -> dict[tuple[str, str], list[Row[Any]]]:
    """All answers to requests, by id and version, whenever they were given."""
    mine = (predictions.c.model_name == model, predictions.c.request_id.in_(sorted(set(requests))))
    query = select(*(predictions.c[name] for name in _COLUMNS)).where(*mine, predictions.c.status == "ok")
    found: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in connection.execute(query):
        found.setdefault((row.request_id, row.model_version), []).append(row)
    return found


def _joined(answer: Row[Any], label: Row[Any]) -> LabelledAnswer:
    values = {name: getattr(answer, name) for name in _COLUMNS}
    return LabelledAnswer(
        **values | {"slice": answer.slice or NO_SLICE},
        source=label.source,
        label_time=label.label_time,
        scores={name: float(value) for name in SCORES if (value := getattr(label, name)) is not None},
        pixels=pixels_of(label.pixels, label.dice),
    )

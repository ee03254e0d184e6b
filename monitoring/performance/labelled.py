"""The labels of the images that a window holds, each beside its prediction.

    found = labelled_in(engine, "resunet", window)
    found.rows[0].dice, found.ambiguous, found.sources

An image belongs to the window in which it was answered, however late its label comes. A label names a request and a
version; where a version answered several images under one id, at whatever time, nobody can tell which of them is
meant: such labels are left out, by name. Of one image with labels of several sources the strongest counts: a random
audit before a picked one before a client's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, RowMapping, func, null, select, tuple_

from monitoring.live import LIVE_ROUTES
from monitoring.window import Window
from records.engines import explained
from records.labels import SCORES, Source, pixels_of
from records.log_database import has_column
from records.schema import labels, predictions

NO_SLICE: Final = "(none)"
_STRENGTH: Final[dict[str, int]] = {"audit": 0, "picked": 1, "client": 2}
_KEYS: Final = ("request_id", "model_name", "model_version")
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
    """What a window holds of labels.

    Attributes:
        rows: that count, the oldest image first.
        ambiguous: request id and version of labels that nobody can join.
        sources: how many labels of each source the window holds, counted or not.
        answers: how many answers the window holds, labelled or not.
    """

    rows: tuple[LabelledAnswer, ...] = ()
    ambiguous: tuple[tuple[str, str], ...] = ()
    sources: dict[str, int] = field(default_factory=dict)
    answers: int = 0


def labelled_in(
    engine: Engine,
    model: str,
    window: Window,
    *,
    sources: Sequence[Source] = ("audit",),
    version: str | None = None,
    routes: Sequence[str] = LIVE_ROUTES,
) -> Labelled:
    """Join labels and predictions of a window.

    Args:
        model: registered.
        window: of the predictions' event time.
        sources: that count.
        version: one alone; None for all.
        routes: that count.

    Raises:
        RecordsError: the database does not answer.
    """
    wanted = [
        predictions.c.model_name == model,
        predictions.c.event_time >= window.start,
        predictions.c.event_time < window.end,
        predictions.c.status == "ok",
        predictions.c.route.in_(list(routes)),
    ]
    if version is not None:
        wanted.append(predictions.c.model_version == version)
    with explained(engine), engine.connect() as connection:
        noted = has_column(connection, labels.c.pixels)
    pixels = labels.c.pixels if noted else null().label("pixels")
    told = [labels.c.source, labels.c.label_time, pixels, *(labels.c[name] for name in SCORES)]
    joined = (
        select(*(predictions.c[name] for name in _COLUMNS), *told)
        .join(
            labels,
            (labels.c.request_id == predictions.c.request_id)
            & (labels.c.model_name == predictions.c.model_name)
            & (labels.c.model_version == predictions.c.model_version),
        )
        .where(*wanted, labels.c.dice.is_not(None))
        .order_by(predictions.c.event_time, predictions.c.answer_id)
    )
    with explained(engine), engine.connect() as connection:
        answers = connection.scalar(select(func.count()).select_from(predictions).where(*wanted)) or 0
        found = [_answer(row._mapping) for row in connection.execute(joined)]
        keys = sorted({(row.request_id, model, row.model_version) for row in found})
        shared = _shared(connection, keys)
    counts: dict[str, int] = {}
    strongest: dict[str, LabelledAnswer] = {}
    for row in found:
        if (row.request_id, row.model_version) in shared:
            continue
        counts[row.source] = counts.get(row.source, 0) + 1
        other = strongest.get(row.answer_id)
        if row.source in sources and (other is None or _STRENGTH[row.source] < _STRENGTH[other.source]):
            strongest[row.answer_id] = row
    return Labelled(tuple(strongest.values()), tuple(sorted(shared)), counts, answers)


def _answer(row: RowMapping) -> LabelledAnswer:
    values = {name: row[name] for name in _COLUMNS}
    return LabelledAnswer(
        **values | {"slice": row["slice"] or NO_SLICE},
        source=row["source"],
        label_time=row["label_time"],
        scores={name: float(row[name]) for name in SCORES if row[name] is not None},
        pixels=pixels_of(row["pixels"], row["dice"]),
    )


def _shared(connection: Connection, keys: Sequence[tuple[str, str, str]]) -> set[tuple[str, str]]:
    """Request id and version of what several answers share, also such outside the window."""
    shared: set[tuple[str, str]] = set()
    columns = [predictions.c[name] for name in _KEYS]
    for start in range(0, len(keys), _AT_A_TIME):
        query = (
            select(predictions.c.request_id, predictions.c.model_version)
            .where(tuple_(*columns).in_(keys[start : start + _AT_A_TIME]), predictions.c.status == "ok")
            .group_by(*columns)
            .having(func.count() > 1)
        )
        shared |= {(request_id, version) for request_id, version in connection.execute(query)}
    return shared

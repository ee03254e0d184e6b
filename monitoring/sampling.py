"""A bounded sample of a window's rows, without reading the window; and of rows that are read anyway, in chunks.

    rows = sample_rows(engine, version, window, routes=LIVE_ROUTES, columns=("brightness",), limit=10_000, seed=0)

An `answer_id` is a hash (`records.rows.answer_id`; of a forgotten row, an HMAC): as a number it is uniform and says
nothing of the row's time, route or values. So the rows whose ids come first after some point of the circle of all ids
are a uniform sample without replacement, the same in every run, and an index finds them. A seed gives the point. A
bottom-k sample is this in the literature (Cohen & Kaplan 2007, Summarizing Data using Bottom-k Sketches).
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Float,
    Row,
    Select,
    and_,
    func,
    intersect,
    literal_column,
    or_,
    select,
)

from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.engines import explained
from records.schema import predictions

_DIGITS: Final = 64
_CIRCLE: Final = 16**_DIGITS
# As many standard deviations more are asked for than are needed: so few times it is too few.
_MARGIN: Final = 4.0
_AT_A_TIME: Final = 500


@dataclass(frozen=True)
class _Arc:
    """The ids from a point of the circle on."""

    start: int
    length: int

    def holds(self) -> ColumnElement[bool]:
        """Whether a row's id is in it."""
        key, end = predictions.c.answer_id, self.start + self.length
        if end <= _CIRCLE:
            return and_(key >= _as_id(self.start), key < _as_id(end))
        return or_(key >= _as_id(self.start), key < _as_id(end - _CIRCLE))

    def place(self, answer_id: str) -> int:
        """How far along an id is."""
        return (int(answer_id, 16) - self.start) % _CIRCLE


def sample_rows(
    engine: Engine,
    version: WatchedVersion,
    window: Window,
    *,
    routes: Sequence[str],
    columns: Sequence[str],
    limit: int,
    seed: int,
) -> pd.DataFrame:
    """Read what `Stream.counts` calls compared, in order of time; of more than `limit` a uniform sample.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            chosen = _choose(connection, version, window, routes, limit, seed)
            frame = _read(connection, chosen, columns)
    numbers = [name for name in columns if isinstance(predictions.c[name].type, Float)]
    frame = frame.astype(dict.fromkeys(numbers, "float64"))
    if "event_time" in columns:
        frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True).astype("datetime64[ns, UTC]")
    return frame


def count_copies(engine: Engine, version: WatchedVersion, window: Window, *, routes: Sequence[str]) -> tuple[int, int]:
    """Of all rows that `sample_rows` draws from, how many show an image that another one shows, and how many they are.

    The database counts, on its disk if need be: here are but two numbers, however many rows there are. Of an image that
    was sent n times n - 1 are copies.

    Raises:
        RecordsError: the database does not answer.
    """
    digest = predictions.c.image_digest
    chosen = _compared(version, routes).where(*_in_window(version, window))
    query = chosen.with_only_columns(func.count(digest) - func.count(digest.distinct()), func.count())
    with explained(engine), engine.connect() as connection:
        copies, rows = connection.execute(query).one()
    return int(copies), int(rows)


def sample_chunks(chunks: Iterable[pd.DataFrame], limit: int, seed: int) -> pd.DataFrame:
    """Draw at most `limit` rows, each with the same chance; holds no more than those and one chunk."""
    rng = np.random.default_rng(seed)
    kept, keys = pd.DataFrame(), np.empty(0)
    for chunk in chunks:
        kept = chunk if kept.empty else pd.concat([kept, chunk], ignore_index=True)
        keys = np.concatenate([keys, rng.random(len(chunk))])
        if len(kept) > limit:
            # Each row has one random key; those with the smallest keys stay, in the order they came in.
            stay = np.sort(np.argpartition(keys, limit)[:limit])
            kept, keys = kept.iloc[stay], keys[stay]
    return kept.reset_index(drop=True)


def _choose(
    connection: Connection, version: WatchedVersion, window: Window, routes: Sequence[str], limit: int, seed: int
) -> list[str]:
    """The ids of the sample."""
    start = int.from_bytes(hashlib.sha256(f"sample {seed}".encode()).digest())
    wanted = limit + _MARGIN * math.sqrt(limit) + _MARGIN**2
    # Of the index alone; refused images and other versions are among them, so it may take a second try.
    share = min(wanted / max(_rows_in(connection, version, window), 1), 1.0)
    while True:
        arc = _Arc(start, math.ceil(share * _CIRCLE))
        query = _on(arc, version, window, routes, connection.dialect)
        if share >= 1:
            query = _compared(version, routes).where(*_in_window(version, window))
        found: list[str] = list(connection.scalars(query))
        if len(found) >= limit or share >= 1:
            return sorted(found, key=arc.place)[:limit]
        share = min(share * max(2.0, wanted / max(len(found), 1)), 1.0)


def _rows_in(connection: Connection, version: WatchedVersion, window: Window) -> int:
    return connection.scalar(select(func.count()).where(*_in_window(version, window))) or 0


def _in_window(version: WatchedVersion, window: Window) -> tuple[ColumnElement[bool], ...]:
    time = predictions.c.event_time
    return (predictions.c.model_name == version.name, time >= window.start, time < window.end)


def _compared(version: WatchedVersion, routes: Sequence[str]) -> Select[Any]:
    """Ids of rows that are compared, of any time."""
    of_version = predictions.c.model_version == version.version
    compared = (of_version, predictions.c.status == "ok", predictions.c.route.in_(list(routes)))
    query = select(predictions.c.answer_id).where(*compared)
    return query.where(predictions.c.model_digest.in_(["", version.digest])) if version.digest else query


def _on(arc: _Arc, version: WatchedVersion, window: Window, routes: Sequence[str], dialect: Dialect) -> Select[Any]:
    """Those of them in the window whose ids are on an arc."""
    query = _compared(version, routes)
    if dialect.name == "postgresql":
        return query.where(arc.holds(), *_in_window(version, window))
    # SQLite uses one index a table, and would read every row of the window: two indexes hold all that is asked here.
    row: ColumnElement[int] = literal_column("predictions.rowid")
    both = intersect(
        select(row).select_from(predictions).where(*_in_window(version, window)),
        select(row).select_from(predictions).where(arc.holds()),
    )
    return query.where(row.in_(both))


def _read(connection: Connection, answer_ids: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    # The same order each time: the key breaks ties of event time.
    order = (predictions.c.event_time, predictions.c.request_id, predictions.c.answer_id)
    rows: list[Row[Any]] = []
    for start in range(0, len(answer_ids), _AT_A_TIME):
        part = predictions.c.answer_id.in_(answer_ids[start : start + _AT_A_TIME])
        rows += connection.execute(select(*order, *(predictions.c[name] for name in columns)).where(part)).all()
    rows.sort(key=lambda row: tuple(row[: len(order)]))
    return pd.DataFrame.from_records([tuple(row[len(order) :]) for row in rows], columns=list(columns))


def _as_id(number: int) -> str:
    return f"{number:0{_DIGITS}x}"

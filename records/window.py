"""Read the inference log back, one time window at a time and in bounded memory.

for frame in read_window(engine, start, end, "resunet", columns=["brightness", "confidence"]):
    …
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Engine, Float, func, select

from records.engines import explained
from records.schema import predictions
from resunet.errors import RecordsError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class VersionActivity:
    """How much one version answered in a window."""

    model_version: str
    model_digest: str
    rows: int
    refused: int


def read_window(
    engine: Engine,
    start: datetime,
    end: datetime,
    model_name: str,
    model_version: str | None = None,
    route: str | None = None,
    columns: Sequence[str] | None = None,
    chunk_rows: int = 50_000,
    *,
    status: str | None = None,
) -> "Iterator[pd.DataFrame]":
    """Yield the predictions of [start, end) in order of event time, at most `chunk_rows` a frame.

    All frames come from one moment of the database. Numbers are float64 (NaN where there is none),
    `event_time` is datetime64[ns, UTC], `embedding` bytes (64 little-endian float32). An empty window yields
    nothing.

    Args:
        start, end: aware.
        route: production | canary | shadow | batch; None for all.
        columns: of the table `predictions`; None for all.
        status: ok | refused; None for both.

    Raises:
        RecordsError: a column is unknown, a time has no zone, or the database does not answer.
    """
    names = list(columns) if columns is not None else [column.name for column in predictions.c]
    unknown = [name for name in names if name not in predictions.c]
    if unknown:
        raise RecordsError(f"the inference log has no column {', '.join(unknown)}")
    chosen = _chosen(start, end, model_name, model_version, route, status)
    return _frames(engine, names, chosen, chunk_rows)


def count_window(
    engine: Engine,
    start: datetime,
    end: datetime,
    model_name: str,
    model_version: str | None = None,
    route: str | None = None,
    *,
    status: str | None = None,
) -> int:
    """Count what `read_window` would yield."""
    chosen = _chosen(start, end, model_name, model_version, route, status)
    with explained(engine), engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(predictions).where(*chosen)) or 0


def versions_in_window(
    engine: Engine, start: datetime, end: datetime, model_name: str, route: str | None = None
) -> list[VersionActivity]:
    """Tell which versions answered in [start, end), the busiest first."""
    version, digest, status = (predictions.c[name] for name in ("model_version", "model_digest", "status"))
    query = (
        select(version, digest, func.count(), func.count().filter(status == "refused"))
        .where(*_chosen(start, end, model_name, None, route, None))
        .group_by(version, digest)
        .order_by(func.count().desc(), version, digest)
    )
    with explained(engine), engine.connect() as connection:
        return [VersionActivity(*row) for row in connection.execute(query)]


def _chosen(
    start: datetime,
    end: datetime,
    model_name: str,
    model_version: str | None,
    route: str | None,
    status: str | None,
) -> list[ColumnElement[bool]]:
    if start.tzinfo is None or end.tzinfo is None:
        raise RecordsError("a window needs aware times: pass datetime.now(UTC)")
    time = predictions.c.event_time
    exact = {"model_name": model_name, "model_version": model_version, "route": route, "status": status}
    equal = [predictions.c[name] == value for name, value in exact.items() if value is not None]
    return [time >= start, time < end, *equal]


def _frames(
    engine: Engine, names: list[str], chosen: list[ColumnElement[bool]], chunk_rows: int
) -> "Iterator[pd.DataFrame]":
    # Here, not at the top: serving loads this package too, and pandas only slows its start.
    import pandas as pd

    numbers = [name for name in names if isinstance(predictions.c[name].type, Float)]
    # The key breaks ties of event time, so that two reads give the same order.
    order = (predictions.c.event_time, predictions.c.request_id, predictions.c.answer_id)
    query = select(*(predictions.c[name] for name in names)).where(*chosen).order_by(*order)
    with explained(engine), engine.connect() as connection:
        rows = connection.execution_options(yield_per=chunk_rows).execute(query)
        for part in rows.partitions():
            frame = pd.DataFrame.from_records([tuple(row) for row in part], columns=names)
            frame = frame.astype(dict.fromkeys(numbers, "float64"))
            if "event_time" in names:
                frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True).astype("datetime64[ns, UTC]")
            yield frame

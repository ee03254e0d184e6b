"""Table `window_reports`: what each report on a window of live rows came to.

    add_report(engine, WindowReport("resunet", "7", …))         # a report made again replaces the one before
    for report in latest_reports(engine, "resunet", limit=30):  # newest window first
        …

The table is made with the first report. Who only reads finds none where there is none yet.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, Column, Engine, Float, Index, Integer, MetaData, Row, Table, Text, inspect, select

from records.engines import explained
from records.schema import UtcTime
from records.tables import prepare
from records.texts import storable
from records.upsert import upsert
from records.watch.jobs import writing
from records.watch.leases import refuse_if_lost

Verdict = Literal["no drift", "drift", "too few rows"]
Kind = Literal["window", "trend", "window by hand", "trend by hand"]

_ROUTES_APART = ","

metadata = MetaData()

window_reports = Table(
    "window_reports",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("model_name", Text, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("window_start", UtcTime, primary_key=True),
    Column("window_end", UtcTime, primary_key=True),
    # In order of the alphabet, with commas.
    Column("routes", Text, primary_key=True),
    Column("version_digest", Text),
    Column("verdict", Text, nullable=False),
    Column("p_value", Float),
    Column("rows", Integer, nullable=False),
    Column("moved", JSON, nullable=False),
    Column("summary", Text, nullable=False),
    Column("estimated_dice", Float),
    Column("estimated_low", Float),
    Column("estimated_high", Float),
    Column("run_id", Text),
    Column("made", UtcTime, nullable=False),
    Index("window_reports_newest", "model_name", "window_end"),
)


@dataclass(frozen=True)
class WindowReport:
    """What a report on one window came to.

    Attributes:
        version_digest: sha256 of the version's serving file; None where it is not known.
        window_start: the first moment that counts.
        window_end: the first moment that does not.
        routes: whose rows were looked at; their order does not matter.
        p_value: of the window as a whole, adjusted for everything that was looked at.
        rows: how many were compared.
        moved: descriptors, what moved most first.
        summary: one line for people.
        estimated_dice: without labels, of the window, 0 to 1; None where it was declined.
        estimated_low: lower end of its interval.
        estimated_high: upper end of its interval.
        run_id: of the MLflow run that holds the report.
        made: when.
        kind: "window", the test of this window alone; "trend", the test of all windows up to its end. Either "by hand":
            a person has asked for it, and it counts for no policy.
    """

    model_name: str
    model_version: str
    version_digest: str | None
    window_start: datetime
    window_end: datetime
    routes: tuple[str, ...]
    verdict: Verdict
    p_value: float | None
    rows: int
    moved: tuple[str, ...]
    summary: str
    estimated_dice: float | None
    estimated_low: float | None
    estimated_high: float | None
    run_id: str | None
    made: datetime
    kind: Kind = "window"


def add_report(engine: Engine, report: WindowReport) -> None:
    """Keep a report; one of the same kind on the same version, window and routes is replaced.

    Raises:
        RecordsError: the database does not answer, or a time has no zone; or this is a job's run, and the job has been
            taken over by another schedule.
    """
    values: dict[str, Any] = asdict(report) | {
        "routes": _ROUTES_APART.join(sorted(report.routes)),
        "moved": list(report.moved),
        "summary": storable(report.summary),
    }
    prepare(engine, window_reports)
    with explained(engine), writing(engine) as connection:
        refuse_if_lost(connection)
        upsert(connection, window_reports, values)


def latest_reports(
    engine: Engine, model_name: str, *, limit: int = 30, before: datetime | None = None, kind: Kind = "window"
) -> list[WindowReport]:
    """The reports on a model's windows, the one that ended last first.

    Args:
        limit: how many at most, of all versions and routes together.
        before: only windows that ended before this moment.
        kind: of the reports.

    Raises:
        RecordsError: the database does not answer.
    """
    table = window_reports.c
    query = select(window_reports).where(table.model_name == model_name, table.kind == kind)
    if before is not None:
        query = query.where(table.window_end < before)
    order = (table.window_end.desc(), table.window_start.desc(), table.made.desc(), table.model_version, table.routes)
    with explained(engine):
        if not inspect(engine).has_table(window_reports.name):
            return []
        with engine.connect() as connection:
            return [_report(row) for row in connection.execute(query.order_by(*order).limit(limit))]


def _report(row: Row[Any]) -> WindowReport:
    values = dict(row._mapping)
    routes = tuple(filter(None, values.pop("routes").split(_ROUTES_APART)))
    return WindowReport(**values | {"routes": routes, "moved": tuple(values["moved"])})

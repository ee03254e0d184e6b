"""Which answers were chosen to be labelled, and how probably: without that their labels say nothing of the others.

    add_picks(engine, Pick("p1", "resunet", start, end, now), [PickedAnswer(answer_id, "audit", 0.05, "random")])
    picked_requests(engine, "resunet")              # {request id: (PickedRequest(…), …)}

Table `picks` names an answer by its `answer_id`, which is a hash, and no request. It is made by the first pick; who
reads it before finds nothing. Table `audit_draws` says of a pick how probably it drew each image at random, which is
not how probably it chose it at all; it names no answer. `records.audits` reads it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Column, Connection, Engine, Float, MetaData, Table, Text, delete, insert, inspect, select

from records.engines import explained
from records.schema import UtcTime, predictions
from records.tables import prepare
from records.tombstones import in_parts

PickSource = Literal["audit", "picked"]

ROUTES_APART: Final = ","

metadata = MetaData()

picks = Table(
    "picks",
    metadata,
    Column("pick_id", Text, primary_key=True),
    Column("answer_id", Text, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("made", UtcTime, nullable=False),
    # audit: drawn uniformly at random; picked: drawn with a chance that depends on the image.
    Column("source", Text, nullable=False),
    # Of being chosen at all, in whichever way, 0 to 1.
    Column("probability", Float, nullable=False),
    Column("why", Text, nullable=False),
)

audit_draws = Table(
    "audit_draws",
    metadata,
    Column("pick_id", Text, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    # Whose images were drawn from, with a comma between them.
    Column("routes", Text, nullable=False),
    # Of an image being drawn uniformly at random, 0 to 1: the same for all of the pick.
    Column("rate", Float, nullable=False),
)


@dataclass(frozen=True)
class Pick:
    """One run of the choice: its name, of which model, and of which time its images are."""

    pick_id: str
    model_name: str
    window_start: datetime
    window_end: datetime
    made: datetime


@dataclass(frozen=True)
class PickedAnswer:
    """An answer that was chosen: as what, with which probability of being chosen at all, and why."""

    answer_id: str
    source: PickSource
    probability: float
    why: str


@dataclass(frozen=True)
class AuditDraw:
    """How a pick drew its audits: of which version's images, on which routes, and how probably each of them."""

    model_version: str
    routes: tuple[str, ...]
    rate: float


@dataclass(frozen=True)
class PickedRequest:
    """A request that was chosen."""

    pick: Pick
    source: PickSource
    probability: float


def add_picks(engine: Engine, pick: Pick, answers: Iterable[PickedAnswer], audits: AuditDraw | None = None) -> None:
    """Write down a choice, all of it or nothing.

    Args:
        audits: how its audits were drawn; None: it drew none.

    Raises:
        RecordsError: the database does not answer, or gives no right to make the tables.
    """
    rows = [asdict(pick) | asdict(answer) for answer in answers]
    prepare(engine, picks, audit_draws)
    with explained(engine), engine.begin() as connection:
        if rows:
            connection.execute(insert(picks), rows)
        if audits is not None:
            drawn = asdict(pick) | asdict(audits) | {"routes": ROUTES_APART.join(audits.routes)}
            del drawn["made"]
            connection.execute(insert(audit_draws), drawn)


def picked_answers(engine: Engine, model_name: str) -> dict[str, set[PickSource]]:
    """The answers of a model that were chosen before, and as what.

    Raises:
        RecordsError: the database does not answer.
    """
    found: dict[str, set[PickSource]] = {}
    with explained(engine), engine.connect() as connection:
        if inspect(connection).has_table(picks.name):
            query = select(picks.c.answer_id, picks.c.source).where(picks.c.model_name == model_name)
            for answer, source in connection.execute(query):
                found.setdefault(answer, set()).add(source)
    return found


def picked_requests(engine: Engine, model_name: str) -> dict[str, tuple[PickedRequest, ...]]:
    """The requests that were chosen, by their ids; one that was forgotten since is not among them.

    Raises:
        RecordsError: the database does not answer.
    """
    found: dict[str, tuple[PickedRequest, ...]] = {}
    with explained(engine), engine.connect() as connection:
        if not inspect(connection).has_table(picks.name):
            return found
        names = ("pick_id", "model_name", "window_start", "window_end", "made", "source", "probability")
        query = (
            select(predictions.c.request_id, *(picks.c[name] for name in names))
            .join(predictions, predictions.c.answer_id == picks.c.answer_id)
            .where(picks.c.model_name == model_name, predictions.c.model_name == model_name)
            .order_by(picks.c.made, picks.c.pick_id)
        )
        for request_id, *pick, source, probability in connection.execute(query):
            found[request_id] = (*found.get(request_id, ()), PickedRequest(Pick(*pick), source, probability))
    return found


def drop_picks(connection: Connection, answer_ids: Sequence[str]) -> None:
    """Delete what is known of the choice of answers; call it in the transaction that forgets them."""
    if inspect(connection).has_table(picks.name):
        for part in in_parts(answer_ids):
            connection.execute(delete(picks).where(picks.c.answer_id.in_(part)))

"""How probably the images of audits were drawn: those of days with other traffic were drawn at other rates.

    chances = audit_chances(engine, "resunet", labelled.rows)       # {answer id: 0.0015, …}
    weights_of = unequal([chances.get(row.answer_id) for row in rows])

A pick draws as many audits from a day of 100 images as from one of 10,000: were their labels to count alike, a bad
quiet day would count as much as a busy one. Each therefore counts with the inverse of the probability with which its
image was drawn (Horvitz & Thompson 1952; `resunet.intervals.weighted_interval`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, inspect, select

from records.engines import explained
from records.labelled import LabelledAnswer
from records.picks import ROUTES_APART, audit_draws, picks
from records.schema import predictions

_ALIKE: Final = 1e-9


@dataclass(frozen=True)
class _Draw:
    """What a pick drew at random from; `routes` None: from all, as far as is known."""

    model_version: str
    window_start: datetime
    window_end: datetime
    routes: frozenset[str] | None
    rate: float

    def could_draw(self, row: LabelledAnswer) -> bool:
        inside = self.window_start <= row.event_time < self.window_end
        return inside and row.model_version == self.model_version and (self.routes is None or row.route in self.routes)


def audit_chances(engine: Engine, model_name: str, rows: Sequence[LabelledAnswer]) -> dict[str, float]:
    """The probability with which each image was drawn at random, by answer id, of those that a pick has drawn.

    Several picks may have looked at an image. Each left out what was drawn before it, so that none of them drew the
    image with probability Π (1 - rate). An earlier release noted no rate: it is the pick's audits / Σ (1 / probability)
    of all that it chose, which estimates how many there were.

    Raises:
        RecordsError: the database does not answer.
    """
    if not rows:
        return {}
    with explained(engine), engine.connect() as connection:
        if not inspect(connection).has_table(picks.name):
            return {}
        chosen = _chosen(connection, model_name, min(row.event_time for row in rows))
        draws = _draws(connection, model_name)
    draws |= {name: draw for name, draw in _estimated(chosen).items() if name not in draws}
    audited = {one.answer_id for one in chosen if one.source == "audit"}
    found = {row.answer_id: _chance(row, draws.values()) for row in rows if row.answer_id in audited}
    return {answer: chance for answer, chance in found.items() if chance > 0}


def unequal(chances: Iterable[float | None]) -> list[float] | None:
    """Chances that are to be weighted away; None where all are the same, or one of them is not known."""
    known = list(chances)
    numbers = [chance for chance in known if chance is not None]
    if not numbers or len(numbers) < len(known) or max(numbers) - min(numbers) <= _ALIKE:
        return None
    return numbers


def _chosen(connection: Connection, model_name: str, since: datetime) -> Sequence[Row[Any]]:
    names = ("pick_id", "answer_id", "source", "probability", "window_start", "window_end")
    query = (
        select(*(picks.c[name] for name in names), predictions.c.model_version)
        .join(predictions, predictions.c.answer_id == picks.c.answer_id)
        .where(picks.c.model_name == model_name, picks.c.window_end > since)
    )
    found: Sequence[Any] = connection.execute(query).all()
    return found


def _draws(connection: Connection, model_name: str) -> dict[str, _Draw]:
    if not inspect(connection).has_table(audit_draws.name):
        return {}
    names = ("model_version", "window_start", "window_end", "routes", "rate")
    query = select(audit_draws.c.pick_id, *(audit_draws.c[name] for name in names))
    found = connection.execute(query.where(audit_draws.c.model_name == model_name))
    return {
        name: _Draw(version, start, end, frozenset(routes.split(ROUTES_APART)), rate)
        for name, version, start, end, routes, rate in found
    }


def _estimated(chosen: Sequence[Row[Any]]) -> dict[str, _Draw]:
    by_pick: dict[str, list[Row[Any]]] = {}
    for one in chosen:
        by_pick.setdefault(one.pick_id, []).append(one)
    found = {}
    for name, some in by_pick.items():
        rate = sum(one.source == "audit" for one in some) / sum(1 / one.probability for one in some)
        found[name] = _Draw(some[0].model_version, some[0].window_start, some[0].window_end, None, min(1.0, rate))
    return found


def _chance(row: LabelledAnswer, draws: Iterable[_Draw]) -> float:
    return 1 - math.prod(1 - draw.rate for draw in draws if draw.could_draw(row))

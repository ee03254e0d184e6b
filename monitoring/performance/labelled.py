"""The labels of the images that a window holds, and how many images those are of.

    found = labelled_in(engine, "resunet", window)
    found.rows[0].dice, found.answers

Which labels count is in `records.labelled`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from monitoring.window import Window
from records import labelled
from records.engines import explained
from records.labelled import NO_SLICE as NO_SLICE
from records.labelled import LabelledAnswer as LabelledAnswer
from records.labels import Source
from records.schema import LIVE_ROUTES, predictions


@dataclass(frozen=True)
class Labelled(labelled.Labelled):
    """What a window holds of labels.

    Attributes:
        answers: how many answers the window holds, labelled or not.
    """

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
    """As of `records.labelled`, of a window.

    Raises:
        RecordsError: the database does not answer.
    """
    found = labelled.labelled_in(
        engine, model, window.start, window.end, sources=sources, version=version, routes=routes
    )
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
        answers = connection.scalar(select(func.count()).select_from(predictions).where(*wanted)) or 0
    return Labelled(found.rows, found.ambiguous, found.sources, answers)

"""Take out of the sketches what the `forget` of an earlier release leaves there: it knows of none.

    dropped = drop_outdated(engine, answers)        # of `records.tombstones.answers_after`; how many hours

It makes rows anonymous, so that an hour has as many as before, and readers, who compare numbers, find nothing wrong:
the name of a forgotten client's slice would stay. Here each slice of the hours of forgotten answers is compared.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, func, or_, select

from records import sketches as table
from records.engines import explained
from records.schema import predictions
from records.sketch_bins import FORMAT
from records.sketch_rows import TEXTS, of_time
from records.sketches import NO_SLICE, hour_of, part_of, sketches
from records.tombstones import clear_wal, digest, forgetting, salt_of

_HOUR: Final = timedelta(hours=1)


def may_drop(engine: Engine) -> bool:
    """Whether this role may delete sketches; else what is to be looked at waits for one that may.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine), engine.connect() as connection:
        return table.replaceable(connection)


def drop_outdated(engine: Engine, answers: Sequence[str]) -> int:
    """Delete the sketches of hours that name slices otherwise than their rows do, and return how many hours they were.

    Args:
        answers: ids of answers that were forgotten; the hours of their rows are looked at.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine):
        with engine.connect() as connection:
            salt = salt_of(connection)
            if salt is None or not table.replaceable(connection):
                return 0
            names = [digest(salt, "row", answer) for answer in answers]
            query = select(predictions.c.model_name, predictions.c.event_time).where(predictions.c.answer_id.in_(names))
            hours = sorted({(model, hour_of(moment)) for model, moment in connection.execute(query)})
            outdated = [hour for hour in hours if _is_outdated(connection, *hour)]
        if outdated:
            with forgetting(engine) as connection:
                table.drop(connection, [{"model_name": model, "event_time": hour} for model, hour in outdated])
            clear_wal(engine)
    return len(outdated)


def _is_outdated(connection: Connection, model_name: str, hour: datetime) -> bool:
    """Whether of slices that an hour's sketches name, or of none, there are more or fewer rows than they say."""
    of_hour = (sketches.c.model_name == model_name, sketches.c.hour == hour, sketches.c.format == FORMAT)
    key = [sketches.c[name] for name in (*TEXTS[:-1], "part")]
    told_apart = or_(sketches.c.part == NO_SLICE, sketches.c.part.startswith(table.NAMED))
    counted = select(*key, sketches.c.rows).where(*of_hour, told_apart)
    held = {tuple(row[:-1]): row[-1] for row in connection.execute(counted)}
    names = {part.removeprefix(table.NAMED) for *_, part in held if part != NO_SLICE}
    columns = [predictions.c[name] for name in TEXTS]
    named = or_(predictions.c.slice.is_(None), predictions.c.slice.in_(names))
    mine = of_time(model_name, hour, hour + _HOUR)
    query = select(*columns, func.count()).where(*mine, named).group_by(*columns)
    there = {(*others, part_of(name)): count for *others, name, count in connection.execute(query)}
    return {key: there.get(key, 0) for key in held} != held

"""A batch as a sheet of pictures: image, outline of the label, outline of what the model answered.

draw(batch, engine, stores, folder / SHEET_FILE, limit=48)

It goes where a person names, never to MLflow: it shows pixels of clients.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, select

from monitoring.performance.labelled import NO_SLICE, LabelledAnswer
from monitoring.performance.worst import draw_sheet, worst_of
from records.batch import Batch, BatchImage
from records.engines import explained
from records.schema import predictions
from records.stores import Stores
from records.tombstones import in_parts

SHEET_FILE: Final = "labels.png"


def draw(batch: Batch, engine: Engine, stores: Stores, path: Path, limit: int) -> int:
    """Draw the images whose label agrees least with the model, and return how many there are on the sheet.

    Raises:
        RecordsError: the database does not answer.
        OSError: the file cannot be written.
    """
    if batch.state == "released":
        released = stores.released
        stores = replace(stores, images=released.images(batch.batch_id), truths=released.truths(batch.batch_id))
    found = dict[str, tuple[str, str, float | None, str | None]]()
    names = ("answer_id", "request_id", "route", "confidence", "image_digest")
    with explained(engine), engine.connect() as connection:
        for part in in_parts([one.answer_id for one in batch.images]):
            query = select(*(predictions.c[name] for name in names)).where(predictions.c.answer_id.in_(part))
            for answer, *told in connection.execute(query):
                found[answer] = (told[0], told[1], told[2], told[3])
    rows = [_row(one, *found.get(one.answer_id, (one.name, "", None, None))) for one in batch.images]
    shown = worst_of(rows, stores, limit)
    of_clients = ", labels OF CLIENTS" if batch.of_clients else ""
    title = f"batch {batch.batch_id}{of_clients}: wide blue lines are the labels, thin lines what the model answered"
    draw_sheet(shown, title=title, path=path)
    path.chmod(0o600)
    return len(shown)


def _row(one: BatchImage, request: str, route: str, confidence: float | None, digest: str | None) -> LabelledAnswer:
    return LabelledAnswer(
        answer_id=one.answer_id,
        request_id=f"{one.name}\n{request}",
        model_version=one.model_version,
        event_time=one.event_time,
        route=route,
        slice=one.slice or NO_SLICE,
        image_digest=digest,
        confidence=confidence,
        source=one.source,  # type: ignore[arg-type]
        label_time=one.event_time,
        scores={"dice": one.dice or 0.0},
        pixels=None,
    )

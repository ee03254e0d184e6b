"""A batch as a sheet of pictures: image, outline of the label, outline of what the model answered.

draw(batch, stores, folder / SHEET_FILE, limit=48)

It goes where a person names, never to MLflow: it shows pixels of clients.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from monitoring.performance.labelled import NO_SLICE, LabelledAnswer
from monitoring.performance.worst import draw_sheet, worst_of
from monitoring.quarantine.batch_data import Content, contents
from records.batch import Batch, BatchImage
from records.labels import Source
from records.stores import Stores

SHEET_FILE: Final = "labels.png"


def draw(batch: Batch, stores: Stores, path: Path, limit: int) -> int:
    """Draw the images whose label agrees least with the model, and return how many there are on the sheet.

    Raises:
        OSError: the file cannot be written.
    """
    # What is decided on, and nothing that has taken its place since.
    as_collected = [found.image for found in contents(batch, stores) if isinstance(found, Content)]
    if batch.state == "released":
        released = stores.released
        stores = replace(stores, images=released.images(batch.batch_id), truths=released.truths(batch.batch_id))
    shown = worst_of([_row(one) for one in as_collected], stores, limit)
    of_clients = ", labels OF CLIENTS" if batch.of_clients else ""
    title = f"batch {batch.batch_id}{of_clients}: wide blue lines are the labels, thin lines what the model answered"
    draw_sheet(shown, title=title, path=path)
    path.chmod(0o600)
    return len(shown)


def _row(one: BatchImage) -> LabelledAnswer:
    return LabelledAnswer(
        answer_id=one.answer_id,
        request_id=one.name,
        model_version=one.model_version,
        event_time=one.event_time,
        route="",
        slice=one.slice or NO_SLICE,
        image_digest=None,
        confidence=None,
        source=cast(Source, one.source),
        label_time=one.event_time,
        scores={"dice": one.dice or 0.0},
        pixels=None,
    )

"""Chosen images as a data set to correct: images, the model's masks as drafts, a table, and the file of their labels.

    export(chosen, stores, folder, model="resunet")

The layout is that of a data set for training (`images/`, `masks/` of the same stem, `metadata.csv`); `labels.csv` is
for `python -m monitoring label --csv`, which refuses a draft that nobody has changed or marked as checked.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from monitoring.performance.choice import Chosen
from monitoring.performance.label_file import draft_mark
from records.batch_files import levels, write_image, write_mask
from records.labels import from_stored
from records.stores import Stores
from resunet.errors import DataError, SettingsError

METADATA_FILE: Final = "metadata.csv"
LABELS_FILE: Final = "labels.csv"
_STEM: Final = 16


@dataclass(frozen=True)
class Exported:
    """A chosen answer, and what is told of it in `metadata.csv`."""

    chosen: Chosen
    answer_id: str
    request_id: str
    event_time: datetime
    facts: Mapping[str, object]


def check_folder(folder: Path) -> None:
    """Find out before the work whether a folder can take the images.

    Raises:
        SettingsError: it holds something already, or cannot be made.
    """
    try:
        # For its owner alone: outside of RESUNET_HOME neither retention nor `records forget` finds them.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise SettingsError(f"--out {folder} cannot be used: {error.strerror}. Name a folder to make") from error
    if occupied:
        raise SettingsError(f"--out {folder} holds something already: name a new folder, so that no mask is lost")


def export(images: Sequence[Exported], stores: Stores, folder: Path, model: str) -> None:
    """Write chosen images to an empty folder.

    Raises:
        DataError: an image or a mask is no longer kept.
        SealError: one cannot be unsealed.
        OSError: the folder cannot be written.
    """
    metadata, labels = [], []
    for one in images:
        image, stored = (
            stores.images.get(one.answer_id, one.event_time),
            stores.masks.get(one.answer_id, one.event_time),
        )
        if image is None or stored is None:
            raise DataError("an image was deleted just now, after its retention: run it again, in another folder")
        mask = levels(from_stored(stored))
        stem = one.answer_id[:_STEM]
        file = write_image(folder, stem, image)
        write_mask(folder, stem, mask)
        chosen = one.chosen
        choice = {"source": chosen.source, "why": chosen.why, "probability": f"{chosen.probability:.6g}"}
        metadata.append({"file": file, "request_id": one.request_id, **one.facts, **choice})
        draft = {"mask": f"masks/{stem}.png", "draft": draft_mark(mask), "checked": ""}
        labels.append({"request_id": one.request_id, "source": chosen.source, "model": model, **draft})
    _write(folder / METADATA_FILE, metadata)
    _write(folder / LABELS_FILE, labels)


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

"""The images and true masks of a batch: read, held against what was collected, and checked by `pipelines prepare`.

for one in contents(batch, stores):             # Content, or Lost
    …
refusals = refusals_of(batch, stores, home)
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from records.batch import Batch, BatchImage
from records.batch_files import sha256, write_image, write_mask
from records.labels import from_stored
from records.stores import Stores
from records.workplace import workplace
from resunet.errors import RecordsError, ResunetError

_SHOWN: Final = 5


@dataclass(frozen=True)
class Content:
    """An image as it was sent, and its true mask as it is kept."""

    image: BatchImage
    encoded: bytes
    truth: str


@dataclass(frozen=True)
class Lost:
    """An image that is not what was collected any more, and why, in words."""

    image: BatchImage
    why: str


def contents(batch: Batch, stores: Stores) -> Iterator[Content | Lost]:
    """Each image of a batch, read from where it is kept.

    Raises:
        SealError: one cannot be unsealed.
        RecordsError: one cannot be read.
    """
    released = batch.state == "released"
    images = stores.released.images(batch.batch_id) if released else stores.images
    truths = stores.released.truths(batch.batch_id) if released else stores.truths
    for one in batch.images:
        encoded = images.get(one.answer_id, one.event_time)
        truth = truths.get(one.answer_id, one.source, one.event_time)
        if encoded is None or truth is None:
            yield Lost(one, "it is kept no more")
        elif sha256(encoded) != one.image_sha256:
            yield Lost(one, "its image was changed since")
        elif sha256(truth.encode()) != one.mask_sha256:
            yield Lost(one, "its label was changed since")
        else:
            yield Content(one, encoded, truth)


def refusals_of(batch: Batch, stores: Stores, home: Path) -> tuple[str, ...]:
    """What `python -m pipelines prepare` says against a batch, a sentence each; it runs in a process of its own.

    Args:
        home: where they lie in clear meanwhile.

    Raises:
        ResunetError: it did not come to an answer.
    """
    with workplace(home, "prepare") as folder:
        data, report = folder / batch.batch_id, folder / "report.json"
        data.mkdir()
        write(batch, stores, data)
        command = [sys.executable, "-m", "pipelines", "prepare", "--part", "--data", str(data), "--report", str(report)]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if ran.returncode not in (0, 2) or not report.is_file():
            said = next(iter(ran.stderr.strip().splitlines()[-1:]), f"exit code {ran.returncode}")
            raise ResunetError(f"`python -m pipelines prepare` did not check batch {batch.batch_id}: {said}")
        problems = json.loads(report.read_text(encoding="utf-8"))["problems"]
    return tuple(_told(one) for one in problems if one["severity"] == "refuse")


def write(batch: Batch, stores: Stores, folder: Path) -> None:
    """Write a batch as a data set to an empty folder.

    Raises:
        RecordsError: an image is not what was collected any more.
    """
    rows = []
    for one in contents(batch, stores):
        if isinstance(one, Lost):
            raise RecordsError(f"{one.image.name} of batch {batch.batch_id}: {one.why}; check it again")
        name = write_image(folder, one.image.name, one.encoded)
        write_mask(folder, one.image.name, from_stored(one.truth))
        rows.append(
            {
                "file": name,
                "group": one.image.group or "",
                "slice": one.image.slice or "",
                "source": one.image.source,
                "version": one.image.model_version,
                "of_clients": "yes" if batch.of_clients else "no",
            }
        )
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _told(problem: dict[str, object]) -> str:
    files = [str(name).replace("images/", "") for name in problem["files"]]  # type: ignore[attr-defined]
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    named = f"{', '.join(files[:_SHOWN])}{more}: " if files else ""
    return f"{problem['check']}: {named}{problem['what_to_do']}"

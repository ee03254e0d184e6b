"""Gather labelled live images that are in no batch yet: those of auditors, and apart from them those of clients.

    earlier = read_batches(engine, "resunet")
    found = gather(engine, stores, "resunet", window, sources=("audit", "picked"), earlier=earlier)
    found.images, found.without_image

What counts of an image with labels of several sources is the strongest: a random audit before a picked one before a
client's. A client's label of an image that an auditor has labelled too is not collected at all.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Engine

from monitoring.performance.labelled import NO_SLICE, LabelledAnswer, labelled_in
from monitoring.window import Window
from records.batch import LIVE_PREFIX, Batch, BatchImage
from records.batch_files import sha256
from records.labels import SOURCES, Source
from records.stores import Stores

GroupBy = Literal["none", "slice", "day"]
# The label that counts does not tell on which route its image was answered: the caller's own answer goes first.
_ROUTES: Final = ("production", "canary", "batch", "shadow")


@dataclass(frozen=True)
class Gathered:
    """What was found.

    Attributes:
        images: that are in no batch yet, each once, the oldest first.
        known: labels of images that are in a batch already.
        without_image: labels whose image or true mask is not kept.
        copies: of images that are among them already, with the same mask.
    """

    images: tuple[BatchImage, ...]
    known: int = 0
    without_image: int = 0
    copies: int = 0


def gather(
    engine: Engine,
    stores: Stores,
    model: str,
    window: Window,
    *,
    sources: Sequence[Source],
    earlier: Sequence[Batch],
    group_by: GroupBy = "none",
) -> Gathered:
    """Find what can be collected.

    Args:
        sources: of labels, either clients' alone or without them.
        earlier: batches of the model; where auditors' labels are asked for, those of clients do not count.
        group_by: what keeps images in one split, besides copies: the same slice, or the same day and slice.

    Raises:
        RecordsError: the database does not answer, or a file cannot be read.
    """
    seen = _Seen([batch for batch in earlier if not batch.of_clients or "client" in sources])
    found = list[BatchImage]()
    known = without_image = copies = 0
    contents = set[tuple[str, str]]()
    for row in _strongest(engine, model, window, sources):
        if seen.holds(row.answer_id):
            known += 1
            continue
        image, mask = _content(row, stores)
        if image is None or mask is None:
            without_image += 1
        elif seen.refused(row, image, mask) or seen.same(image, mask):
            known += 1
        elif (image, mask) in contents:
            copies += 1
        else:
            contents.add((image, mask))
            found.append(_image(row, image, mask, group_by))
    found.sort(key=lambda one: (one.event_time, one.answer_id))
    return Gathered(tuple(found), known, without_image, copies)


class _Seen:
    """What earlier batches hold."""

    def __init__(self, earlier: Sequence[Batch]) -> None:
        live = [one for batch in earlier if not batch.is_turned_down for one in batch.images]
        refused = [
            one for batch in earlier for one in batch.members if batch.is_turned_down or one.left_out is not None
        ]
        self._answers = {one.answer_id for one in live}
        self._contents = {(one.image_sha256, one.mask_sha256) for one in live}
        self._refused = {(one.answer_id, one.source, one.mask_sha256) for one in refused}
        self._refused_contents = {(one.image_sha256, one.mask_sha256) for one in refused}

    def holds(self, answer_id: str) -> bool:
        return answer_id in self._answers

    def same(self, image: str, mask: str) -> bool:
        return (image, mask) in self._contents

    def refused(self, row: LabelledAnswer, image: str, mask: str) -> bool:
        """Whether somebody has turned this label down, of this answer or of the same image sent again."""
        return (row.answer_id, row.source, mask) in self._refused or (image, mask) in self._refused_contents


def _strongest(engine: Engine, model: str, window: Window, sources: Sequence[Source]) -> Iterator[LabelledAnswer]:
    """The label that counts of each answer."""

    def rows(which: Collection[Source]) -> tuple[LabelledAnswer, ...]:
        return labelled_in(engine, model, window, sources=tuple(which), routes=_ROUTES).rows

    others = {row.answer_id for row in rows([one for one in SOURCES if one != "client"])}
    found = [row for row in rows(sources) if row.source != "client" or row.answer_id not in others]
    yield from sorted(found, key=lambda row: (_ROUTES.index(row.route), row.event_time, row.answer_id))


def _content(row: LabelledAnswer, stores: Stores) -> tuple[str | None, str | None]:
    """sha256 of image and true mask, where they are kept."""
    if not stores.images.holds(row.answer_id, row.event_time):
        return None, None
    image = stores.images.get(row.answer_id, row.event_time)
    truth = stores.truths.get(row.answer_id, row.source, row.event_time)
    return None if image is None else sha256(image), None if truth is None else sha256(truth.encode())


def _image(row: LabelledAnswer, image: str, mask: str, group_by: GroupBy) -> BatchImage:
    return BatchImage(
        answer_id=row.answer_id,
        source=row.source,
        event_time=row.event_time,
        model_version=row.model_version,
        slice=None if row.slice == NO_SLICE else row.slice,
        group=_group(row.event_time, row.slice, group_by),
        dice=row.dice,
        image_sha256=image,
        mask_sha256=mask,
    )


def _group(event_time: datetime, named: str, group_by: GroupBy) -> str | None:
    """A name that says nothing: it stands in the version's manifest, where no client's words belong."""
    if group_by == "none" or named == NO_SLICE:
        return None
    told = named if group_by == "slice" else f"{event_time:%Y-%m-%d} {named}"
    return LIVE_PREFIX + hashlib.sha256(told.encode()).hexdigest()[:16]

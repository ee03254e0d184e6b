"""What a prediction was worth, once its truth is known: one row a request, version and source in the table `labels`.

    added = add_label(engine, stores.masks, Label("a1", source="client", truth=mask), datetime.now(UTC))
    added[0].model_version, added[0].scores["dice"]

The truth itself is not kept, unless that is asked for (`records.truths`): it is scored against the mask that was
answered, which the store has for a while. A label that is sent again replaces the one before of the same source, and is
counted once. `check_label` finds out the same and writes nothing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, select

from records.blobs import MaskStore
from records.engines import explained
from records.log_database import has_column
from records.schema import labels, predictions
from records.stores import Stores
from records.tombstones import adding, refuse_label
from records.upsert import upsert
from resunet.errors import DataError, ResunetError
from resunet.masks import decode_classes_rle, encode_classes_rle, from_rle, to_rle
from resunet.metrics import confusion, overlap_scores

Source = Literal["audit", "picked", "client"]
SOURCES: Final[tuple[Source, ...]] = ("audit", "picked", "client")
SCORES: Final = ("dice", "iou", "precision", "recall", "boundary_f1")
_CLASSES: Final = 256
# The scores of an image are means over its classes, computed from the same counts: they agree to rounding.
_SAME: Final = 1e-9


class UnknownAnswerError(ResunetError):
    """No answer of that request id is on record, or none of this caller's."""


class LabelRefusedError(ResunetError):
    """The answer is there, and cannot be labelled."""


@dataclass(frozen=True)
class Label:
    """A label for a request.

    Attributes:
        request_id: of the request.
        model_name: registered.
        source: a random audit, an image that was picked, or a client of its own accord.
        truth: (H, W), 0 and 255 or class indices; None where only a score is told.
        dice: that score, 0 to 1.
        caller: who labels, as far as that was proved: only answers to the same caller count; None: any.
    """

    request_id: str
    model_name: str
    source: Source
    truth: NDArray[np.uint8] | None = None
    dice: float | None = None
    caller: str | None = None


@dataclass(frozen=True)
class Added:
    """A row of the table."""

    model_version: str
    source: Source
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Worth:
    """What a label says of one answer; `truth` as it would be kept."""

    answer_id: str
    event_time: datetime
    scores: dict[str, float]
    pixels: str | None = None
    truth: str | None = None


def add_label(engine: Engine, masks: MaskStore, label: Label, now: datetime, kept: Stores | None = None) -> list[Added]:
    """Score what was answered to a request, by every version that answered it, and write it down.

    Args:
        engine: of the inference log.
        masks: predicted masks that are still kept.
        label: truth, or a score.
        now: aware.
        kept: where the truth is kept, if the image is kept there; None: nowhere.

    Raises:
        UnknownAnswerError: nothing was answered under that id, as far as the database knows by now.
        LabelRefusedError: the id stands for several answers of a version, or the mask is kept no more.
        ForgottenError: the request was forgotten.
        DataError: the truth is not of the mask's size, or the score no number from 0 to 1.
        RecordsError: the database does not answer, or the truth cannot be written.
    """
    with explained(engine), adding(engine) as connection:
        refuse_label(connection, label.request_id)
        worth, noted = _worth(connection, masks, label), has_column(connection, labels.c.pixels)
        for version, one in worth.items():
            key = {"request_id": label.request_id, "model_name": label.model_name, "model_version": version}
            told: dict[str, Any] = {"source": label.source, "label_time": now}
            told |= {"pixels": one.pixels} if noted else {}
            upsert(connection, labels, {**key, **told, **dict.fromkeys(SCORES), **one.scores})
            if kept is not None:
                _keep(kept, one, label.source)
    return [Added(version, label.source, one.scores) for version, one in worth.items()]


def check_label(engine: Engine, masks: MaskStore, label: Label) -> list[Added]:
    """What `add_label` would write down; raises what it would raise."""
    with explained(engine), engine.connect() as connection:
        refuse_label(connection, label.request_id)
        worth = _worth(connection, masks, label)
    return [Added(version, label.source, one.scores) for version, one in worth.items()]


def _keep(kept: Stores, one: _Worth, source: Source) -> None:
    """Within the label's transaction: whoever forgets the request waits for it, or was there before it."""
    if one.truth is None:
        kept.truths.drop(one.answer_id, source, one.event_time)
    elif kept.images.holds(one.answer_id, one.event_time):
        kept.truths.put(one.answer_id, source, one.truth, one.event_time)


def pixels_of(stored: str | None, dice: float | None) -> dict[tuple[int, int], int] | None:
    """Pixels of a label by true and predicted class; None where they are not known.

    A release that does not write them leaves those of the label that it replaces: they count only where they give the
    label's own Dice.

    Args:
        stored: of the column `pixels`.
        dice: of the same row.
    """
    if stored is None or dice is None:
        return None
    table = {(int(true), int(predicted)): int(count) for true, predicted, count in json.loads(stored)}
    present = sorted({index for pair in table for index in pair if index > 0})
    parts = [_dice_of(table, index) for index in present]
    same = abs((sum(parts) / len(parts) if parts else 1.0) - dice) <= _SAME
    return table if same else None


def _dice_of(table: Mapping[tuple[int, int], int], index: int) -> float:
    # 2 TP + FP + FN: what lies in the row or the column of a class, its diagonal twice.
    total = sum(count * ((true == index) + (predicted == index)) for (true, predicted), count in table.items())
    return 2 * table.get((index, index), 0) / total


def _worth(connection: Connection, masks: MaskStore, label: Label) -> dict[str, _Worth]:
    """What a label says, by version."""
    if label.dice is not None and not (math.isfinite(label.dice) and 0 <= label.dice <= 1):
        raise DataError("a Dice is a number from 0 to 1")
    columns = (predictions.c[name] for name in ("answer_id", "model_version", "event_time", "client"))
    query = select(*columns).where(
        predictions.c.model_name == label.model_name,
        predictions.c.request_id == label.request_id,
        predictions.c.status == "ok",
    )
    answers = [row for row in connection.execute(query) if _is_theirs(row.client, label.caller)]
    return {row.model_version: _scored(row, masks, label) for row in _one_a_version(answers)}


def _is_theirs(client: str | None, caller: str | None) -> bool:
    return caller is None or client == caller or (client or "").startswith(f"{caller}:")


def _one_a_version(answers: Sequence[Row[Any]]) -> list[Row[Any]]:
    if not answers:
        raise UnknownAnswerError(
            "no answer of that request id is on record; if it was answered just now, send the label again in a few "
            "seconds"
        )
    versions = [row.model_version for row in answers]
    if len(set(versions)) < len(versions):
        raise LabelRefusedError(
            "that request id was used for several images, so nobody can tell which of them is meant: give each its own"
        )
    return list(answers)


def _scored(answer: Row[Any], masks: MaskStore, label: Label) -> _Worth:
    if label.truth is None:
        return _Worth(answer.answer_id, answer.event_time, {} if label.dice is None else {"dice": label.dice})
    stored = masks.get(answer.answer_id, answer.event_time)
    if stored is None:
        raise LabelRefusedError(
            "the mask that was answered is kept no more (RESUNET_MASK_RETENTION_DAYS, RESUNET_MASKS_MAX_MB): send the "
            "Dice, if you have it"
        )
    predicted = from_stored(stored)
    if predicted.shape != label.truth.shape:
        height, width = predicted.shape
        raise DataError(f"the mask must have the image's size, {width} x {height} pixels")
    found = overlap_scores(predicted, label.truth)
    table = confusion(predicted, label.truth, _CLASSES)
    pixels = [[int(true), int(guess), int(table[true, guess])] for true, guess in np.argwhere(table)]
    return _Worth(
        answer.answer_id,
        answer.event_time,
        {name: float(found[name]) for name in SCORES},
        json.dumps(pixels, separators=(",", ":")),
        _to_stored(label.truth, binary=predicted.dtype == np.bool_),
    )


def _to_stored(truth: NDArray[np.uint8], *, binary: bool) -> str:
    if binary:
        return to_rle(truth > 0)
    return json.dumps(encode_classes_rle(truth, int(truth.max(initial=0)) + 1), separators=(",", ":"))


def from_stored(mask_rle: str) -> NDArray[np.uint8] | NDArray[np.bool_]:
    """A mask as the mask store keeps it: (H, W), bool for a binary version, else class indices."""
    return from_rle(mask_rle) if mask_rle.startswith("{") else decode_classes_rle(json.loads(mask_rle))

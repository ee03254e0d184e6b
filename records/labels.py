"""What a prediction was worth, once its truth is known: one row a request, version and source in the table `labels`.

    added = add_label(engine, stores.masks, Label("a1", source="client", truth=mask), datetime.now(UTC))
    added[0].model_version, added[0].scores["dice"]

The truth itself is not kept: it is scored against the mask that was answered, which the store has for a while. A label
that is sent again replaces the one before of the same source, and is counted once.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, Row, select

from records.blobs import MaskStore
from records.engines import explained
from records.schema import labels, predictions
from records.tombstones import adding, refuse_label
from records.upsert import upsert
from resunet.errors import DataError, ResunetError
from resunet.masks import decode_classes_rle, from_rle
from resunet.metrics import overlap_scores

Source = Literal["audit", "picked", "client"]
SOURCES: Final[tuple[Source, ...]] = ("audit", "picked", "client")
_SCORES: Final = ("dice", "iou", "precision", "recall", "boundary_f1")


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


def add_label(engine: Engine, masks: MaskStore, label: Label, now: datetime) -> list[Added]:
    """Score what was answered to a request, by every version that answered it, and write it down.

    Args:
        engine: of the inference log.
        masks: predicted masks that are still kept.
        label: truth, or a score.
        now: aware.

    Raises:
        UnknownAnswerError: nothing was answered under that id, as far as the database knows by now.
        LabelRefusedError: the id stands for several answers of a version, or the mask is kept no more.
        ForgottenError: the request was forgotten.
        DataError: the truth is not of the mask's size, or the score no number from 0 to 1.
        RecordsError: the database does not answer.
    """
    if label.dice is not None and not (math.isfinite(label.dice) and 0 <= label.dice <= 1):
        raise DataError("a Dice is a number from 0 to 1")
    with explained(engine), adding(engine) as connection:
        columns = (predictions.c[name] for name in ("answer_id", "model_version", "event_time", "client"))
        query = select(*columns).where(
            predictions.c.model_name == label.model_name,
            predictions.c.request_id == label.request_id,
            predictions.c.status == "ok",
        )
        refuse_label(connection, label.request_id)
        answers = [row for row in connection.execute(query) if _is_theirs(row.client, label.caller)]
        added = [Added(row.model_version, label.source, _scores(row, masks, label)) for row in _one_a_version(answers)]
        for one in added:
            key = {"request_id": label.request_id, "model_name": label.model_name, "model_version": one.model_version}
            blank = dict.fromkeys(_SCORES)
            upsert(connection, labels, {**key, "source": one.source, "label_time": now, **blank, **one.scores})
        return added


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


def _scores(answer: Row[Any], masks: MaskStore, label: Label) -> dict[str, float]:
    if label.truth is None:
        return {} if label.dice is None else {"dice": label.dice}
    stored = masks.get(answer.answer_id, answer.event_time)
    if stored is None:
        raise LabelRefusedError(
            "the mask that was answered is kept no more (RESUNET_MASK_RETENTION_DAYS): send the Dice, if you have it"
        )
    predicted = from_rle(stored) if stored.startswith("{") else decode_classes_rle(json.loads(stored))
    if predicted.shape != label.truth.shape:
        height, width = predicted.shape
        raise DataError(f"the mask must have the image's size, {width} x {height} pixels")
    scores = overlap_scores(predicted, label.truth)
    return {name: float(scores[name]) for name in _SCORES}

"""A label is scored against the mask that was answered, counted once, and refused where its answer is not known."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from records_rows import NOON, answer, prediction
from sqlalchemy import select

from records.forget import forget
from records.inference import InferenceLog
from records.labels import Label, LabelRefusedError, UnknownAnswerError, from_stored
from records.schema import labels
from records.subject import Subject
from records.tombstones import ForgottenError
from resunet.errors import DataError
from resunet.masks import encode_classes_rle, to_rle

TRUTH = np.zeros((4, 6), np.uint8)
TRUTH[:2] = 255
ANSWERED = np.zeros((4, 6), np.uint8)
ANSWERED[:1] = 255
DICE = 2 * 6 / (12 + 6)


@pytest.fixture
def log(database_url: str, tmp_path: Path) -> Iterator[InferenceLog]:
    opened = InferenceLog.open(database_url, tmp_path / "home", clock=lambda: NOON + timedelta(hours=1))
    rows = [
        prediction("a", mask_rle=to_rle(ANSWERED), client="key1:ward"),
        prediction("two versions", mask_rle=to_rle(ANSWERED)),
        prediction("two versions", mask_rle=to_rle(TRUTH), model_version="9", route="shadow"),
        prediction("twice", mask_rle=to_rle(ANSWERED), image_digest="sha256:1"),
        prediction("twice", mask_rle=to_rle(ANSWERED), image_digest="sha256:2"),
        prediction("classes", mask_rle=json.dumps(encode_classes_rle(np.uint8([[0, 1], [2, 2]]), 3))),
        prediction("no mask", mask_rle=None),
        prediction("refused", status="refused", mask_rle=None),
    ]
    opened.append(rows)
    opened.drain_now()
    yield opened
    opened.close()


def label(request_id: str, **changes: object) -> Label:
    given = {"model_name": "resunet", "source": "client", "truth": TRUTH, **changes}
    return Label(request_id, **given)  # type: ignore[arg-type]


def stored(log: InferenceLog) -> list[tuple[object, ...]]:
    columns = (labels.c[name] for name in ("request_id", "model_version", "source", "dice"))
    with log._engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(select(*columns)))


def test_every_version_that_answered_is_scored(log: InferenceLog) -> None:
    added = {one.model_version: one.scores["dice"] for one in log.label(label("two versions"))}
    assert added == {prediction("x").model_version: pytest.approx(DICE), "9": 1.0}


def test_a_label_that_comes_again_counts_once_and_the_last_one_holds(log: InferenceLog) -> None:
    for truth in (TRUTH, TRUTH, ANSWERED):
        log.label(label("a", truth=truth))
    log.label(label("a", truth=None, dice=0.25, source="audit"))
    version = prediction("x").model_version
    assert stored(log) == [("a", version, "audit", 0.25), ("a", version, "client", 1.0)]


def test_class_indices_are_scored_too(log: InferenceLog) -> None:
    (added,) = log.label(label("classes", truth=np.uint8([[0, 1], [2, 0]])))
    assert added.scores["dice"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        (label("never asked"), UnknownAnswerError, "no answer of that request id"),
        (label("refused"), UnknownAnswerError, "no answer of that request id"),
        (label("a", model_name="other"), UnknownAnswerError, "no answer"),
        (label("a", caller="key2"), UnknownAnswerError, "no answer"),
        (label("a", caller="key"), UnknownAnswerError, "no answer"),
        (label("twice"), LabelRefusedError, "used for several images"),
        (label("no mask"), LabelRefusedError, "kept no more"),
        (label("a", truth=TRUTH[:3]), DataError, "must have the image's size, 6 x 4 pixels"),
        (label("a", truth=None, dice=1.5), DataError, "from 0 to 1"),
        (label("a", truth=None, dice=float("nan")), DataError, "from 0 to 1"),
    ],
)
def test_what_cannot_be_labelled_is_refused_and_nothing_is_written(
    log: InferenceLog, given: Label, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        log.label(given)
    assert stored(log) == []


def test_a_caller_labels_its_own_requests(log: InferenceLog) -> None:
    assert log.label(label("a", caller="key1"))


def test_a_score_needs_no_mask(log: InferenceLog) -> None:
    assert log.label(label("no mask", truth=None, dice=0.8))[0].scores == {"dice": 0.8}


def test_what_was_forgotten_takes_no_label(log: InferenceLog, tmp_path: Path) -> None:
    forget(log._engine, tmp_path / "home", Subject("request", "a"), actor="ada")
    with pytest.raises(ForgottenError, match="was forgotten"):
        log.label(label("a"))
    assert stored(log) == []


@pytest.mark.parametrize("keep", [True, False])
def test_a_log_keeps_truths_where_that_is_asked_for(url: str, tmp_path: Path, keep: bool) -> None:
    truth = np.uint8([[0, 1], [2, 0]])
    answered = json.dumps(encode_classes_rle(np.uint8([[0, 1], [2, 2]]), 3))
    log = InferenceLog.open(url, tmp_path / "home", keep_images=1.0, keep_labels=keep, clock=lambda: NOON)
    log.append([prediction("a", mask_rle=answered, image=b"an image")])
    log.drain_now()
    log.label(label("a", truth=truth))
    found = log._stores.truths.get(answer(prediction("a")), "client", NOON)
    log.close()
    assert (None if found is None else from_stored(found).tolist()) == (truth.tolist() if keep else None)

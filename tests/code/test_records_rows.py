"""The contract of one logged prediction."""

import json

import pytest
from records_rows import NOON, answer, prediction

from records.rows import NewerRecordError, from_record, to_record
from resunet.errors import RecordsError


def test_width_and_height_are_taken_from_the_descriptors_when_not_given() -> None:
    row = prediction("a", width=None, height=None, descriptors={"width": 31.0, "height": 17.0})
    values, _ = from_record(to_record(row))
    assert (values["width"], values["height"]) == (31.0, 17.0)


def test_a_record_of_a_newer_release_is_not_misread() -> None:
    line = to_record(prediction("a")).replace(b'"format":1', b'"format":3')
    with pytest.raises(NewerRecordError, match="newer release"):
        from_record(line)


def test_a_record_of_an_earlier_release_is_read() -> None:
    record = json.loads(to_record(prediction("a")))
    del record["image_digest"], record["threshold"]
    values, _ = from_record(json.dumps(record).encode())
    assert values["image_digest"] is values["threshold"] is None


def test_the_name_of_an_answer_stays_the_same_from_release_to_release() -> None:
    # Where it changes, rows in a spool that was drained by the release before are counted twice.
    assert answer(prediction("a")) == "ad6c0cae0b760f34888a3cf8931bc33116557e643f92e49ea2987ef84712f809"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"event_time": NOON.replace(tzinfo=None)}, "zone"),
        ({"request_id": ""}, "request_id"),
        ({"route": "sideways"}, "route"),
        ({"status": "fine"}, "status"),
        ({"embedding": b"12"}, "64 float32"),
        ({"descriptors": {"colour": 1.0}}, "colour"),
        ({"prediction_descriptors": {"brightness": 1.0}}, "brightness"),
    ],
)
def test_a_row_that_breaks_the_contract_is_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(RecordsError, match=told):
        prediction("a", **changes)

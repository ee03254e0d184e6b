"""The contract of one logged prediction."""

import pytest
from records_rows import NOON, prediction

from records.rows import from_record, to_record
from resunet.errors import RecordsError


def test_width_and_height_are_taken_from_the_descriptors_when_not_given() -> None:
    row = prediction("a", width=None, height=None, descriptors={"width": 31.0, "height": 17.0})
    values, _ = from_record(to_record(row))
    assert (values["width"], values["height"]) == (31.0, 17.0)


def test_a_record_of_a_newer_release_is_not_misread() -> None:
    line = to_record(prediction("a")).replace(b'"format":1', b'"format":2')
    with pytest.raises(RecordsError, match="newer release"):
        from_record(line)


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

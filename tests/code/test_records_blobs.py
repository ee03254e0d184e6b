"""The store of predicted masks."""

from datetime import timedelta, timezone
from pathlib import Path

import pytest
from records_rows import NOON

from records.blobs import MaskStore
from resunet.errors import RecordsError

MASK = '{"size":[2,3],"counts":[2,4]}'
ODD_IDS = ["../../etc/passwd", "/absolute", "a\0b", "x" * 5000, "", "CON", "a/b", "\ud800", "Ä", "A", "a"]


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    return MaskStore(tmp_path / "masks")


def test_any_request_id_is_kept_below_the_root_and_apart_from_others(store: MaskStore) -> None:
    for number, request_id in enumerate(ODD_IDS):
        path = store.put(request_id, "3", str(number), NOON)
        assert path.resolve().is_relative_to((store.root / "2026-03-01").resolve())
    assert [store.get(request_id, "3") for request_id in ODD_IDS] == [str(n) for n in range(len(ODD_IDS))]


def test_versions_and_models_do_not_share_a_mask(store: MaskStore) -> None:
    store.put("a", "3", "three", NOON)
    store.put("a", "4", "four", NOON)
    store.put("a", "3", "liver", NOON, model_name="liver")
    assert (store.get("a", "3"), store.get("a", "4"), store.get("a", "5")) == ("three", "four", None)
    assert store.get("a", "3", model_name="liver") == "liver"
    store.put("1a", "3", "one", NOON)
    assert store.get("a", "31") is None


def test_the_latest_day_is_found_without_knowing_it(store: MaskStore) -> None:
    store.put("a", "3", "old", NOON - timedelta(days=3))
    store.put("a", "3", "new", NOON)
    assert store.get("a", "3") == "new"
    assert store.get("a", "3", NOON - timedelta(days=3)) == "old"
    assert store.get("a", "3", NOON - timedelta(days=1)) is None


def test_a_second_mask_replaces_the_first_and_leaves_no_other_file(store: MaskStore) -> None:
    store.put("a", "3", MASK, NOON)
    path = store.put("a", "3", "other", NOON)
    assert store.get("a", "3") == "other"
    assert list(path.parent.iterdir()) == [path]


def test_the_day_is_of_utc(store: MaskStore) -> None:
    late = NOON.replace(hour=23).astimezone(timezone(timedelta(hours=5)))
    assert store.put("a", "3", MASK, late).parents[1].name == "2026-03-01"
    with pytest.raises(RecordsError, match="aware"):
        store.put("a", "3", MASK, NOON.replace(tzinfo=None))


def test_purge_deletes_whole_days_and_nothing_else(store: MaskStore) -> None:
    for days in range(4):
        store.put(str(days), "3", MASK, NOON - timedelta(days=days))
    (store.root / "9999-99-99").mkdir()
    (store.root / "notes.txt").write_text("keep")
    assert store.purge(NOON - timedelta(days=1)) == 2
    assert [store.get(str(days), "3") is None for days in range(4)] == [False, False, True, True]
    assert {path.name for path in store.root.iterdir()} == {
        "2026-03-01",
        "2026-02-28",
        "9999-99-99",
        "notes.txt",
    }
    assert store.purge(NOON - timedelta(days=1)) == 0


def test_an_absent_store_is_empty(store: MaskStore) -> None:
    assert store.get("a", "3") is None
    assert store.purge(NOON) == 0


def test_a_damaged_mask_is_told(store: MaskStore) -> None:
    path = store.put("a", "3", MASK, NOON)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordsError, match="damaged"):
        store.get("a", "3")


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("a file")
    with pytest.raises(RecordsError, match="cannot be written"):
        MaskStore(tmp_path / "masks").put("a", "3", MASK, NOON)

"""The store of predicted masks."""

from datetime import timedelta, timezone
from pathlib import Path

import pytest
from records_rows import NOON

from records.blobs import INCOMING, MaskStore
from resunet.errors import RecordsError

MASK = '{"size":[2,3],"counts":[2,4]}'
A, B = "a" * 64, "0123456789abcdef" * 4


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    return MaskStore(tmp_path / "masks")


def test_a_mask_is_kept_below_its_day_under_its_name(store: MaskStore) -> None:
    path = store.put(A, "one", NOON)
    store.put(B, "two", NOON)
    assert path.resolve().is_relative_to((store.root / "2026-03-01").resolve())
    assert (store.get(A), store.get(B), store.get("c" * 64)) == ("one", "two", None)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/absolute", "", "A" * 64, "a" * 63, f"{A}\n", "a/b"])
def test_a_name_that_is_no_answers_is_refused(store: MaskStore, name: str) -> None:
    with pytest.raises(RecordsError, match="answer_id"):
        store.put(name, MASK, NOON)
    with pytest.raises(RecordsError, match="answer_id"):
        store.get(name)
    assert not store.root.exists()


def test_the_latest_day_is_found_without_knowing_it(store: MaskStore) -> None:
    store.put(A, "old", NOON - timedelta(days=3))
    store.put(A, "new", NOON)
    assert store.get(A) == "new"
    assert store.get(A, NOON - timedelta(days=3)) == "old"
    assert store.get(A, NOON - timedelta(days=1)) is None


def test_a_second_mask_replaces_the_first_and_leaves_no_other_file(store: MaskStore) -> None:
    store.put(A, MASK, NOON)
    path = store.put(A, "other", NOON)
    assert store.get(A) == "other"
    assert list(path.parent.iterdir()) == [path]


def test_a_day_that_another_process_deletes_meanwhile_is_made_again(
    store: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a prediction that is logged late the day may be too old already, and purged by whoever comes by."""
    left = [1, 1]
    move = Path.replace

    def purged(path: Path, target: Path) -> Path:
        if left:
            left.pop()
            store.purge(NOON + timedelta(days=60))
        return move(path, target)

    monkeypatch.setattr(Path, "replace", purged)
    store.put(A, "one", NOON)
    assert (store.get(A), left) == ("one", [])


def test_the_day_is_of_utc(store: MaskStore) -> None:
    late = NOON.replace(hour=23).astimezone(timezone(timedelta(hours=5)))
    assert store.put(A, MASK, late).parents[1].name == "2026-03-01"
    with pytest.raises(RecordsError, match="aware"):
        store.put(A, MASK, NOON.replace(tzinfo=None))


def test_purge_deletes_whole_days_and_nothing_else(store: MaskStore) -> None:
    for days in range(4):
        store.put(str(days) * 64, MASK, NOON - timedelta(days=days))
    (store.root / "9999-99-99").mkdir()
    (store.root / INCOMING).rmdir()
    (store.root / "notes.txt").write_text("keep")
    assert store.purge(NOON - timedelta(days=1)) == 2
    assert [store.get(str(days) * 64) is None for days in range(4)] == [False, False, True, True]
    assert {path.name for path in store.root.iterdir()} == {
        "2026-03-01",
        "2026-02-28",
        "9999-99-99",
        "notes.txt",
    }
    assert store.purge(NOON - timedelta(days=1)) == 0


def test_an_absent_store_is_empty(store: MaskStore) -> None:
    assert store.get(A) is None
    assert store.purge(NOON) == 0


def test_a_damaged_mask_is_told(store: MaskStore) -> None:
    path = store.put(A, MASK, NOON)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordsError, match="damaged"):
        store.get(A)


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("a file")
    with pytest.raises(RecordsError, match="cannot be written"):
        MaskStore(tmp_path / "masks").put(A, MASK, NOON)

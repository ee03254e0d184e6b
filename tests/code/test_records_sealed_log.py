"""Masks and images of a log with a key: sealed from the spool on, and what other keys and releases make of them."""

import gzip
import shutil
from pathlib import Path
from typing import Any

import pytest
from records_files import (
    ANSWER_3,
    IMAGE_3,
    KEY_3,
    MASK,
    MASK_FILE_2,
    SEALED_3,
    SEALED_CONTENT_3,
    SEALED_NAME_3,
    SEGMENT_2,
    SPOOLED_2,
    SPOOLED_3,
)
from records_rows import NOON, answer, prediction, rejected, stored_ids

from records.blobs import MaskStore
from records.inference import InferenceLog, open_inference_log
from records.insert import read_record
from records.log_database import open_log
from records.redrain import redrain
from records.rows import PLAIN_FORMAT, to_record
from records.sealing import Keyring, SealError, new_key
from records.settings import RecordsSettings
from records.stores import Stores
from resunet.errors import RecordsError, SettingsError

KEYRING = Keyring([KEY_3])
IMAGE = b"\x89PNG what an image shows"
SHOWN = (MASK.encode(), MASK.replace('"', '\\"').encode(), gzip.compress(MASK.encode(), 1, mtime=0)[10:], IMAGE[4:])


def row(name: str, **changes: Any) -> Any:
    return prediction(name, mask_rle=MASK, image=IMAGE, **changes)


def shown(home: Path) -> list[Path]:
    """Files of a home that show a mask or an image to whoever reads them."""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(part in path.read_bytes() for part in SHOWN)]


def open_sealed(url: str, home: Path, keyring: Keyring | None = KEYRING, **options: Any) -> InferenceLog:
    options = {"keep_images": 1, "clock": lambda: NOON, "drain_interval_s": 60} | options
    return InferenceLog.open(url, home, keyring=keyring, **options)


def test_with_a_key_neither_spool_nor_stores_show_a_mask_or_an_image(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    log = open_sealed(url, home)
    log.append([row("a")])
    assert shown(home) == []
    log.drain_now()
    assert shown(home) == []
    assert (log.masks.get(answer(row("a"))), log.images.get(answer(row("a")))) == (MASK, IMAGE)
    log.close()


def test_without_a_key_they_do(url: str, tmp_path: Path) -> None:
    log = open_sealed(url, tmp_path / "home", None)
    log.append([row("a")])
    assert shown(tmp_path / "home")
    log.drain_now()
    assert len(shown(tmp_path / "home")) == 2
    assert (log.masks.get(answer(row("a"))), log.images.get(answer(row("a")))) == (MASK, IMAGE)
    log.close()


def test_what_is_set_aside_stays_sealed_until_it_is_stored(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    engine = open_log(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER poison BEFORE INSERT ON predictions BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    log = open_sealed(url, home)
    log.append([row("a")])
    log.drain_now()
    assert len(rejected(home)) == 1
    assert shown(home) == []
    assert all(path.stat().st_mode & 0o077 == 0 for path in (home / "spool" / "rejected").glob("*.jsonl"))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER poison")
    assert redrain(engine, home).stored == 1
    assert log.masks.get(answer(row("a"))) == MASK
    log.close()


def test_who_drains_needs_no_key(dead_url: str, url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    dead = open_sealed(dead_url, home)
    dead.append([row("a")])
    dead.close(deadline_s=1)
    log = open_sealed(url, home, None)
    assert log.drain_now() == 1
    assert shown(home) == []
    with pytest.raises(SealError, match="no key is set"):
        log.masks.get(answer(row("a")))
    assert Stores.of(home, KEYRING).images.get(answer(row("a"))) == IMAGE
    log.close()


def test_a_mask_that_waited_without_a_key_is_sealed_when_it_is_stored_with_one(
    dead_url: str, url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    dead = open_sealed(dead_url, home, None)
    dead.append([row("a")])
    dead.close(deadline_s=1)
    log = open_sealed(url, home)
    log.drain_now()
    assert shown(home) == []
    assert (log.masks.get(answer(row("a"))), log.images.get(answer(row("a")))) == (MASK, IMAGE)
    log.close()


def test_a_new_key_seals_from_now_on_and_the_old_one_reads_what_was_before(url: str, tmp_path: Path) -> None:
    new = bytes(reversed(KEY_3))
    for name, keys in (("old", [KEY_3]), ("new", [new, KEY_3])):
        log = open_sealed(url, tmp_path / "home", Keyring(keys))
        log.append([row(name)])
        log.close()
    read = {name: Stores.of(tmp_path / "home", Keyring([key])).masks for name, key in (("old", KEY_3), ("new", new))}
    assert Stores.of(tmp_path / "home", Keyring([new, KEY_3])).masks.get(answer(row("old"))) == MASK
    assert (read["old"].get(answer(row("old"))), read["new"].get(answer(row("new")))) == (MASK, MASK)
    for mine, other in (("old", "new"), ("new", "old")):
        with pytest.raises(SealError, match="not among"):
            read[mine].get(answer(row(other)))


def test_files_that_change_places_are_noticed(url: str, tmp_path: Path) -> None:
    log = open_sealed(url, tmp_path / "home")
    log.append([row("a"), row("b")])
    log.drain_now()
    a, b = (log.masks.put(answer(row(name)), MASK, NOON) for name in "ab")
    shutil.copy(a, b)
    with pytest.raises(SealError, match="another one's place"):
        log.masks.get(answer(row("b")))
    (image,) = (log.images.root / "2026-03-01").glob(f"*/{answer(row('a'))}*")
    shutil.copy(a, image)
    with pytest.raises(SealError, match="another one's place"):
        log.images.get(answer(row("a")))
    log.close()


def test_a_blob_that_was_changed_is_told_and_harms_no_other(url: str, tmp_path: Path) -> None:
    log = open_sealed(url, tmp_path / "home")
    log.append([row("a"), row("b")])
    log.drain_now()
    path = log.masks.put(answer(row("a")), MASK, NOON)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RecordsError, match="not as it was sealed"):
        log.masks.get(answer(row("a")))
    assert log.masks.get(answer(row("b"))) == MASK
    log.close()


@pytest.mark.parametrize("keyring", [None, KEYRING], ids=["no key", "a key"])
def test_masks_and_spools_of_release_2_are_read(url: str, tmp_path: Path, keyring: Keyring | None) -> None:
    home = tmp_path / "home"
    name, content = MASK_FILE_2
    (home / "masks" / name).parent.mkdir(parents=True)
    (home / "masks" / name).write_bytes(content)
    (home / "spool").mkdir()
    (home / "spool" / "1-abc-00000001.jsonl").write_bytes(SEGMENT_2)
    log = open_sealed(url, home, keyring)
    assert log.drain_now() == 1
    assert stored_ids(url) == ["old"]
    assert log.masks.get("a" * 64) == MASK
    assert log.masks.get(str(read_record(SPOOLED_2).values["answer_id"])) == MASK
    log.close()


def test_a_blob_and_a_line_that_release_3_sealed_are_read(url: str, tmp_path: Path) -> None:
    assert KEYRING.unseal(SEALED_NAME_3, SEALED_3) == SEALED_CONTENT_3
    Stores.of(tmp_path / "home", None).keep(ANSWER_3, read_record(SPOOLED_3).attached, NOON)
    stores = Stores.of(tmp_path / "home", KEYRING)
    assert (stores.masks.get(ANSWER_3), stores.images.get(ANSWER_3)) == (MASK, IMAGE_3)


def test_without_a_key_or_an_image_a_line_is_as_release_2_wrote_it() -> None:
    fields: dict[str, Any] = {"descriptors": {"brightness": 0.25}, "prediction_descriptors": {"confidence": 0.5}}
    assert to_record(prediction("old", client="lab-7", embedding=None, **fields)) == SPOOLED_2


def test_release_2_leaves_a_line_that_holds_more_to_this_release() -> None:
    """It would store the row without its mask; it passes over whatever has a higher number than its own."""
    for line in (to_record(prediction("a"), KEYRING), to_record(row("a")), to_record(prediction("a"), None, "file")):
        assert b'"format":2' in line and PLAIN_FORMAT == 1


def test_the_environment_gives_the_log_its_key(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    environment = {"HOME": str(tmp_path / "home"), "INFERENCE_LOG": url, "BLOB_KEY": key, "KEEP_IMAGES": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(f"RESUNET_{name}", value)
    log = open_inference_log(RecordsSettings.load())
    assert log is not None
    log.append([row("a")])
    log.close()
    assert shown(tmp_path / "home") == []
    assert MaskStore(tmp_path / "home" / "masks", log._keyring).get(answer(row("a"))) == MASK
    monkeypatch.setenv("RESUNET_BLOB_KEY", "s3cret")
    with pytest.raises(SettingsError, match="RESUNET_BLOB_KEY") as caught:
        open_inference_log(RecordsSettings.load())
    assert "s3cret" not in str(caught.value)

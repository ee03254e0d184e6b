"""The inference log within one process, on SQLite."""

import threading
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_rows import NOON, answer, prediction, rejected, stored_ids
from sqlalchemy import select
from waiting import until

from records.inference import InferenceLog, open_inference_log
from records.log_database import open_log
from records.schema import predictions
from records.settings import RecordsSettings
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import RecordsError


def test_a_row_comes_back_from_the_database_as_it_was_logged(url: str, tmp_path: Path) -> None:
    local = NOON.astimezone(timezone(timedelta(hours=11))).replace(microsecond=123456)
    row = prediction("a", event_time=local, client="lab-7", slice="modality=fluorescence")
    log = InferenceLog.open(url, tmp_path / "home")
    log.append([row])
    assert log.close()
    with open_log(url).connect() as connection:
        (stored,) = connection.execute(select(predictions)).mappings()
    assert stored["event_time"] == local
    assert stored["event_time"].utcoffset() == timedelta(0)
    assert (stored["client"], stored["slice"], stored["status"]) == ("lab-7", "modality=fluorescence", "ok")
    assert (stored["width"], stored["height"], stored["latency_ms"]) == (256, 128, 12.5)
    assert stored["embedding"] == row.embedding
    assert stored["confidence"] == 0.5
    assert {name: stored[name] for name in IMAGE_DESCRIPTORS[2:]} == {
        name: row.descriptors[name] for name in IMAGE_DESCRIPTORS[2:]
    }


def test_every_descriptor_has_a_column_of_its_name() -> None:
    assert {*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS} <= set(predictions.c.keys())


def test_the_mask_goes_to_the_store_and_not_to_the_database(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home", clock=lambda: NOON)
    log.append([prediction("a")])
    log.drain_now()
    assert log.masks.get(answer(prediction("a"))) == prediction("a").mask_rle
    log.close()
    assert not [column.name for column in predictions.c if "mask" in column.name]


def test_masks_and_images_go_after_their_retention_without_anyone_asking(url: str, tmp_path: Path) -> None:
    clock = [NOON]
    log = InferenceLog.open(url, tmp_path / "home", clock=lambda: clock[0], keep_images=1, upkeep_interval_s=0.01)
    old = prediction("old", image=b"old")
    new = prediction("new", event_time=NOON + timedelta(days=20), image=b"new")
    log.append([old, new])
    log.drain_now()
    clock[0] = NOON + timedelta(days=31)
    until(lambda: log.masks.get(answer(old)) is None and log.images.get(answer(old)) is None)
    assert log.masks.get(answer(new)) is not None and log.images.get(answer(new)) == b"new"
    log.close()


def test_rows_are_drained_without_anyone_asking(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home", drain_interval_s=0.01)
    log.append([prediction("a")])
    until(lambda: stored_ids(url) == ["a"])
    log.append([prediction("b")])
    until(lambda: stored_ids(url) == ["a", "b"])
    log.close()


def test_a_closed_log_leaves_an_empty_spool_and_refuses_rows(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home")
    log.append([prediction("a")])
    assert log.close()
    assert log.close()
    assert stored_ids(url) == ["a"]
    assert list((tmp_path / "home" / "spool").iterdir()) == []
    with pytest.raises(RecordsError, match="closed"):
        log.append([prediction("b")])


def test_a_dead_database_stops_neither_opening_nor_appending_and_gets_all_when_it_is_back(
    dead_url: str, tmp_path: Path
) -> None:
    log = InferenceLog.open(dead_url, tmp_path / "home", drain_interval_s=0.01)
    log.append([prediction("a")])
    until(lambda: log.status().last_error is not None)
    with pytest.raises(RecordsError, match="cannot be made"):
        log.drain_now()
    log.append([prediction("b")])
    assert log.status().pending_bytes > 0
    (tmp_path / "volume" / "mounted").mkdir(parents=True)
    until(lambda: log.status().drained_rows == 2)
    assert stored_ids(dead_url) == ["a", "b"]
    assert log.status().last_error is None
    log.close()


def test_a_table_that_vanishes_is_made_again_and_nothing_is_lost(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home")
    log.append([prediction("a")])
    log.drain_now()
    with open_log(url).begin() as connection:
        predictions.drop(connection)
    log.append([prediction("b")])
    with pytest.raises(RecordsError, match="no such table"):
        log.drain_now()
    log.drain_now()
    assert stored_ids(url) == ["b"]
    log.close()


def test_the_same_request_counts_once_a_version_and_a_route(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home")
    log.append([prediction("a"), prediction("a"), prediction("a", model_version="4")])
    log.append([prediction("a", route="shadow"), prediction("a", latency_ms=99.0)])
    log.drain_now()
    log.append([prediction("a", latency_ms=7.0), prediction("a", event_time=NOON + timedelta(days=1))])
    log.drain_now()
    assert stored_ids(url) == ["a", "a", "a"]
    assert not rejected(tmp_path / "home")
    log.close()


@pytest.mark.parametrize("together", [True, False], ids=["in one round", "in two rounds"])
@pytest.mark.parametrize(
    "other",
    [
        {"image_digest": "sha256:22"},
        {"threshold": 0.25},
        {"model_digest": "sha256:bb"},
        # An image that was refused once may be answered the next time.
        {"status": "refused"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_request_id_used_again_for_another_answer_hides_neither_nor_its_mask(
    url: str, tmp_path: Path, other: dict[str, Any], together: bool
) -> None:
    first, second = prediction("a", mask_rle="first"), prediction("a", mask_rle="second", **other)
    log = InferenceLog.open(url, tmp_path / "home", clock=lambda: NOON, drain_interval_s=60)
    log.append([first])
    if not together:
        log.drain_now()
    log.append([second])
    log.drain_now()
    assert stored_ids(url) == ["a", "a"]
    assert (log.masks.get(answer(first)), log.masks.get(answer(second))) == ("first", "second")
    log.close()


@pytest.mark.parametrize("together", [True, False], ids=["in one round", "in two rounds"])
def test_a_retry_leaves_row_and_mask_of_the_first_answer(url: str, tmp_path: Path, together: bool) -> None:
    log = InferenceLog.open(url, tmp_path / "home", clock=lambda: NOON, drain_interval_s=60)
    log.append([prediction("a", latency_ms=1.0, mask_rle="first")])
    if not together:
        log.drain_now()
    # Another day: its mask would otherwise lie in another folder, and be found first.
    later = prediction("a", latency_ms=2.0, mask_rle="second", event_time=NOON + timedelta(days=1))
    log.append([later, prediction("b")])
    log.drain_now()
    with open_log(url).connect() as connection:
        rows = connection.execute(select(predictions).order_by(predictions.c.request_id)).mappings().all()
    assert [(row["request_id"], row["latency_ms"]) for row in rows] == [("a", 1.0), ("b", 12.5)]
    assert (rows[0]["image_digest"], rows[0]["threshold"]) == ("sha256:11", 0.5)
    assert log.masks.get(answer(later)) == "first"
    log.close()


def test_a_row_whose_mask_cannot_be_kept_waits_for_both(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    log = InferenceLog.open(url, home, clock=lambda: NOON, drain_interval_s=60)
    (home / "masks").write_text("a file in the way")
    log.append([prediction("a")])
    with pytest.raises(RecordsError, match="cannot be written"):
        log.drain_now()
    assert stored_ids(url) == []
    (home / "masks").unlink()
    assert log.drain_now() == 1
    assert stored_ids(url) == ["a"]
    assert log.masks.get(answer(prediction("a"))) is not None
    log.close()


def test_a_refused_image_is_logged_without_descriptors(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home")
    nothing: dict[str, Any] = {
        "descriptors": {},
        "prediction_descriptors": {},
        "embedding": None,
        "mask_rle": None,
    }
    log.append([prediction("a", status="refused", width=None, height=None, engine=None, **nothing)])
    log.close()
    with open_log(url).connect() as connection:
        (stored,) = connection.execute(select(predictions)).mappings()
    assert stored["status"] == "refused"
    assert stored["width"] is stored["confidence"] is stored["embedding"] is None


def test_numpy_values_nan_and_odd_ids_are_stored(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home")
    odd = "a\0b\ud800'; DROP TABLE predictions; --/../é"
    numbers = {"brightness": np.float32(0.25), "contrast": float("nan"), "noise": float("inf")}
    log.append([prediction(odd, width=np.int64(7), descriptors=numbers)])
    log.close()
    with open_log(url).connect() as connection:
        (stored,) = connection.execute(select(predictions)).mappings()
    assert (stored["width"], stored["brightness"], stored["contrast"], stored["noise"]) == (
        7,
        0.25,
        None,
        None,
    )


@pytest.mark.parametrize(
    "url",
    [
        "not a url",
        "postgresql+psycopg://me:s3cret@db:s3cret/x",
        "mysql://me:s3cret@db/x",
        "postgresql+nodriver://me:s3cret@db/x",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_at_once_and_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(RecordsError) as caught:
        InferenceLog.open(url, tmp_path / "home")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unreachable_server_neither_delays_opening_nor_shows_its_password(tmp_path: Path) -> None:
    # Nothing listens on port 1.
    log = InferenceLog.open("postgresql+psycopg://me:s3cret@127.0.0.1:1/x?password=s3cret2", tmp_path / "home")
    log.append([prediction("a")])
    with pytest.raises(RecordsError, match=r"PostgreSQL database x on 127\.0\.0\.1:1") as caught:
        log.drain_now()
    assert "s3cret" not in f"{caught.value} {log.status()}"
    assert not log.close(deadline_s=1)


def test_a_log_that_is_off_costs_nothing(tmp_path: Path) -> None:
    threads = threading.active_count()
    assert open_inference_log(RecordsSettings(home=tmp_path / "home")) is None
    assert threading.active_count() == threads
    assert not (tmp_path / "home").exists()


def test_the_settings_open_the_log(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "a home"))
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", url)
    log = open_inference_log(RecordsSettings.load())
    assert log is not None
    log.append([prediction("a", event_time=NOON)])
    log.close()
    assert stored_ids(url) == ["a"]
    assert (tmp_path / "a home" / "spool").is_dir()

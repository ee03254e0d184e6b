"""What is deleted in the background: old days, and on every machine what was forgotten on another one."""

import logging
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from forgotten_scene import MINE, Scene, mine, theirs
from records_rows import NOON, answer, prediction, stored_ids
from typer.testing import CliRunner
from waiting import until

from records.blobs import MaskStore
from records.cli import app
from records.inference import InferenceLog
from records.stores import Stores
from records.upkeep import Retention, Upkeep, sweep


def machines(url: str, folder: Path) -> tuple[Scene, Scene]:
    """Two machines with one database."""
    for name in "ab":
        (folder / name).mkdir()
    return Scene(url, folder / "a"), Scene(url, folder / "b")


def test_a_purge_that_takes_long_holds_up_no_row(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores.of(tmp_path / "home")
    stores.masks.put("a" * 64, "mask", NOON - timedelta(days=60))
    entered, go_on, delete = threading.Event(), threading.Event(), shutil.rmtree

    def slowly(*words: Any, **options: Any) -> None:
        entered.set()
        assert go_on.wait(60)
        delete(*words, **options)

    monkeypatch.setattr(shutil, "rmtree", slowly)
    log = InferenceLog.open(url, tmp_path / "home", clock=lambda: NOON, drain_interval_s=0.01)
    assert entered.wait(60)
    log.append([prediction("a")])
    until(lambda: stored_ids(url) == ["a"])
    assert log.drain_now() == 0
    go_on.set()
    until(lambda: stores.masks.get("a" * 64) is None)
    assert log.close()


def test_closing_does_not_wait_for_a_purge(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Stores.of(tmp_path / "home").masks.put("a" * 64, "mask", NOON - timedelta(days=60))
    entered, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: (entered.set(), go_on.wait(30), ended.set()))
    log = InferenceLog.open(url, tmp_path / "home", clock=lambda: NOON, drain_interval_s=0.01)
    assert entered.wait(60)
    log.append([prediction("a")])
    assert log.close(deadline_s=120)
    assert not ended.is_set()
    go_on.set()
    assert stored_ids(url) == ["a"]


def test_a_day_that_cannot_be_deleted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = MaskStore(tmp_path / "masks")
    store.put("a" * 64, "mask", NOON - timedelta(days=60))
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    store.purge(NOON)
    assert "too old, cannot be deleted" in caplog.text


def test_masks_and_images_have_retentions_of_their_own(url: str, tmp_path: Path) -> None:
    scene = Scene(url, tmp_path)
    stores = Stores.of(scene.home)
    for days in (2, 4):
        stores.masks.put(f"{days}" * 64, "mask", NOON - timedelta(days=days))
        stores.images.put(f"{days}" * 64, b"image", NOON - timedelta(days=days))
    retention = Retention(masks=timedelta(days=3), images=timedelta(days=1))
    engine = scene.engine()
    Upkeep(engine, scene.home, stores, retention, lambda: NOON).run()
    assert [stores.masks.get(f"{days}" * 64) for days in (2, 4)] == ["mask", None]
    assert [stores.images.get(f"{days}" * 64) for days in (2, 4)] == [None, None]
    engine.dispose()


def test_what_is_forgotten_on_one_machine_goes_on_another_too(database_url: str, tmp_path: Path) -> None:
    here, there = machines(database_url, tmp_path)
    there.fill()
    log = there.log(upkeep_interval_s=0.01)
    log.append([mine("9")])
    done = here.forget()
    assert (done.predictions, done.masks, done.images) == (3, 0, 0)
    until(lambda: all(there.kept(mine(str(number))) == (None, None) for number in range(3)))
    assert there.kept(theirs("0"))[0] is not None
    log.drain_now()
    assert there.traces() == []
    assert [row["client"] for row in there.rows()[3:]] == [None] * 4
    log.close()


def test_a_machine_without_a_server_is_cleared_by_the_command_there(database_url: str, tmp_path: Path) -> None:
    here, there = machines(database_url, tmp_path)
    there.fill()
    here.forget()
    assert there.kept(mine("0"))[0] is not None
    done = there.forget()
    assert (done.predictions, done.masks, done.images) == (0, 3, 3)
    assert there.traces() == []


def test_a_schedule_clears_a_home_where_no_server_runs_any_more(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines(url, tmp_path)
    today = datetime.now(UTC)
    stores = Stores.of(there.home)
    for days in (2, 4):
        stores.masks.put(f"{days}" * 64, "mask", today - timedelta(days=days))
        stores.images.put(f"{days}" * 64, b"image", today - timedelta(days=days))
    there.fill()
    here.forget()
    settings = {"HOME": str(there.home), "INFERENCE_LOG": url, "MASK_RETENTION_DAYS": "3", "IMAGE_RETENTION_DAYS": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"RESUNET_{name}", value)
    done = CliRunner().invoke(app, ["upkeep"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "masks older than 3 days and images older than 1 days are deleted" in done.output
    assert [stores.masks.get(f"{days}" * 64) for days in (2, 4)] == ["mask", None]
    assert [stores.images.get(f"{days}" * 64) for days in (2, 4)] == [None, None]
    assert there.traces() == []


def test_a_mask_that_came_again_outlives_the_next_round(database_url: str, tmp_path: Path) -> None:
    here, there = machines(database_url, tmp_path)
    there.fill()
    here.forget()
    engine, stores = there.engine(), Stores.of(there.home)
    assert sweep(engine, there.home, stores).masks == 3
    stores.masks.put(answer(mine("0")), "came again", NOON)
    assert sweep(engine, there.home, stores).masks == 0
    assert stores.masks.get(answer(mine("0"))) == "came again"
    # Forgotten once more, it goes once more.
    log = there.log()
    log.append([mine("0", event_time=NOON + timedelta(hours=2))])
    log.drain_now()
    log.close()
    here.forget(until=NOON + timedelta(hours=3))
    assert sweep(engine, there.home, stores).masks == 1
    engine.dispose()


def test_a_database_that_was_restored_is_looked_at_from_its_beginning(url: str, tmp_path: Path) -> None:
    here, there = machines(url, tmp_path)
    there.fill()
    here.forget()
    there.home.mkdir(exist_ok=True)
    engine, stores = there.engine(), Stores.of(there.home)
    sweep(engine, there.home, stores)
    (note,) = there.home.glob("forgotten-*.seen")
    note.write_text("1000000")
    stores.masks.put(answer(mine("0")), "from a backup", NOON)
    assert sweep(engine, there.home, stores).masks == 1
    engine.dispose()


def test_a_forgotten_mask_that_cannot_be_deleted_is_told_once_and_tried_again(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = machines(url, tmp_path)
    there.fill(rows=1)
    path = next((there.home / "masks").glob(f"*/*/{answer(mine('0'))}*"))
    path.unlink()
    path.mkdir()
    here.forget()
    engine = there.engine()
    upkeep = Upkeep(engine, there.home, Stores.of(there.home), Retention(), lambda: NOON)
    stop = threading.Event()
    with caplog.at_level(logging.WARNING):
        thread = threading.Thread(target=upkeep.run_until, args=(stop, 0.01))
        thread.start()
        until(lambda: "is still there" in caplog.text)
        path.rmdir()
        until(lambda: list(there.home.glob("forgotten-*.seen")))
        stop.set()
        thread.join(60)
    assert caplog.text.count("is still there") == 1 and MINE not in caplog.text
    engine.dispose()

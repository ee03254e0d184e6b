"""Masks and images have a limit by size: the oldest go, no more of them than need be, and nothing that is new."""

import glob
import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from forgotten_scene import Scene
from typer.testing import CliRunner
from waiting import until

from records import trim as trimming
from records.blobs import BlobStore, MaskStore
from records.cli import app
from records.images import ImageStore
from records.inference import InferenceLog
from records.log_database import open_log
from records.stores import Stores
from records.trim import Trimmed, trim
from records.upkeep import Retention, Upkeep

NOW = datetime.now(UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KB = 1024


def name(number: int) -> str:
    return f"{number:064x}"


def put(store: BlobStore, number: int, days: float, size: int = KB) -> Path:
    """A blob of a day, written then."""
    when = NOW - days * DAY
    path = store.write(name(number), b"x" * size, when)
    os.utime(path, (when.timestamp(), when.timestamp()))
    return path


def left(store: BlobStore) -> list[int]:
    # Not the path's own glob: that one fails on a folder that goes while it looks.
    found = glob.glob("*-*/*/*", root_dir=store.root)  # noqa: PTH207
    return sorted(int(Path(path).name.partition(".")[0], 16) for path in found)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def test_the_oldest_days_go_and_then_the_oldest_files_of_a_day(store: ImageStore) -> None:
    for number, days in enumerate((9, 5, 5.001, 2.002, 2.001, 2, 1)):
        put(store, number, days)
    assert trim([store], 100 * KB, NOW - HOUR) == Trimmed(0, 0, 7 * KB)
    assert trim([store], 7 * KB, NOW - HOUR) == Trimmed(0, 0, 7 * KB)
    assert trim([store], 6 * KB, NOW - HOUR) == Trimmed(1, KB, 6 * KB)
    assert left(store) == [1, 2, 3, 4, 5, 6]
    # All of the day five days ago, and the oldest one of the next.
    assert trim([store], 3 * KB + 1, NOW - HOUR) == Trimmed(3, 3 * KB, 3 * KB)
    assert left(store) == [4, 5, 6]
    assert len(list(store.root.glob("????-??-??"))) == 2
    assert trim([store], 0, NOW - HOUR) == Trimmed(3, 3 * KB, 0)


def test_more_files_of_a_day_than_are_sorted_at_a_time(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "_AT_A_TIME", 3)
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - NOW
    for number in range(20):
        put(store, number, 3 - midnight / DAY - number / 100)
    assert trim([store], 9 * KB, NOW - HOUR).blobs == 11
    assert left(store) == list(range(11, 20))


@pytest.mark.parametrize("most", [0, 10], ids=["all", "nearly all"])
def test_what_is_being_written_stays_even_if_it_is_too_much(store: ImageStore, most: int) -> None:
    put(store, 1, 3)
    young = put(store, 2, 3)
    os.utime(young)
    on_its_way = store.put_by(name(3), b"x" * 5 * KB)
    os.utime(on_its_way, (0, 0))
    assert trim([store], most, NOW - HOUR) == Trimmed(1, KB, KB)
    assert left(store) == [2] and on_its_way.exists()


def test_an_image_takes_its_true_masks_along(tmp_path: Path) -> None:
    stores = Stores.of(tmp_path)
    for number in (1, 2):
        put(stores.images, number, 3 - number / 100)
        for truths in stores.truths.parts:
            # The labels came later: it is the image that is old.
            path = put(truths, number, 3 - number / 100)
            os.utime(path, ((NOW - DAY).timestamp(),) * 2)
    together = [stores.images, *stores.truths.parts]
    assert trim(together, 7 * KB, NOW - HOUR) == Trimmed(4, 4 * KB, 4 * KB)
    assert [left(one) for one in together] == [[2]] * len(together)


def test_a_file_that_cannot_be_deleted_ends_nothing(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        put(store, number, 3)
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if name(1) in path.name:
            raise PermissionError(13, "no")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    assert trim([store], 0, NOW - HOUR) == Trimmed(1, KB, KB)


def words(told: Sequence[str]) -> str:
    return "\n".join(told)


def test_upkeep_keeps_to_the_limits_and_says_what_went(url: str, tmp_path: Path) -> None:
    scene = Scene(url, tmp_path)
    stores, now = Stores.of(scene.home), [NOW]
    for store in (stores.masks, stores.images):
        for number in range(4):
            put(store, number, 4 - number)
    engine = scene.engine()
    limits = Retention(masks_bytes=2 * KB, images_bytes=None)
    upkeep = Upkeep(engine, scene.home, stores, limits, lambda: now[0])
    assert words(upkeep.run()) == "the oldest 2 masks (0.0 MB) are deleted: RESUNET_MASKS_MAX_MB is 0.0 MB"
    assert (left(stores.masks), left(stores.images)) == ([2, 3], [0, 1, 2, 3])
    put(stores.masks, 5, 0)
    assert upkeep.run() == ()  # measured just now
    now[0] += timedelta(minutes=10)
    assert len(upkeep.run()) == 1 and left(stores.masks) == [3, 5]
    os.utime(put(stores.masks, 6, 0, 9 * KB))
    now[0] += timedelta(minutes=10)
    assert "what is younger than an hour stays" in words(upkeep.run())
    assert left(stores.masks) == [5, 6]
    engine.dispose()


def test_the_command_tells_what_it_deleted(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(url, tmp_path)
    scene.engine().dispose()
    stores = Stores.of(scene.home)
    for number in range(3):
        put(stores.images, number, 3 - number, 700 * KB)
    put(stores.masks, 1, 3, 700 * KB)
    for variable, value in {"HOME": str(scene.home), "INFERENCE_LOG": url, "IMAGES_MAX_MB": "1"}.items():
        monkeypatch.setenv(f"RESUNET_{variable}", value)
    done = CliRunner().invoke(app, ["upkeep"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "the oldest 2 images (1.4 MB) are deleted: RESUNET_IMAGES_MAX_MB is 1.0 MB" in done.output
    assert "masks (" not in done.output
    assert (left(stores.images), left(stores.masks)) == ([2], [1])


def test_a_server_keeps_to_the_limit_by_itself(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = MaskStore(tmp_path / "home" / "masks")
    for number in range(3):
        put(store, number, 3 - number)
    log = InferenceLog.open(url, tmp_path / "home", retention=Retention(masks_bytes=KB))
    until(lambda: threading.active_count() and left(store) == [2])
    log.close()
    assert "the oldest 2 masks" in caplog.text


def test_of_two_who_keep_to_the_limit_one_does(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = MaskStore(home / "masks")
    for number in range(3):
        put(store, number, 3 - number)
    log = open_log(url)
    upkeep = Upkeep(log, home, Stores.of(home, None), Retention(masks_bytes=KB), lambda: datetime.now(UTC))
    with FileLock(home / "trim.lock"):
        assert upkeep.run() == () and len(left(store)) == 3
    log.dispose()

"""Kept images: which, how long, and on which way they come to their store."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from records_rows import NOON, answer, prediction, stored_ids
from sqlalchemy import select

from records import images
from records.blobs import INCOMING
from records.images import ImagePolicy, ImageStore
from records.inference import InferenceLog
from records.insert import read_record
from records.log_database import open_log
from records.rows import to_record
from records.schema import predictions
from records.stores import Stores
from resunet.errors import RecordsError

A, B = "a" * 64, "b" * 64
SMALL = b"\x89PNG" + bytes(range(256))
LARGE = SMALL * 200

KILLED = """
import os, signal, sys
from pathlib import Path
from records import images, inference
from records_rows import prediction
images.IN_LINE_BYTES = inference.IN_LINE_BYTES = int(sys.argv[3])
log = inference.InferenceLog.open(sys.argv[1], Path(sys.argv[2]), keep_images=1, drain_interval_s=3600)
log.append([prediction("a", image=bytes.fromhex(sys.argv[4]))])
if sys.argv[5] == "between":
    log._spool.append = lambda lines: os.kill(os.getpid(), signal.SIGKILL)
    log.append([prediction("b", image=bytes.fromhex(sys.argv[4]))])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def small_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images above 1,000 bytes go to the store first."""
    monkeypatch.setattr("records.inference.IN_LINE_BYTES", 1000)


def opened(url: str, home: Path, **options: Any) -> InferenceLog:
    options = {"keep_images": 1, "clock": lambda: NOON, "drain_interval_s": 60} | options
    return InferenceLog.open(url, home, **options)


def incoming(home: Path) -> list[Path]:
    return list((home / "images" / INCOMING).glob("*"))


def segments(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (home / "spool").glob("*.jsonl"))


def test_no_image_is_kept_unless_asked_for(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home", drain_interval_s=60)
    log.append([prediction("a", image=SMALL)])
    assert b'"image"' not in segments(tmp_path / "home") and b"iVBO" not in segments(tmp_path / "home")
    log.close()
    assert not (tmp_path / "home" / "images").exists()
    assert stored_ids(url) == ["a"]


def test_a_kept_image_comes_back_as_it_was_sent_and_is_not_in_the_database(url: str, tmp_path: Path) -> None:
    log = opened(url, tmp_path / "home")
    log.append([prediction("a", image=SMALL)])
    log.drain_now()
    assert log.images.get(answer(prediction("a"))) == SMALL
    with open_log(url).connect() as connection:
        (stored,) = connection.execute(select(predictions)).mappings()
    assert SMALL not in [value for value in stored.values() if isinstance(value, bytes)]
    assert "image" not in stored
    log.close()


def test_the_share_is_kept_and_every_retry_agrees() -> None:
    names = [f"{number:064x}" for number in range(20_000)]
    few, more = ({name for name in names if ImagePolicy(share).keeps(name, "ok")} for share in (0.01, 0.1))
    # Five standard deviations of a binomial.
    assert abs(len(few) - 200) < 5 * 14.1 and abs(len(more) - 2000) < 5 * 42.5
    assert few < more
    assert few == {name for name in names if ImagePolicy(0.01).keeps(name, "ok")}
    # Pinned: another process, or the next release, has to choose the same ones.
    assert sorted(few)[:3] == [f"{number:064x}" for number in (16, 132, 231)]
    assert not any(ImagePolicy(0).keeps(name, "ok") for name in names)
    assert all(ImagePolicy(1).keeps(name, "ok") for name in names)


def test_what_was_refused_is_never_kept(url: str, tmp_path: Path) -> None:
    assert not ImagePolicy(1).keeps(A, "refused")
    log = opened(url, tmp_path / "home")
    log.append([prediction("a", status="refused", image=LARGE)])
    log.close()
    assert not (tmp_path / "home" / "images").exists()


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(RecordsError, match="KEEP_IMAGES"):
        ImagePolicy(share)


@pytest.mark.usefixtures("small_lines")
def test_a_large_image_is_in_no_line_and_at_its_place_once_drained(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    log = opened(url, home)
    log.append([prediction("a", image=LARGE, mask_rle=None), prediction("b", image=SMALL)])
    assert len(segments(home)) < 6000 < len(LARGE)
    assert len(incoming(home)) == 1
    log.drain_now()
    assert log.images.get(answer(prediction("a"))) == LARGE
    assert log.images.get(answer(prediction("b"))) == SMALL
    assert incoming(home) == []
    log.close()


def test_a_line_is_never_longer_than_a_stated_image(tmp_path: Path, dead_url: str) -> None:
    log = opened(dead_url, tmp_path / "home")
    log.append([prediction("a", image=bytes(images.IN_LINE_BYTES))])
    log.append([prediction("b", image=bytes(images.IN_LINE_BYTES + 1))])
    lines = sorted(len(line) for line in segments(tmp_path / "home").splitlines())
    assert lines[0] < 10_000 and images.IN_LINE_BYTES < lines[1] < 1.4 * images.IN_LINE_BYTES
    log.close(deadline_s=1)


@pytest.mark.usefixtures("small_lines")
@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["in the line", "in a file"])
def test_a_retry_leaves_the_image_of_the_first_answer_and_no_other_file(url: str, tmp_path: Path, image: bytes) -> None:
    log = opened(url, tmp_path / "home")
    log.append([prediction("a", image=image)])
    log.drain_now()
    later = prediction("a", image=image[::-1], event_time=NOON + timedelta(days=1))
    log.append([later, later])
    log.drain_now()
    assert log.images.get(answer(later)) == image
    assert incoming(tmp_path / "home") == []
    assert len([path for path in (tmp_path / "home" / "images").rglob("*") if path.is_file()]) == 1
    log.close()


@pytest.mark.usefixtures("small_lines")
def test_an_append_that_fails_leaves_no_image(url: str, tmp_path: Path) -> None:
    log = opened(url, tmp_path / "home", spool_max_bytes=1)
    with pytest.raises(RecordsError, match="full"):
        log.append([prediction("a", image=LARGE), prediction("b", image=LARGE)])
    assert (tmp_path / "home" / "images" / INCOMING).is_dir()
    assert incoming(tmp_path / "home") == []
    log.close()


@pytest.mark.usefixtures("small_lines")
def test_an_image_that_cannot_be_written_is_not_answered_as_kept(url: str, tmp_path: Path) -> None:
    log = opened(url, tmp_path / "home")
    (tmp_path / "home" / "images").write_text("a file in the way")
    with pytest.raises(RecordsError, match="an image cannot be written"):
        log.append([prediction("a", image=LARGE)])
    log.close()
    assert stored_ids(url) == []


@pytest.mark.parametrize("limit", [10**6, 100], ids=["in the line", "in a file"])
@pytest.mark.parametrize("when", ["after", "between"])
def test_an_image_survives_a_killed_process_with_its_row_and_not_without(
    url: str, tmp_path: Path, limit: int, when: str
) -> None:
    home = tmp_path / "home"
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    command = [sys.executable, "-c", KILLED, url, str(home), str(limit), SMALL.hex(), when]
    assert subprocess.run(command, env=environment, timeout=120).returncode == -signal.SIGKILL
    log = opened(url, home)
    assert log.drain_now() == 1
    assert log.images.get(answer(prediction("a"))) == SMALL
    lost = when == "between" and limit < len(SMALL)
    assert len(incoming(home)) == lost
    log.close()
    for path in incoming(home):
        os.utime(path, (NOON.timestamp(), NOON.timestamp()))
    log.images.purge(NOON - timedelta(minutes=1))
    assert len(incoming(home)) == lost
    log.images.purge(NOON + timedelta(minutes=1))
    assert incoming(home) == []


def test_an_image_that_moved_before_its_row_was_committed_is_kept(tmp_path: Path) -> None:
    stores = Stores.of(tmp_path)
    attached = read_record(line_with(stores.images.receive(A, LARGE))).attached
    for _ in range(2):
        stores.keep(A, attached, NOON)
        assert stores.images.get(A) == LARGE
    assert incoming(tmp_path) == []


def test_an_image_that_is_gone_before_its_row_holds_nothing_up(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, small_lines: None
) -> None:
    log = opened(url, tmp_path / "home")
    log.append([prediction("a", image=LARGE)])
    for path in incoming(tmp_path / "home"):
        path.unlink()
    assert log.drain_now() == 1
    assert stored_ids(url) == ["a"]
    assert "gone before its row" in caplog.text
    assert log.images.get(answer(prediction("a"))) is None
    log.close()


@pytest.mark.parametrize("file", ["../../etc/passwd", "x", f"{A}.{'0' * 31}g", f"../{A}.{'0' * 32}"])
def test_a_line_cannot_name_a_file_elsewhere(tmp_path: Path, file: str) -> None:
    (tmp_path / "x").write_text("stays")
    with pytest.raises(RecordsError, match="no image's"):
        read_record(line_with(file))
    for act in (ImageStore(tmp_path).discard, lambda name: ImageStore(tmp_path).settle(name, A, NOON)):
        with pytest.raises(RecordsError, match="no image's"):
            act(file)
    assert (tmp_path / "x").read_text() == "stays"


def test_images_have_a_retention_of_their_own(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    store.put(A, SMALL, NOON - timedelta(days=2))
    path = store.put(B, SMALL, NOON)
    assert path.stat().st_mode & 0o077 == 0
    assert store.purge(NOON - timedelta(days=1)) == 1
    assert (store.get(A), store.get(B)) == (None, SMALL)


def line_with(file: str) -> bytes:
    return to_record(prediction("a"), None, file)

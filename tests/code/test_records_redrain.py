"""Rejected predictions get another try, and none is lost or counted twice on the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from records_rows import answer, prediction, stored_ids
from sqlalchemy import Engine

from records import spool
from records.blobs import MaskStore
from records.inference import InferenceLog
from records.log_database import open_log
from records.redrain import redrain
from records.rows import to_record
from resunet.errors import RecordsError

PROJECT = Path(__file__).resolve().parents[2]
POISON = (
    "CREATE TRIGGER poison BEFORE INSERT ON predictions WHEN NEW.request_id LIKE 'bad%' "
    "BEGIN SELECT RAISE(ABORT, 'refused'); END"
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/records.db"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def engine(url: str, home: Path) -> Engine:
    """A database that refused two predictions of four."""
    engine = open_log(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(POISON)
    log = InferenceLog.open(url, home)
    log.append([prediction(name) for name in ("bad1", "a", "bad2", "b")])
    assert log.close()
    assert stored_ids(url) == ["a", "b"]
    return engine


def rejected(home: Path) -> Path:
    """The one file of rejected records."""
    (path,) = (home / "spool" / "rejected").glob("*.jsonl")
    return path


def mend(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER poison")


def test_what_was_rejected_is_stored_with_its_mask_once_the_cause_is_mended(
    engine: Engine, url: str, home: Path
) -> None:
    assert redrain(engine, home).left == {"the database refuses it": 2}
    assert len(rejected(home).read_bytes().splitlines()) == 2
    mend(engine)
    done = redrain(engine, home)
    assert (done.stored, done.left) == (2, {})
    assert stored_ids(url) == ["a", "b", "bad1", "bad2"]
    assert MaskStore(home / "masks").get(answer(prediction("bad1"))) == prediction("bad1").mask_rle
    assert not list((home / "spool" / "rejected").glob("*.jsonl"))
    assert redrain(engine, home).stored == 0


def test_what_cannot_be_read_stays_and_does_not_hold_back_the_others(engine: Engine, url: str, home: Path) -> None:
    mend(engine)
    path = rejected(home)
    newer = to_record(prediction("n")).replace(b'"format":1', b'"format":99')
    stay = [b"deadbeef " + to_record(prediction("damaged")), newer, b'{"format": 1, "torn']
    path.write_bytes(b"\n".join([*stay[:2], path.read_bytes(), stay[2]]))
    done = redrain(engine, home)
    assert done.stored == 2
    assert sum(done.left.values()) == 3
    assert any("upgrade this one" in reason for reason in done.left)
    assert stored_ids(url) == ["a", "b", "bad1", "bad2"]
    assert path.read_bytes().splitlines() == stay


def test_a_redrain_that_fails_half_way_loses_nothing_and_counts_nothing_twice(
    engine: Engine, url: str, home: Path
) -> None:
    mend(engine)
    before = rejected(home).read_bytes()
    (home / "masks").rename(home / "elsewhere")
    (home / "masks").write_text("a file in the way")
    with pytest.raises(RecordsError, match="cannot be written"):
        redrain(engine, home)
    assert rejected(home).read_bytes() == before
    (home / "masks").unlink()
    assert redrain(engine, home).stored == 2
    # As after a crash between the commit and the end: all of it is there already.
    (home / "spool" / "rejected" / "again.jsonl").write_bytes(before)
    redrain(engine, home)
    assert stored_ids(url) == ["a", "b", "bad1", "bad2"]


def test_a_server_that_rejects_meanwhile_waits_and_loses_nothing(
    engine: Engine, url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_REJECTED_LOCK_S", 0.05)
    log = InferenceLog.open(url, home, drain_interval_s=60)
    log.append([prediction("bad3"), prediction("c")])
    with FileLock(home / "spool" / "rejected" / ".lock"), pytest.raises(RecordsError, match="in use"):
        log.drain_now()
    log.drain_now()
    log.close()
    lines = [line for path in (home / "spool" / "rejected").glob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(lines) == 3
    assert stored_ids(url) == ["a", "b", "c"]


def test_the_command_says_what_is_left_and_where(engine: Engine, url: str, home: Path) -> None:
    environment = {**os.environ, "RESUNET_HOME": str(home), "RESUNET_INFERENCE_LOG": url}

    def command() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "records", "redrain"],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    left = command()
    assert left.returncode == 2
    assert "error: 2 are still rejected: 2 because the database refuses it" in left.stderr
    assert str(home / "spool" / "rejected") in left.stderr
    mend(engine)
    done = command()
    assert (done.returncode, done.stdout) == (0, "2 rejected predictions are in the database now\n")

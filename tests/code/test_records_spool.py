"""What lies in the spool: whose it is, and what a crash, a bad disk or a bad row does to it."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from records_rows import prediction, rejected, stored_ids

from records import rows
from records.inference import InferenceLog, PredictionRow
from records.log_database import open_log
from resunet.errors import RecordsError


def segments(home: Path) -> list[Path]:
    return sorted((home / "spool").glob("*.jsonl"))


def left_behind(dead_url: str, home: Path, rows: list[PredictionRow]) -> Path:
    """Append rows in a log whose database is dead, and return the segment that it leaves."""
    log = InferenceLog.open(dead_url, home)
    log.append(rows)
    assert not log.close(deadline_s=5)
    (segment,) = [path for path in segments(home) if path.stat().st_size]
    return segment


def test_many_threads_append_while_the_spool_is_drained(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home", drain_interval_s=0.001)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: log.append([prediction(f"{i:03}", mask_rle=None)]), range(400)))
    assert log.close(deadline_s=30)
    assert stored_ids(url) == [f"{i:03}" for i in range(400)]
    assert not rejected(tmp_path / "home")


def test_a_dead_database_does_not_make_ever_more_segments(dead_url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(dead_url, tmp_path / "home")
    for i in range(20):
        log.append([prediction(str(i))])
        with pytest.raises(RecordsError):
            log.drain_now()
    assert len(segments(tmp_path / "home")) == 1
    log.close()


def test_what_a_log_could_not_drain_is_drained_by_the_next(dead_url: str, url: str, tmp_path: Path) -> None:
    left_behind(dead_url, tmp_path / "home", [prediction("a"), prediction("b")])
    log = InferenceLog.open(url, tmp_path / "home")
    log.drain_now()
    assert stored_ids(url) == ["a", "b"]
    log.close()
    assert list((tmp_path / "home" / "spool").iterdir()) == []


def test_a_living_process_keeps_its_segments_to_itself(dead_url: str, url: str, tmp_path: Path) -> None:
    living = InferenceLog.open(dead_url, tmp_path / "home")
    living.append([prediction("a")])
    other = InferenceLog.open(url, tmp_path / "home")
    assert other.drain_now() == 0
    living.close(deadline_s=0)
    assert other.drain_now() == 1
    assert stored_ids(url) == ["a"]
    other.close()


def test_a_segment_that_was_drained_but_not_deleted_is_drained_again_without_effect(
    dead_url: str, url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    segment = left_behind(dead_url, home, [prediction(str(i)) for i in range(5)])
    kept = shutil.copy(segment, tmp_path / "kept")
    for _ in range(2):
        log = InferenceLog.open(url, home)
        log.drain_now()
        log.close()
        assert stored_ids(url) == ["0", "1", "2", "3", "4"]
        assert not segment.exists()
        assert not rejected(home)
        shutil.copy(kept, segment)


@pytest.mark.parametrize("cut", [1, 9, 100, 700])
def test_a_torn_last_line_costs_that_line_alone(dead_url: str, url: str, tmp_path: Path, cut: int) -> None:
    segment = left_behind(dead_url, tmp_path / "home", [prediction("a"), prediction("b")])
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - cut)
    log = InferenceLog.open(url, tmp_path / "home")
    assert log.drain_now() == 1
    assert stored_ids(url) == ["a"]
    assert not rejected(tmp_path / "home")
    log.close()


def test_a_damaged_line_is_set_aside_and_the_others_are_stored(dead_url: str, url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    segment = left_behind(dead_url, home, [prediction("a"), prediction("b"), prediction("c")])
    data = bytearray(segment.read_bytes())
    data[data.index(b'"b"') + 1] ^= 1
    segment.write_bytes(data)
    log = InferenceLog.open(url, home)
    log.drain_now()
    assert stored_ids(url) == ["a", "c"]
    assert len(rejected(home)) == 1
    log.close()


def test_a_row_the_database_refuses_does_not_hold_back_the_others(url: str, tmp_path: Path) -> None:
    engine = open_log(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER poison BEFORE INSERT ON predictions WHEN NEW.request_id = 'b' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    log = InferenceLog.open(url, tmp_path / "home")
    log.append([prediction("a"), prediction("b"), prediction("c")])
    log.drain_now()
    assert stored_ids(url) == ["a", "c"]
    assert len(rejected(tmp_path / "home")) == 1
    log.close()


def test_a_segment_of_a_newer_release_waits_for_it(
    dead_url: str, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    with monkeypatch.context() as newer:
        newer.setattr(rows, "PLAIN_FORMAT", rows.RECORD_FORMAT + 1)
        left_behind(dead_url, home, [prediction("n1"), prediction("n2")])
        left_behind(dead_url, tmp_path / "other", [prediction("n3")])
    shutil.copytree(tmp_path / "other", home, dirs_exist_ok=True)
    waiting = set(segments(home))
    assert len(waiting) == 2
    log = InferenceLog.open(url, home, drain_interval_s=60)
    log.append([prediction("a")])
    for _ in range(3):
        log.drain_now()
    assert stored_ids(url) == ["a"]
    assert waiting <= set(segments(home))
    assert not rejected(home)
    assert caplog.text.count("upgrade this one") == 1
    assert log.status().pending_bytes > 0
    log.close()
    with monkeypatch.context() as upgraded:
        upgraded.setattr(rows, "RECORD_FORMAT", rows.RECORD_FORMAT + 1)
        log = InferenceLog.open(url, home)
        log.drain_now()
        assert stored_ids(url) == ["a", "n1", "n2", "n3"]
        assert log.close()
    assert list((home / "spool").iterdir()) == []


def test_rejected_records_count_towards_the_bound_of_the_spool(url: str, tmp_path: Path) -> None:
    (tmp_path / "home" / "spool" / "rejected").mkdir(parents=True)
    (tmp_path / "home" / "spool" / "rejected" / "1-a.jsonl").write_bytes(b"x" * 4000)
    log = InferenceLog.open(url, tmp_path / "home", spool_max_bytes=4000)
    with pytest.raises(RecordsError, match="redrain"):
        log.append([prediction("a")])
    assert log.status().pending_bytes == 0
    log.close()


def test_a_full_spool_refuses_and_takes_rows_again_once_drained(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home", spool_max_bytes=4000, drain_interval_s=60)
    log.append([prediction("a", mask_rle=None)])
    with pytest.raises(RecordsError, match="full"):
        log.append([prediction(f"b{i}", mask_rle=None) for i in range(5)])
    log.drain_now()
    log.append([prediction("c", mask_rle=None)])
    log.close()
    assert stored_ids(url) == ["a", "c"]


def test_a_home_that_cannot_be_written_is_refused_at_once(url: str, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(RecordsError, match="RESUNET_HOME"):
        InferenceLog.open(url, tmp_path / "home")


def test_a_forked_child_writes_a_segment_of_its_own(url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(url, tmp_path / "home", drain_interval_s=60)
    log.append([prediction("parent")])
    child = os.fork()
    if not child:
        try:
            log.append([prediction("child")])
            log.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    # The child's end must not have given up the parent's lock.
    other = InferenceLog.open(url, tmp_path / "home", drain_interval_s=60)
    other.drain_now()
    assert stored_ids(url) == ["child"]
    other.close()
    log.append([prediction("parent again")])
    log.close()
    assert stored_ids(url) == ["child", "parent", "parent again"]

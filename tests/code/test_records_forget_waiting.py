"""Forgetting rows that have not reached the database: in spools, living or dead, rejected, or in files beside."""

import json
import os
import time
from pathlib import Path

import pytest
from forgotten_scene import LATER, MINE, THEIRS, Scene, mine, theirs
from records_rows import NOON, minutes, prediction

from records.inference import InferenceLog
from records.insert import read_record
from records.rows import to_record
from records.stores import Stores


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Scene:
    return Scene(database_url, tmp_path)


def test_a_row_that_waits_in_the_spool_of_a_living_process_is_forgotten_now_and_when_it_is_drained(
    scene: Scene,
) -> None:
    log = scene.log()
    log.append([mine("0"), theirs("0")])
    done = scene.forget()
    assert (done.waiting, done.held) == (1, 1)
    # Nothing of the living process's file is touched; the row is in the database already, anonymously.
    assert scene.traces() == [str(path.relative_to(scene.folder)) for path in spooled(scene) if path.stat().st_size]
    assert [row["request_id"][:10] for row in scene.rows()] == ["forgotten-"]
    assert log.drain_now() == 2
    assert scene.traces() == []
    assert [row["client"] for row in scene.rows()] == [THEIRS, None]
    assert scene.kept(mine("0")) == (None, None)
    assert scene.kept(theirs("0")) == (f"mask of {THEIRS}", f"image of {THEIRS}".encode())
    log.close()


def test_a_row_that_is_appended_after_but_happened_before_comes_anonymously(scene: Scene) -> None:
    scene.forget()
    log = scene.log()
    log.append([mine("0"), mine("1", event_time=LATER), mine("2", event_time=LATER + minutes(1))])
    log.drain_now()
    assert [row["client"] for row in scene.rows()] == [MINE, None, None]
    assert scene.kept(mine("0")) == scene.kept(mine("1")) == (None, None)
    assert scene.kept(mine("2"))[0] is not None
    log.close()


def test_a_large_image_of_a_row_that_waits_goes_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("records.inference.IN_LINE_BYTES", 1)
    log = scene.log()
    log.append([mine("0"), theirs("0")])
    assert scene.forget().images == 1
    assert scene.traces(f"image of {MINE}") == []
    log.append([mine("0", event_time=NOON + minutes(1))])
    log.drain_now()
    assert scene.traces(f"image of {MINE}") == []
    assert scene.kept(theirs("0"))[1] == f"image of {THEIRS}".encode()
    log.close()


def test_what_a_dead_process_left_is_drained_on_the_way(scene: Scene, tmp_path: Path) -> None:
    dead = InferenceLog.open(f"sqlite:///{tmp_path}/no/such/folder.db", scene.home, clock=lambda: NOON)
    dead.append([mine("0"), theirs("0")])
    dead.close(deadline_s=1)
    done = scene.forget()
    assert (done.waiting, done.held) == (1, 0)
    assert scene.traces() == []
    assert [row["client"] for row in scene.rows()] == [THEIRS, None]
    assert spooled(scene) == []


def test_rejected_lines_go_and_others_stay(scene: Scene, tmp_path: Path) -> None:
    scene.fill()
    folder = scene.home / "spool" / "rejected"
    folder.mkdir(parents=True)
    mended = json.dumps(json.loads(to_record(mine("8"))) | {"note": "by hand"}, indent=None).encode()
    stay = [
        to_record(theirs("9")),
        b'deadbeef {"client": "lab-8',
        b"",
        to_record(mine("later", event_time=LATER + minutes(1))),
    ]
    go = [to_record(mine("9")), b"deadbeef " + to_record(mine("7")), mended]
    mixed = [go[0], stay[0], go[1], stay[1], stay[2], go[2], stay[3]]
    (folder / "1-a.jsonl").write_bytes(b"\n".join(mixed) + b"\n")
    (folder / "2-b.jsonl").write_bytes(go[0] + b"\n")
    (folder / "3-c.part").write_bytes(go[0] + b"\n")
    done = scene.forget()
    assert (folder / "1-a.jsonl").read_bytes() == b"\n".join(stay) + b"\n"
    assert [path.name for path in folder.glob("[0-9]*")] == ["1-a.jsonl"]
    assert (done.waiting, done.unreadable) == (4, 1)
    assert [row["request_id"][:10] for row in scene.rows()].count("forgotten-") == 3 + 2


def test_a_damaged_line_that_shows_the_name_as_something_else_stays(scene: Scene) -> None:
    folder = scene.home / "spool" / "rejected"
    folder.mkdir(parents=True)
    line = b"deadbeef " + to_record(prediction("a", client="1", model_version="7"))
    (folder / "1-a.jsonl").write_bytes(line + b"\n")
    assert scene.forget("client", "7").unreadable == 1
    assert (folder / "1-a.jsonl").read_bytes() == line + b"\n"
    assert scene.forget("client", "1").waiting == 1
    assert not (folder / "1-a.jsonl").exists()


def test_files_whose_row_never_came_go_and_those_that_wait_for_theirs_stay(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("records.inference.IN_LINE_BYTES", 1)
    log = scene.log()
    log.append([theirs("0")])
    stores = Stores.of(scene.home)
    lost, young = (stores.images.receive(name * 64, b"image") for name in "ab")
    old = time.time() - 3600
    for path in stores.images.incoming():
        if path.name != young:
            os.utime(path, (old, old))
    scene.forget()
    left = {path.name for path in stores.images.incoming()}
    assert lost not in left and young in left and len(left) == 2
    log.drain_now()
    assert scene.kept(theirs("0"))[1] is not None
    log.close()


def test_what_is_rejected_is_read_as_a_line() -> None:
    """The scene's rejected lines are what a server sets aside."""
    assert read_record(to_record(mine("9"))).values["client"] == MINE


def spooled(scene: Scene) -> list[Path]:
    return sorted((scene.home / "spool").glob("*.jsonl"))

"""Forgetting that is cut off anywhere, asked for twice at once, or in the middle of traffic."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from forgotten_scene import LATER, MINE, THEIRS, Scene, mine, theirs
from records_rows import NOON, stored_ids
from sqlalchemy import select
from waiting import until

from records.engines import make_engine
from records.inference import InferenceLog
from records.rows import to_record
from records.tombstones import forgettings

HERE = Path(__file__).parent

# Kills itself before the number-th thing that lasts: a commit, a file that goes or is put in another's place.
FORGET = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from forgotten_scene import LATER, MINE
from records import forget, tombstones
from records.log_database import open_log
from records.subject import Subject
url, home, left = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
tombstones._AT_A_TIME = 2
def tick(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def before(name):
    act = getattr(Path, name)
    setattr(Path, name, lambda *words, **options: (tick(), act(*words, **options))[1])
engine = open_log(url)
event.listen(engine, "commit", tick)
before("unlink"), before("replace")
forget.forget(engine, home, Subject("client", MINE), "ada", clock=lambda: LATER)
"""


def forgetting(scene: Scene, kill_at: int = 0) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    command = [sys.executable, "-c", FORGET, scene.url, str(scene.home), str(kill_at)]
    return subprocess.Popen(command, env=environment)


def set_up(scene: Scene, tmp_path: Path) -> InferenceLog:
    """Rows in the database, of a dead process, of a living one and rejected ones; three of each client's in all."""
    scene.fill(rows=3)
    dead = InferenceLog.open(f"sqlite:///{tmp_path}/no/such/folder.db", scene.home, clock=lambda: NOON)
    dead.append([mine("dead"), theirs("dead")])
    dead.close(deadline_s=1)
    rejected = scene.home / "spool" / "rejected"
    rejected.mkdir()
    lines = [to_record(row) for row in (mine("rejected"), theirs("rejected"))]
    (rejected / "1-a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    log = scene.log()
    log.append([mine("living"), theirs("living")])
    return log


def check(scene: Scene, log: InferenceLog) -> None:
    """All of one client's is gone, nothing of the other's, and nothing is there twice."""
    log.drain_now()
    assert scene.traces() == []
    rows = scene.rows()
    assert [row["client"] for row in rows] == [THEIRS] * 5 + [None] * 6
    assert [scene.kept(theirs(name)) for name in ("0", "1", "2", "living")] == [
        (f"mask of {THEIRS}", f"image of {THEIRS}".encode())
    ] * 4
    assert scene.kept(theirs("dead"))[0] is not None
    assert scene.labelled() == ["theirs-0"]
    (left,) = (scene.home / "spool" / "rejected").glob("*.jsonl")
    assert left.read_bytes() == to_record(theirs("rejected")) + b"\n"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_forgetting_that_is_killed_anywhere_is_finished_by_running_it_again(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kill_at, code, cut = 0, -signal.SIGKILL, 0
    # At some of the fifty places; fewer on PostgreSQL, since the files are the same there.
    while code == -signal.SIGKILL:
        kill_at += 4 if kind == "sqlite" else 9
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        url = f"sqlite:///{folder}/records.db" if kind == "sqlite" else fresh(request)
        scene = Scene(url, folder)
        log = set_up(scene, folder)
        code = forgetting(scene, kill_at).wait(timeout=120)
        if code == -signal.SIGKILL:
            cut += 1
            assert forgetting(scene).wait(timeout=120) == 0
            assert endings(scene) == ([True, False] if noted(scene) == 2 else [False])
        check(scene, log)
        log.close()
    assert code == 0, kill_at
    assert cut > (8 if kind == "sqlite" else 3)


def fresh(request: pytest.FixtureRequest) -> str:
    """The one database, empty again."""
    url = str(request.getfixturevalue("postgres_url"))
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return url


def noted(scene: Scene) -> int:
    return len(endings(scene))


def endings(scene: Scene) -> list[bool]:
    """Of each forgetting whether it was cut off."""
    engine = scene.engine()
    with engine.connect() as connection:
        found = [ended is None for ended in connection.scalars(select(forgettings.c.ended).order_by(forgettings.c.id))]
    engine.dispose()
    return found


def test_two_that_forget_the_same_at_once_do_it_once(database_url: str, tmp_path: Path) -> None:
    scene = Scene(database_url, tmp_path)
    log = set_up(scene, tmp_path)
    running = [forgetting(scene) for _ in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    check(scene, log)
    assert endings(scene) == [False] * 3
    log.close()


def test_a_client_that_is_forgotten_in_the_middle_of_its_traffic_leaves_no_trace_and_loses_no_count(
    database_url: str, tmp_path: Path
) -> None:
    """All of its rows happened before; some are in the database, some in spools, some are just being stored."""
    scene = Scene(database_url, tmp_path)
    logs = [scene.log(drain_interval_s=0.1, upkeep_interval_s=0.1) for _ in range(2)]
    enough, sent = threading.Event(), [0, 0]

    def send(number: int) -> None:
        while not enough.wait(0.02):
            name = f"{number}-{sent[number]}"
            logs[number].append([mine(name), theirs(name)])
            sent[number] += 1

    threads = [threading.Thread(target=send, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(stored_ids(database_url)) > 20)
    done = scene.forget()
    assert done.predictions + done.waiting > 0
    before = sum(sent)
    until(lambda: sum(sent) > before + 20)
    enough.set()
    for thread in threads:
        thread.join(60)
    assert all(log.close(deadline_s=60) for log in logs)
    rows = scene.rows()
    assert len(rows) == 2 * sum(sent)
    assert [row["client"] for row in rows] == [THEIRS] * sum(sent) + [None] * sum(sent)
    assert scene.traces(f"mask of {MINE}", f"image of {MINE}") == []
    masks = [path for path in (scene.home / "masks").rglob("*") if path.is_file()]
    assert len(masks) == sum(sent)
    assert max(row["event_time"] for row in rows) < LATER

"""Sketches fit the rows of the log, whoever wrote them and whatever crashed, and keep nothing of what was forgotten."""

import os
import signal
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from forgotten_scene import LATER, MINE, Scene, mine, theirs
from records_release_2 import log_as_release_2, open_as_release_2
from records_rows import NOON, prediction, rejected
from sketch_scene import END, START, assert_same, clear, held, log, rows, stored
from sqlalchemy import Engine, event, make_url, update

from records import sketch_hours
from records import sketches as table
from records.engines import make_engine
from records.insert import read_record
from records.log_database import open_log
from records.rows import to_record
from records.sketch import Sketch
from records.sketch_forgotten import drop_outdated
from records.sketch_hours import read_sketches, refresh
from records.stores import Stores
from records.tombstones import answers_after
from records.upkeep import Retention, Upkeep

HERE = Path(__file__).parent

# Dies when its rows are inserted, before the sketches are.
DIE = """
import os, signal, sys
from pathlib import Path
from records import insert
from sketch_scene import log, rows
def die(connection, new):
    os.kill(os.getpid(), signal.SIGKILL)
insert.sketches.add = die
log(sys.argv[1], Path(sys.argv[2]), rows(40))
"""

LOG_SOME = """
import sys
from pathlib import Path
from sketch_scene import log, rows
log(sys.argv[1], Path(sys.argv[2]) / sys.argv[3], rows(120, mark=sys.argv[3], seed=int(sys.argv[4])), drains=6)
"""


def start(script: str, *arguments: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment)


def test_sketches_that_were_kept_up_are_those_that_the_rows_give(database_url: str, tmp_path: Path) -> None:
    log(database_url, tmp_path / "home", rows(230), drains=5)
    engine = open_log(database_url)
    kept = held(engine)
    assert refresh(engine, "resunet", START, END) == 0
    clear(engine)
    assert refresh(engine, "resunet", START, END) == 4
    assert_same(held(engine), kept)
    assert sum(sketch.rows for sketch in kept.values()) == 230
    assert {key.part for key in kept} == {"", "=ward=a", "=ward=b"}
    assert {key.status for key in kept} == {"ok", "refused"}
    engine.dispose()


def test_what_is_drained_twice_counts_once(database_url: str, tmp_path: Path) -> None:
    for home in ("one", "two"):
        log(database_url, tmp_path / home, [*rows(60), *rows(60)])
    engine = open_log(database_url)
    assert stored(engine) == 60 == sum(sketch.rows for sketch in held(engine).values())
    engine.dispose()


def test_rows_and_their_sketches_are_there_together_or_not_at_all(database_url: str, tmp_path: Path) -> None:
    engine = open_log(database_url)
    killed = start(DIE, database_url, str(tmp_path / "home"))
    assert killed.wait(timeout=120) == -signal.SIGKILL
    assert (stored(engine), held(engine)) == (0, {})
    log(database_url, tmp_path / "home", rows(1, mark="next"))
    assert stored(engine) == 41 == sum(sketch.rows for sketch in held(engine).values())
    assert refresh(engine, "resunet", START, END) == 0
    engine.dispose()


def test_processes_that_drain_at_once_wait_for_each_other_and_miss_nothing(postgres_url: str, tmp_path: Path) -> None:
    engine = open_log(postgres_url)
    running = [start(LOG_SOME, postgres_url, str(tmp_path), name, str(seed)) for seed, name in enumerate("ab")]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    kept = held(engine)
    assert stored(engine) == 240 == sum(sketch.rows for sketch in kept.values())
    clear(engine)
    refresh(engine, "resunet", START, END)
    assert_same(held(engine), kept)
    engine.dispose()


def test_two_who_add_to_a_sketch_at_once_both_count(postgres_url: str, tmp_path: Path) -> None:
    log(postgres_url, tmp_path / "home", [prediction("there", mask_rle=None)])
    engine = open_log(postgres_url)
    both = threading.Barrier(2)

    @event.listens_for(engine, "before_cursor_execute")
    def together(_c: Any, _u: Any, statement: str, *_: Any) -> None:
        if "sketches.content" in statement:
            both.wait(timeout=60)

    def add(name: str) -> None:
        with engine.begin() as connection:
            table.add(connection, [read_record(to_record(prediction(name))).values])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, "ab"))
    event.remove(engine, "before_cursor_execute", together)
    assert [sketch.rows for sketch in held(engine).values()] == [3]
    engine.dispose()


def test_rows_of_a_release_without_sketches_are_found_and_counted(database_url: str, tmp_path: Path) -> None:
    engine = open_log(database_url)
    log(database_url, tmp_path / "home", rows(30))
    old = open_as_release_2(database_url)
    log_as_release_2(old, "a")
    old.dispose()
    days = NOON - timedelta(days=60), NOON + timedelta(days=1)
    expected = read_sketches(engine, "resunet", *days)
    assert sum(sketch.rows for sketch in expected.values()) == 31
    assert refresh(engine, "resunet", *days) == 1
    assert_same(read_sketches(engine, "resunet", *days), expected)
    assert sum(sketch.rows for sketch in held(engine).values()) == 31
    engine.dispose()


def test_a_role_that_may_only_log_logs_and_who_reads_counts_its_rows(postgres_url: str, tmp_path: Path) -> None:
    engine = open_log(postgres_url)
    role = f"logger_{engine.url.database}"
    with engine.begin() as connection:
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON records_schema TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT ON predictions TO {role}")
    theirs_url = make_url(postgres_url).set(username=role).render_as_string(hide_password=False)
    log(theirs_url, tmp_path / "home", rows(20, mark="without a table"))
    theirs_engine = open_log(theirs_url)
    assert refresh(theirs_engine, "resunet", START, END) == 0
    counted = read_sketches(theirs_engine, "resunet", START, END)
    assert sum(sketch.rows for sketch in counted.values()) == 20
    assert table.prepare(engine)
    log(theirs_url, tmp_path / "home", rows(20, mark="with one that is not theirs"))
    assert refresh(engine, "resunet", START, END) == 4
    assert sum(sketch.rows for sketch in held(engine).values()) == 40 == stored(engine)
    theirs_engine.dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()


def test_what_was_forgotten_leaves_its_slice_and_the_window_keeps_its_numbers(
    database_url: str, tmp_path: Path
) -> None:
    scene = Scene(database_url, tmp_path)
    scene.fill()
    engine = scene.engine()
    mine_too = {key.slice for key in held(engine)}
    before = read_sketches(engine, "resunet", START, END)
    scene.forget()
    assert any(MINE in (name or "") for name in mine_too)
    assert scene.traces(f"ward={MINE}") == []
    assert refresh(engine, "resunet", START, END) == 1
    assert {key.slice for key in held(engine)} == {None, *(mine_too - {f"ward={MINE}"})}
    after = read_sketches(engine, "resunet", START, END)
    assert sum(s.rows for s in before.values()) == sum(s.rows for s in after.values()) == stored(engine) == 6
    engine.dispose()


def test_what_was_forgotten_while_it_waited_is_counted_without_its_slice(database_url: str, tmp_path: Path) -> None:
    scene = Scene(database_url, tmp_path)
    running = scene.log()
    running.append([mine("waits"), theirs("waits")])
    scene.forget()
    running.drain_now()
    running.close()
    engine = scene.engine()
    refresh(engine, "resunet", START, LATER)
    assert sorted(key.part for key in held(engine)) == ["", "=ward=lab-8-of-bob"]
    engine.dispose()


def test_slices_beyond_the_most_share_a_sketch_and_can_still_be_told_apart(database_url: str, tmp_path: Path) -> None:
    names = [f"ward={number:03}" for number in range(table.MOST_SLICES + 20)] + ["x" * 3000]
    made = [prediction(f"{again}-{name[:9]}", slice=name, mask_rle=None) for name in names for again in "ab"]
    log(database_url, tmp_path / "home", made, drains=3)
    engine = open_log(database_url)
    assert refresh(engine, "resunet", START, END) == 0
    kept = held(engine)
    assert sum(key.slice is not None for key in kept) == table.MOST_SLICES
    assert sum(sketch.rows for sketch in kept.values()) == 2 * len(names)
    apart = read_sketches(engine, "resunet", START, END, all_slices=True)
    assert {key.slice: sketch.rows for key, sketch in apart.items()} == dict.fromkeys(names, 2)
    clear(engine)
    refresh(engine, "resunet", START, END)
    assert sum(key.slice is not None for key in held(engine)) == table.MOST_SLICES
    engine.dispose()


def test_a_window_tells_no_more_slices_apart_than_an_hour_does(database_url: str, tmp_path: Path) -> None:
    # Each of four hours has other names, and one of them has most rows of all.
    made = [
        prediction(f"{place}", event_time=START + timedelta(minutes=4 * place), slice=f"ward={place:02}", mask_rle=None)
        for place in range(60)
    ]
    made += [prediction(f"often-{place}", slice="ward=59", mask_rle=None) for place in range(3)]
    log(database_url, tmp_path / "home", made)
    engine = open_log(database_url)
    parts = [(START, END), (START + timedelta(minutes=1), END)]
    for start, end in parts:
        found = read_sketches(engine, "resunet", start, end)
        named = {key.slice for key in found} - {None}
        assert len(named) == table.MOST_SLICES and "ward=59" in named
        assert sum(sketch.rows for sketch in found.values()) == 63 - (start != START)
    engine.dispose()


def test_memory_does_not_grow_with_the_names_of_slices(url: str, tmp_path: Path) -> None:
    count = 2000
    log(url, tmp_path / "home", [prediction(f"r{n}", slice=f"ward={n}", mask_rle=None) for n in range(count)])
    engine = open_log(url)
    clear(engine)
    hours = START, END
    ragged = NOON - timedelta(minutes=30), NOON + timedelta(minutes=30)
    read_sketches(engine, "resunet", START, START + timedelta(hours=1))
    tracemalloc.start()
    try:
        # From the rows, made again, and from what was made: a sketch of each name would take 50 MB.
        assert sum(one.rows for one in read_sketches(engine, "resunet", *ragged).values()) == count
        assert refresh(engine, "resunet", *hours) == 1
        assert sum(one.rows for one in read_sketches(engine, "resunet", *hours).values()) == count
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    engine.dispose()


def damage(engine: Engine, content: bytes) -> int:
    """Replace the content of all sketches of NOON's hour, and return how many they were."""
    with engine.begin() as connection:
        mine = update(table.sketches).where(table.sketches.c.hour == NOON)
        return connection.execute(mine.values(content=content)).rowcount


NEWER = zlib.compress(struct.pack("<HHHQ", 999, 1, 1, 7))
DAMAGED = [b"x", Sketch.empty().to_bytes()[:40], NEWER, Sketch.empty().to_bytes()]


@pytest.mark.parametrize("content", DAMAGED, ids=["garbage", "cut", "of another format", "of other rows"])
def test_a_sketch_that_cannot_be_read_holds_up_no_row_and_is_made_again(
    database_url: str, tmp_path: Path, content: bytes
) -> None:
    home = tmp_path / "home"
    log(database_url, home, rows(120))
    engine = open_log(database_url)
    right = read_sketches(engine, "resunet", START, END)
    assert damage(engine, content) > 0
    # Who may not or does not mend counts the rows.
    assert_same(read_sketches(engine, "resunet", START, END), right)
    log(database_url, home, rows(40, mark="more", seed=1))
    assert stored(engine) == 160 and rejected(home) == []
    mended = read_sketches(engine, "resunet", START, END, mend=True)
    assert sum(sketch.rows for sketch in mended.values()) == 160
    kept = held(engine)
    clear(engine)
    refresh(engine, "resunet", START, END)
    assert_same(held(engine), kept)
    engine.dispose()


def test_a_reader_mends_a_sketch_that_cannot_be_read(database_url: str, tmp_path: Path) -> None:
    log(database_url, tmp_path / "home", rows(60))
    engine = open_log(database_url)
    before = held(engine)
    damage(engine, b"x")
    read_sketches(engine, "resunet", START, END, mend=True)
    assert_same(held(engine), before)
    engine.dispose()


def test_rows_are_stored_also_where_they_cannot_be_summed_up(database_url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    log(database_url, home, rows(20))
    engine = open_log(database_url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE sketches ADD CONSTRAINT none CHECK (rows < 0) NOT VALID")
        else:
            connection.exec_driver_sql(
                "CREATE TRIGGER none BEFORE UPDATE ON sketches BEGIN SELECT RAISE(ABORT, 'none'); END"
            )
    log(database_url, home, rows(30, mark="more", seed=1))
    assert stored(engine) == 50 and rejected(home) == []
    with engine.begin() as connection:
        gone = (
            "ALTER TABLE sketches DROP CONSTRAINT none" if engine.dialect.name == "postgresql" else "DROP TRIGGER none"
        )
        connection.exec_driver_sql(gone)
    assert refresh(engine, "resunet", START, END) > 0
    assert sum(sketch.rows for sketch in held(engine).values()) == 50
    engine.dispose()


def test_who_reads_while_the_sketches_are_locked_counts_the_rows_and_says_so(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log(database_url, tmp_path / "home", rows(60))
    engine = open_log(database_url)
    clear(engine)
    monkeypatch.setattr(sketch_hours, "_LOCK_WAIT", "50ms")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout = 50"))
    other = make_engine(database_url)
    with other.connect().execution_options(records_begin="BEGIN IMMEDIATE") as writer, writer.begin():
        if engine.dialect.name == "postgresql":
            writer.exec_driver_sql("LOCK TABLE sketches IN ROW EXCLUSIVE MODE")
        found = read_sketches(engine, "resunet", START, END, mend=True)
        assert sum(sketch.rows for sketch in found.values()) == 60
        assert "4 hours cannot be made now" in caplog.text and held(other) == {}
    assert refresh(engine, "resunet", START, END) == 4
    other.dispose()
    engine.dispose()


def test_what_an_earlier_release_forgot_goes_from_the_sums_with_the_next_upkeep(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(database_url, tmp_path)
    scene.fill()
    engine = scene.engine()
    log(database_url, tmp_path / "other", rows(30))
    before = read_sketches(engine, "resunet", START, END)
    untouched = {key: sketch for key, sketch in held(engine).items() if key.hour != NOON}
    with monkeypatch.context() as earlier:
        earlier.setattr(table, "drop", lambda *_: None)
        scene.forget()
    # As many rows as before: no reader finds anything wrong.
    assert refresh(engine, "resunet", START, END) == 0 and scene.traces(f"ward={MINE}") != []
    upkeep = Upkeep(engine, scene.home, Stores.of(scene.home), Retention(), lambda: NOON)
    upkeep.run()
    assert scene.traces(f"ward={MINE}") == []
    assert_same(held(engine), untouched)
    assert refresh(engine, "resunet", START, END) == 1
    after = read_sketches(engine, "resunet", START, END)
    assert sum(one.rows for one in after.values()) == sum(one.rows for one in before.values()) == stored(engine)
    # Another machine of this database finds all in order.
    with engine.connect() as connection:
        _, answers = answers_after(connection, 0)
    assert answers and drop_outdated(engine, answers) == 0
    engine.dispose()

"""What was forgotten stays so: labels that come later, rows of earlier releases, and who may read what."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from forgotten_scene import LATER, MINE, Scene, mine, theirs
from records_release_2 import open_as_release_2
from records_release_2 import predictions as predictions_of_release_2
from records_rows import NOON, answer, minutes, prediction, stored_ids
from sqlalchemy import Engine, insert, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from waiting import until

from records.forget import forget
from records.inference import InferenceLog
from records.insert import insert_rows, read_record
from records.log_database import open_log
from records.rows import PredictionRow, from_record, to_record
from records.schema import labels, predictions
from records.stores import Stores
from records.subject import Subject
from records.tombstones import ForgottenError, adding, forgotten, known_forgotten, refuse_label
from resunet.errors import RecordsError


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Scene:
    return Scene(database_url, tmp_path)


def label(engine: Engine, request: str) -> None:
    """Add a label as its writer has to."""
    key = {"request_id": request, "model_name": "resunet", "model_version": "3", "source": "client"}
    with engine.begin() as connection:
        connection.execute(insert(labels).values(**key, label_time=NOON, dice=0.9))
        refuse_label(connection, request)


def test_a_label_for_a_forgotten_request_is_refused_by_name(scene: Scene) -> None:
    scene.fill()
    engine = scene.engine()
    label(engine, "mine-1")
    scene.forget("request", "mine-1")
    with pytest.raises(ForgottenError, match="'mine-1' was forgotten"):
        label(engine, "mine-1")
    label(engine, "mine-2")
    scene.forget()
    for request in ("mine-1", "mine-2"):
        with pytest.raises(ForgottenError, match=request):
            label(engine, request)
    label(engine, "theirs-1")
    assert scene.labelled() == ["theirs-0", "theirs-1"]
    engine.dispose()


def test_a_label_for_a_row_that_waited_when_it_was_forgotten_is_refused(scene: Scene) -> None:
    log = scene.log()
    log.append([mine("0")])
    scene.forget()
    engine = scene.engine()
    with pytest.raises(ForgottenError):
        label(engine, "mine-0")
    engine.dispose()
    log.close()


def test_another_clients_request_of_the_same_id_keeps_its_labels_and_gets_more(scene: Scene) -> None:
    log = scene.log()
    shared = theirs("0", request_id="1", model_version="3")
    log.append([mine("0", request_id="1", model_version="4"), shared])
    log.drain_now()
    log.close()
    scene.label(shared)
    scene.forget()
    assert scene.labelled() == ["1"]
    engine = scene.engine()
    label(engine, "1")
    scene.forget("request", "1")
    with pytest.raises(ForgottenError):
        label(engine, "1")
    assert scene.labelled() == []
    engine.dispose()


def test_where_nothing_was_ever_forgotten_labels_are_taken_and_no_table_is_made(scene: Scene) -> None:
    scene.fill()
    engine = scene.engine()
    label(engine, "mine-1")
    with engine.connect() as connection:
        assert known_forgotten(connection, [{"answer_id": "a", "request_id": "a", "client": None}]) == [None]
        assert not engine.dialect.has_table(connection, forgotten.name)
    engine.dispose()


def as_release_2(engine: Engine, row: PredictionRow) -> list[str]:
    """Store a row as release 2 does, which knows of nothing that was forgotten; what it believes to be new."""
    values = from_record(to_record(row))[0]
    assert set(values) == set(predictions_of_release_2.c.keys())
    if engine.dialect.name == "sqlite":
        values["event_time"] = values["event_time"].replace(tzinfo=None)
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(predictions_of_release_2).on_conflict_do_nothing()
    with engine.begin() as connection:
        new = connection.execute(statement.returning(predictions_of_release_2.c.answer_id), [values])
        return list(new.scalars())


def test_a_server_of_release_2_brings_nothing_back_that_was_known_when_it_was_forgotten(scene: Scene) -> None:
    scene.fill(rows=1)
    log = scene.log()
    log.append([mine("9")])
    scene.forget()
    old = open_as_release_2(scene.url)
    # Both as it would drain them again, or at last; what it gets back says that there is no mask to write.
    for row in (mine("0"), mine("9")):
        assert as_release_2(old, row) == []
    again, other = mine("9", event_time=LATER + minutes(1)), theirs("9")
    assert as_release_2(old, again) == [answer(again)]
    assert as_release_2(old, other) == [answer(other)]
    old.dispose()
    log.close()
    assert [row["request_id"][:10] for row in scene.rows()] == ["mine-9", "theirs-0", "theirs-9"] + ["forgotten-"] * 2


def test_release_2_opens_a_log_that_forgets(scene: Scene) -> None:
    scene.forget()
    open_as_release_2(scene.url).dispose()
    log = scene.log()
    log.append([mine("0"), theirs("0")])
    assert log.drain_now() == 2
    log.close()


def test_a_row_that_is_being_stored_while_its_client_is_forgotten_is_forgotten(scene: Scene) -> None:
    """It has looked for tombstones already: whoever forgets has to wait for it, and then sees it."""
    scene.forget("client", "somebody else")
    engine, row = scene.engine(), mine("0")
    with adding(engine) as connection:
        values = from_record(to_record(row))[0]
        assert known_forgotten(connection, [values]) == [None]
        thread = threading.Thread(target=scene.forget)
        thread.start()
        until(lambda: not thread.is_alive() or waits_for_a_lock(scene))
        connection.execute(insert(predictions).values(**values))
    thread.join(60)
    assert [row["client"] for row in scene.rows()] == [None]
    engine.dispose()


def waits_for_a_lock(scene: Scene) -> bool:
    """PostgreSQL tells; SQLite's one writer is whoever began, so that there is nothing to wait for."""
    if scene.url.startswith("sqlite"):
        return True
    engine = scene.engine()
    with engine.connect() as connection:
        waits = connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    engine.dispose()
    return bool(waits)


def test_who_may_only_add_predictions_drains_after_a_forgetting(postgres_url: str, tmp_path: Path) -> None:
    scene = Scene(postgres_url, tmp_path)
    scene.forget()
    engine = scene.engine()
    role = f"logger_{engine.url.database}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON records_schema, labels TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT ON predictions TO {role}")
    url = make_url(postgres_url).set(username=role).render_as_string(hide_password=False)
    log = InferenceLog.open(url, scene.home, drain_interval_s=60)
    log.append([mine("0"), theirs("0")])
    assert log.drain_now() == 2
    log.close()
    assert [row["client"] is None for row in scene.rows()] == [False, True]
    # And an earlier release of that role, which is held off by a trigger.
    old = open_log(url)
    assert as_release_2(old, mine("5")) == [answer(mine("5"))]
    scene.forget()
    assert as_release_2(old, mine("5")) == []
    with pytest.raises(RecordsError, match="permission denied"):
        forget(old, scene.home, Subject("client", MINE), "eve")
    old.dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()


def test_a_tombstone_holds_no_id_in_clear(scene: Scene) -> None:
    scene.fill()
    scene.forget()
    scene.forget("request", "mine-0")
    engine = scene.engine()
    with engine.connect() as connection:
        rows = connection.execute(select(forgotten.c.kind, forgotten.c.name)).all()
    assert {row.kind for row in rows} == {"salt", "client", "request", "label", "answer"}
    assert not [row for row in rows if MINE in row.name or "mine" in row.name]
    engine.dispose()


@pytest.mark.parametrize("changes", [{"client": 7}, {"request_id": None}, {"event_time": "2026-03-01T12:00:00"}])
def test_a_line_that_no_tombstone_can_be_looked_up_for_is_set_aside(changes: dict[str, Any]) -> None:
    line = json.dumps(json.loads(to_record(prediction("a"))) | changes).encode()
    with pytest.raises(RecordsError, match="cannot be read"):
        read_record(line)


def test_a_batch_holds_forgotten_rows_and_others(scene: Scene) -> None:
    scene.forget()
    engine = scene.engine()
    batch = [read_record(to_record(row)) for row in (mine("0"), theirs("0"), mine("0"), theirs("1"))]
    assert insert_rows(engine, Stores.of(scene.home), batch) == []
    assert insert_rows(engine, Stores.of(scene.home), batch) == []
    assert [name[:10] for name in stored_ids(scene.url)] == ["forgotten-", "theirs-0", "theirs-1"]
    assert len([path for path in (scene.home / "masks").rglob("*") if path.is_file()]) == 2
    engine.dispose()

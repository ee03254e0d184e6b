"""Opening the inference log: it needs nothing but its own tables, whichever release writes to it."""

import subprocess
import sys
from pathlib import Path

import pytest
from records_databases import impatient
from records_release_2 import DESCRIPTORS, log_as_release_2, open_as_release_2
from records_release_2 import predictions as predictions_of_release_2
from records_rows import prediction, stored_ids
from sqlalchemy import Engine, inspect, make_url, select, update

from records import log_database
from records.database import open_database
from records.engines import exclusive
from records.inference import InferenceLog
from records.ledger import revision_table
from records.log_database import open_log
from records.schema import SCHEMA_VERSION, predictions, schema_version
from resunet.errors import RecordsError

WITHOUT_ALEMBIC = """
import sys
sys.modules["alembic"] = None
from pathlib import Path
from records.inference import InferenceLog
from records_rows import prediction
log = InferenceLog.open(sys.argv[1], Path(sys.argv[2]))
log.append([prediction("a")])
assert log.drain_now() == 1
log.close()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db"


def set_format(engine: Engine, number: int) -> None:
    with engine.begin() as connection:
        connection.execute(update(schema_version).values(version=number))


def test_an_empty_database_gets_the_tables_of_the_log_and_no_others(database_url: str) -> None:
    for _ in range(2):
        engine = open_log(database_url)
        assert set(inspect(engine).get_table_names()) == {"records_schema", "predictions", "labels"}
        with engine.connect() as connection:
            assert connection.execute(select(schema_version)).all() == [(1, 2)]
        engine.dispose()


def test_a_server_without_alembic_logs_to_an_empty_database(database_url: str, tmp_path: Path) -> None:
    here = Path(__file__).parent
    script = f"import sys; sys.path.insert(0, {str(here)!r})\n{WITHOUT_ALEMBIC}"
    subprocess.run([sys.executable, "-c", script, database_url, str(tmp_path / "home")], check=True, timeout=120)
    assert stored_ids(database_url) == ["a"]


def test_processes_open_a_new_log_at_once(tmp_path: Path) -> None:
    script = "import sys; from records.log_database import open_log; open_log(sys.argv[1])"
    command = [sys.executable, "-c", script, f"sqlite:///{tmp_path}/new/log.db"]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=120) for process in running] == [0] * 4


def test_a_log_that_is_complete_is_opened_while_others_write(database_url: str) -> None:
    engine = open_log(database_url)
    with exclusive(engine):
        open_log(impatient(database_url)).dispose()
    engine.dispose()


def test_a_newer_format_is_refused_untouched_with_what_to_do(url: str) -> None:
    engine = open_log(url)
    set_format(engine, SCHEMA_VERSION + 1)
    predictions.drop(engine)
    with pytest.raises(RecordsError, match=r"newer release \(schema \d, this release knows \d\): upgrade"):
        open_log(url)
    assert not inspect(engine).has_table("predictions")


def test_an_older_format_is_refused_untouched_with_what_to_do(url: str) -> None:
    engine = open_log(url)
    set_format(engine, 1)
    predictions.drop(engine)
    with pytest.raises(RecordsError, match=r"older release \(schema 1, this release writes \d\): set another"):
        open_log(url)
    assert not inspect(engine).has_table("predictions")


def test_rows_wait_while_the_format_is_newer(url: str, tmp_path: Path) -> None:
    set_format(open_log(url), SCHEMA_VERSION + 1)
    log = InferenceLog.open(url, tmp_path / "home")
    log.append([prediction("a")])
    with pytest.raises(RecordsError, match="newer release"):
        log.drain_now()
    assert not log.close()
    assert log.status().pending_bytes > 0


def test_a_descriptor_that_a_release_added_gets_its_column(database_url: str) -> None:
    engine = open_log(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE predictions DROP COLUMN sharpness")
    open_log(database_url).dispose()
    assert {column["name"] for column in inspect(engine).get_columns("predictions")} == set(predictions.c.keys())
    engine.dispose()


def test_a_column_that_cannot_be_added_at_once_holds_up_no_prediction(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_log(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE predictions DROP COLUMN sharpness")
    monkeypatch.setattr(log_database, "_LOCK_WAIT", "100ms")
    # A backup that reads for hours.
    with engine.begin() as reader:
        reader.exec_driver_sql("LOCK TABLE predictions IN ACCESS SHARE MODE")
        with pytest.raises(RecordsError, match="lacks columns of this release, and somebody uses its tables") as told:
            open_log(postgres_url)
        assert "python -m records upgrade" in str(told.value)
        with engine.begin() as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
            other.exec_driver_sql("LOCK TABLE predictions IN ROW EXCLUSIVE MODE")
    open_log(postgres_url).dispose()
    assert "sharpness" in {column["name"] for column in inspect(engine).get_columns("predictions")}
    engine.dispose()


def test_a_table_of_labels_that_vanished_is_made_again(url: str) -> None:
    engine = open_log(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE labels")
    assert inspect(open_log(url)).has_table("labels")


def test_release_2_logs_to_what_this_release_made(database_url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(database_url, tmp_path / "home")
    log.append([prediction("new")])
    log.close()
    engine = open_as_release_2(database_url)
    log_as_release_2(engine, "old")
    engine.dispose()
    assert stored_ids(database_url) == ["new", "old"]


def test_this_release_logs_to_what_release_2_made_without_an_upgrade(database_url: str, tmp_path: Path) -> None:
    engine = open_as_release_2(database_url)
    log_as_release_2(engine, "old")
    log = InferenceLog.open(database_url, tmp_path / "home")
    log.append([prediction("new")])
    assert log.drain_now() == 1
    log.close()
    log_as_release_2(engine, "older")
    engine.dispose()
    assert stored_ids(database_url) == ["new", "old", "older"]
    with pytest.raises(RecordsError, match="records upgrade"):
        open_database(database_url)


def test_what_release_2_leaves_out_of_a_row_may_be_null() -> None:
    """What it wrote is in spools for as long as its versions are served, so the format's number would have to rise."""
    needed = {column.name for column in predictions.c if not column.nullable}
    assert needed <= {column.name for column in predictions_of_release_2.c if not column.nullable}
    assert set(DESCRIPTORS) <= set(predictions.c.keys())


def test_the_log_lies_beside_decisions_of_any_release(database_url: str, tmp_path: Path) -> None:
    engine = open_database(database_url)
    with engine.begin() as connection:
        connection.execute(update(revision_table).values(version_num="9999"))
    with pytest.raises(RecordsError, match="newer release"):
        open_database(database_url)
    log = InferenceLog.open(database_url, tmp_path / "home")
    log.append([prediction("a")])
    assert log.drain_now() == 1
    log.close()
    assert stored_ids(database_url) == ["a"]
    engine.dispose()


@pytest.mark.parametrize("earlier", [False, True], ids=["of this release", "of an earlier one"])
def test_a_log_is_read_and_written_by_who_may_not_make_tables(postgres_url: str, tmp_path: Path, earlier: bool) -> None:
    engine = open_log(postgres_url)
    if earlier:
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE labels DROP COLUMN pixels")
    role = f"logger_{engine.url.database}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON records_schema, labels TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT ON predictions TO {role}")
    theirs = make_url(postgres_url).set(username=role).render_as_string(hide_password=False)
    log = InferenceLog.open(theirs, tmp_path / "home")
    log.append([prediction("a")])
    assert log.drain_now() == 1
    log.close()
    assert stored_ids(theirs) == ["a"]
    with pytest.raises(RecordsError, match="permission denied"):
        open_database(theirs)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()

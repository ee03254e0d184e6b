"""The platform's tables through the releases: made, upgraded or refused, whole or not at all."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from records_databases import impatient
from records_release_2 import evaluations, open_as_release_2
from records_rows import decide
from sqlalchemy import Engine, inspect, select, update
from upgraded_records import WHEN, of_release_2, revision, shape

from records import audit as chain
from records import evidence, ledger, schema
from records.database import open_database, upgrade
from records.engines import describe, exclusive, make_engine
from records.log_database import open_log
from records.migrate import migrate, scripts
from resunet.errors import RecordsError

ROOT = Path(__file__).parents[2]


def test_an_empty_database_is_made_as_the_definitions_say(database_url: str) -> None:
    engine = open_database(database_url)
    assert revision(engine) == ledger.HEAD
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": ledger.revision_table.name})
        assert compare_metadata(context, ledger.metadata) == []
    for name, table in ledger.metadata.tables.items():
        assert inspect(engine).get_pk_constraint(name)["constrained_columns"] == table.primary_key.columns.keys()
    assert set(inspect(engine).get_table_names()) == {*ledger.metadata.tables, ledger.revision_table.name}
    engine.dispose()


def test_the_steps_are_those_that_the_definitions_know() -> None:
    directory = scripts()
    assert directory.get_heads() == [ledger.HEAD]
    assert tuple(step.revision for step in directory.walk_revisions())[::-1] == ledger.REVISIONS
    assert all(step.doc for step in directory.walk_revisions())


def test_the_first_step_makes_what_release_2_made(database_url: str) -> None:
    engine = make_engine(database_url)
    with exclusive(engine) as connection:
        migrate(connection, None, ledger.FIRST_REVISION)
    tables = {"audit", "audit_head", "evaluations"}
    stepped = shape(engine, tables)
    empty(engine)
    open_as_release_2(database_url).dispose()
    assert shape(engine, tables) == stepped
    engine.dispose()


def test_an_upgraded_database_is_as_one_made_new(database_url: str) -> None:
    engine = of_release_2(database_url)
    upgrade(engine)
    upgraded = shape(engine)
    empty(engine)
    open_database(database_url).dispose()
    assert shape(engine) == upgraded
    assert set(upgraded["views"]) == {"evaluations"}
    assert upgraded["triggers"]
    engine.dispose()


def test_a_database_of_release_2_is_refused_untouched_with_the_command_to_run(database_url: str) -> None:
    engine = of_release_2(database_url)
    before = shape(engine)
    with pytest.raises(
        RecordsError, match=r"older release \(revision 0001, .*and run `python -m records upgrade`"
    ) as told:
        open_database(database_url)
    hint = f"copy {engine.url.database} (and" if engine.dialect.name == "sqlite" else "pg_dump"
    assert hint in str(told.value)
    assert shape(engine) == before
    engine.dispose()


def test_an_upgrade_keeps_every_decision_and_carries_over_what_was_measured(database_url: str) -> None:
    engine = of_release_2(database_url)
    decisions = chain.history(engine)
    done = upgrade(engine)
    assert (done.before, [step[:5] for step in done.steps]) == ("0001", ["0002:"])
    reopened = open_database(database_url)
    assert chain.history(reopened) == decisions
    assert chain.verify(reopened) is None
    assert decide(reopened).seq == 3
    for name in "ab":
        assert evidence.find(reopened, f"sha256:{name}", "sha256:test", "sha256:champion") == {
            "scores": evidence.Measured(
                version_digest=f"sha256:{name}",
                kind="scores",
                content=name,
                measured_by="unknown",
                measured_at=WHEN,
                fingerprint="sha256:test",
            )
        }
    engine.dispose()
    reopened.dispose()


def test_an_upgrade_that_fails_leaves_everything_as_it_was(database_url: str) -> None:
    engine = of_release_2(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE identities (in_the_way INTEGER)")
    before = shape(engine)
    with pytest.raises(RecordsError, match="identities"):
        upgrade(engine)
    assert shape(engine) == before
    with engine.connect() as connection:
        assert len(connection.execute(select(evaluations)).all()) == 2
    engine.dispose()


def test_a_newer_revision_is_refused_untouched(database_url: str) -> None:
    engine = open_database(database_url)
    with engine.begin() as connection:
        connection.execute(update(ledger.revision_table).values(version_num="9999"))
        connection.exec_driver_sql("DROP TABLE approvals")
    for refused in (lambda: open_database(database_url), lambda: upgrade(engine)):
        with pytest.raises(
            RecordsError, match=r"newer release \(revision 9999, this release knows \d+\): upgrade this"
        ):
            refused()
    assert revision(engine) == "9999"
    assert not inspect(engine).has_table("approvals")
    engine.dispose()


@pytest.mark.parametrize("number", [1, 3])
def test_a_format_that_no_step_leads_from_is_refused(tmp_path: Path, number: int) -> None:
    engine = of_release_2(f"sqlite:///{tmp_path}/records.db")
    with engine.begin() as connection:
        connection.execute(update(schema.schema_version).values(version=number))
    before = shape(engine)
    for refused in (lambda: open_database(str(engine.url)), lambda: upgrade(engine)):
        with pytest.raises(RecordsError, match=rf"another release \(schema {number}\), .*set another database URL"):
            refused()
    assert shape(engine) == before


def test_a_table_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/others.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE audit (seq INTEGER, note TEXT)")
    for refused in (lambda: open_database(str(engine.url)), lambda: upgrade(engine)):
        with pytest.raises(RecordsError, match="not the platform's: set another database URL"):
            refused()
    assert inspect(engine).get_table_names() == ["audit"]


def test_a_database_of_this_release_is_opened_while_others_write(database_url: str) -> None:
    engine = open_database(database_url)
    with exclusive(engine):
        open_database(impatient(database_url)).dispose()
    engine.dispose()


def test_a_database_of_this_release_is_opened_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    open_database(url)
    script = "import sys; sys.modules['alembic'] = None; import records.database as d; d.open_database(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, url], check=True, timeout=60)


def test_decisions_are_made_beside_a_log_that_was_there_first(database_url: str) -> None:
    open_log(database_url).dispose()
    engine = open_database(database_url)
    log = set(schema.metadata.tables)
    assert set(inspect(engine).get_table_names()) == log | {*ledger.metadata.tables, ledger.revision_table.name}
    open_log(database_url).dispose()
    decide(engine)
    assert chain.verify(engine) is None
    engine.dispose()


def test_threads_open_new_databases_of_their_own_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        engines = list(pool.map(lambda number: open_database(f"sqlite:///{tmp_path}/{number}.db"), range(16)))
    assert [revision(engine) for engine in engines] == [ledger.HEAD] * 16


def run_upgrade(url: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"RESUNET_DATABASE": url}
    command = [sys.executable, "-m", "records", "upgrade"]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_command_says_what_it_did_and_only_one_of_several_does_it(database_url: str) -> None:
    engine = of_release_2(database_url)
    running = [run_upgrade(database_url) for _ in range(3)]
    said = sorted(process.communicate(timeout=120) for process in running)
    assert [process.returncode for process in running] == [0] * 3, said
    upgraded = [out for out, _ in said if "was upgraded from revision 0001 to 0002\n  0002: evidence" in out]
    idle = [out for out, _ in said if "is at revision 0002 already: nothing was changed" in out]
    assert (len(upgraded), len(idle)) == (1, 2), said
    assert len(evidence.of_bytes(engine, "sha256:a")) == 1
    engine.dispose()


def test_the_command_makes_the_tables_of_an_empty_database_and_refuses_a_newer_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    out, _ = run_upgrade(url).communicate(timeout=120)
    assert f"{tmp_path}/records.db was empty: its tables were made, at revision {ledger.HEAD}" in out
    with open_database(url).begin() as connection:
        connection.execute(update(ledger.revision_table).values(version_num="9999"))
    newer = run_upgrade(url)
    out, error = newer.communicate(timeout=120)
    assert (newer.returncode, out) == (2, "")
    assert "newer release" in error


@pytest.mark.parametrize("apart", [True, False], ids=["in another database", "beside the decisions"])
def test_the_command_brings_the_log_of_predictions_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    decisions, log = f"sqlite:///{tmp_path}/decisions.db", f"sqlite:///{tmp_path}/log.db"
    open_database(decisions).dispose()
    engine = open_log(log if apart else decisions)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE predictions DROP COLUMN sharpness")
    assert not inspect(engine).has_table("sketches")
    if apart:
        monkeypatch.setenv("RESUNET_INFERENCE_LOG", log)
    out, error = run_upgrade(decisions).communicate(timeout=120)
    assert f"{describe(engine)} has all tables and columns of the log of predictions" in out, error
    assert "sharpness" in {column["name"] for column in inspect(engine).get_columns("predictions")}
    assert inspect(engine).has_table("sketches") and inspect(engine).has_table("request_failures")
    engine.dispose()


def empty(engine: Engine) -> None:
    """Take everything out of a database."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        return
    engine.dispose()
    for file in Path(str(engine.url.database)).parent.glob(f"{Path(str(engine.url.database)).name}*"):
        file.unlink()

"""Opening the platform's database, and its settings."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from records_rows import NOON, prediction
from sqlalchemy import insert, select
from sqlalchemy.exc import StatementError

from records.database import describe, make_engine, open_database
from records.inference import InferenceLog
from records.ledger import approvals, audit, identities
from records.log_database import open_log
from records.schema import predictions
from records.settings import RecordsSettings
from resunet.errors import RecordsError, SettingsError

IDENTITY = {"model_name": "resunet", "version": "1", "created_ms": 1, "source": "s", "version_digest": "sha256:a"}


def test_sqlite_is_opened_so_that_readers_and_writers_do_not_block_each_other(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/records.db")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000
    with engine.begin() as reader, engine.begin() as writer:
        assert reader.execute(select(audit)).all() == []
        writer.execute(insert(identities).values(IDENTITY))


def test_processes_open_a_new_database_at_once(tmp_path: Path) -> None:
    script = "import sys; from records.database import open_database; open_database(sys.argv[1])"
    command = [sys.executable, "-c", script, f"sqlite:///{tmp_path}/new/records.db"]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=120) for process in running] == [0] * 4


def test_a_new_file_that_another_is_writing_to_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(open_log, f"sqlite:///{path}")
        with pytest.raises(TimeoutError):
            opened.result(0.3)
        writer.execute("COMMIT")
        opened.result(60).dispose()
    writer.close()


def test_a_folder_is_made_but_not_a_tree(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/one/records.db")
    with pytest.raises(RecordsError, match="cannot be made"):
        open_database(f"sqlite:///{tmp_path}/one/two/three/records.db")


def test_a_file_that_is_not_a_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_text("not a database " * 100)
    with pytest.raises(RecordsError, match="not a database"):
        open_database(f"sqlite:///{tmp_path}/records.db")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_reached_by_psycopg_3_and_described_without_user_or_password(scheme: str) -> None:
    engine = make_engine(f"{scheme}://ada:s3cret@db.example:5433/records?password=s3cret")
    assert engine.driver == "psycopg"
    assert describe(engine) == "the PostgreSQL database records on db.example:5433"
    assert "s3cret" not in repr(engine)


def test_a_time_without_a_zone_is_not_stored(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/records.db")
    query = select(approvals).where(approvals.c.when < datetime(2026, 3, 1))
    with pytest.raises(StatementError, match="aware"), engine.connect() as connection:
        connection.execute(query)


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE", "INFERENCE_LOG", "HOME"):
        monkeypatch.delenv(f"RESUNET_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    settings = RecordsSettings.load()
    assert settings.inference_log is None
    assert settings.database_url == f"sqlite:///{tmp_path}/.resunet/records.db"
    open_database(settings.database_url)
    assert (tmp_path / ".resunet" / "records.db").is_file()

    monkeypatch.setenv("RESUNET_DATABASE", "postgresql+psycopg://ada:s3cret@db/x")
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", "")
    monkeypatch.setenv("RESUNET_MASK_RETENTION_DAYS", "7")
    settings = RecordsSettings.load()
    assert settings.database_url == "postgresql+psycopg://ada:s3cret@db/x"
    assert (settings.inference_log, settings.mask_retention_days) == (None, 7)
    assert "s3cret" not in repr(settings)


def test_a_setting_that_does_not_parse_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_MASK_RETENTION_DAYS", "s3cret")
    with pytest.raises(SettingsError, match="RESUNET_MASK_RETENTION_DAYS") as caught:
        RecordsSettings.load()
    assert "s3cret" not in str(caught.value)


def test_a_home_with_odd_characters_works(tmp_path: Path) -> None:
    home = tmp_path / "a home % 41 é"
    settings = RecordsSettings(home=home)
    engine = open_database(settings.database_url)
    with engine.begin() as connection:
        connection.execute(insert(identities).values(IDENTITY))
    assert (home / "records.db").is_file()


def test_what_serving_loads_imports_neither_pandas_nor_a_command_line_nor_the_decisions() -> None:
    script = (
        "import sys, records.inference, records.digests\n"
        "unasked = {'records.ledger', 'records.database'} & set(sys.modules)\n"
        "assert not unasked, unasked\n"
        "import records.audit, records.database\n"
        "heavy = {'pandas', 'torch', 'mlflow', 'typer', 'rich', 'psycopg', 'alembic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_event_times_are_stored_as_utc(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    log = InferenceLog.open(url, tmp_path / "home")
    log.append([prediction("a", event_time=datetime.fromisoformat("2026-03-01T17:00:00+05:00"))])
    log.close()
    with open_log(url).connect() as connection:
        text = connection.exec_driver_sql("SELECT event_time FROM predictions").scalar_one()
        assert text == "2026-03-01 12:00:00.000000"
        assert connection.scalar(select(predictions.c.event_time)) == NOON.astimezone(UTC)

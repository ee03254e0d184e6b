"""Who else is in an upgraded database: servers of release 2, which go on logging, and MLflow."""

from pathlib import Path
from typing import Any

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from records_release_2 import NewerDatabaseError, evaluations, log_as_release_2, open_as_release_2
from records_rows import stored_ids
from sqlalchemy import make_url, select, update
from sqlalchemy.exc import DBAPIError
from upgraded_records import WHEN, of_release_2, revision, shape

from records import audit as chain
from records import evidence, ledger, schema
from records.database import open_database, upgrade
from records.log_database import open_log
from resunet.errors import RecordsError

ANOTHER = {"version_digest": "sha256:c", "fingerprint": "sha256:test", "measured_at": WHEN, "content": "c"}
mlflow_store: Any = SqlAlchemyStore


def test_release_2_goes_on_logging_after_the_upgrade_and_brings_nothing_back(database_url: str) -> None:
    engine = of_release_2(database_url)
    upgrade(engine)
    upgraded = shape(engine)
    old = open_as_release_2(database_url)
    log_as_release_2(old, "a")
    log_as_release_2(engine, "b")
    assert stored_ids(database_url) == ["a", "b"]
    assert shape(engine) == upgraded
    open_database(database_url).dispose()
    old.dispose()
    engine.dispose()


def test_release_2_reads_what_was_measured_but_cannot_write_past_the_evidence(database_url: str) -> None:
    engine = of_release_2(database_url)
    upgrade(engine)
    with engine.connect() as connection:
        rows = connection.execute(select(evaluations.c.version_digest).order_by(evaluations.c.version_digest))
        assert list(rows.scalars()) == ["sha256:a", "sha256:b"]
    for statement in (evaluations.delete(), evaluations.insert().values(**ANOTHER)):
        with pytest.raises(DBAPIError, match="view"), engine.begin() as connection:
            connection.execute(statement)
    assert evidence.find(engine, "sha256:a", "sha256:test")
    engine.dispose()


def test_release_2_logs_after_the_upgrade_where_it_may_not_make_tables(postgres_url: str) -> None:
    engine = of_release_2(postgres_url)
    role = f"logger_{engine.url.database}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON records_schema TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT ON predictions TO {role}")
    upgrade(engine)
    old = open_as_release_2(make_url(postgres_url).set(username=role).render_as_string(hide_password=False))
    log_as_release_2(old, "a")
    old.dispose()
    assert stored_ids(postgres_url) == ["a"]
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()


def test_release_2_still_refuses_a_log_of_another_format(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    with open_log(url).begin() as connection:
        connection.execute(update(schema.schema_version).values(version=3))
    with pytest.raises(NewerDatabaseError):
        open_as_release_2(url)


def test_mlflow_and_the_platform_share_a_database_and_neither_touches_the_other(
    database_url: str, tmp_path: Path
) -> None:
    engine = of_release_2(database_url)
    mlflow_store(database_url, str(tmp_path)).create_experiment("before")
    with engine.connect() as connection:
        theirs = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    with pytest.raises(RecordsError, match="records upgrade"):
        open_database(database_url)
    upgrade(engine)
    open_database(database_url).dispose()
    mlflow_store(database_url, str(tmp_path)).create_experiment("after")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == [theirs]
    assert revision(engine) == ledger.HEAD
    assert chain.verify(engine) is None
    engine.dispose()

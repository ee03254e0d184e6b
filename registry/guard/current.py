"""The registry of the server that runs in this process."""

from mlflow.server import handlers

from registry.guard.store import GuardedStore
from resunet.errors import SettingsError


def guarded_store() -> GuardedStore:
    """The guarded registry.

    Raises:
        SettingsError: the server was started on a registry without gates.
    """
    store = handlers._get_model_registry_store()
    if not isinstance(store, GuardedStore):
        raise SettingsError(f"the registry is a {type(store).__name__}, which has no gates: use a database URI")
    return store

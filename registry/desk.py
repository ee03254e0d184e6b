"""Where decisions are made: at the server where it has the gates, else by this process.

desk = open_desk(client)
desk.promote("resunet", "3", "Production", actor, "new stain")
"""

from mlflow import MlflowClient

from records.database import open_database
from records.settings import RecordsSettings
from registry.lifecycle import Lifecycle
from registry.notify import notifier
from registry.policy import load_policy
from registry.remote import RemoteLifecycle
from registry.settings import RegistrySettings
from registry.shelf import ClientShelf

Desk = Lifecycle | RemoteLifecycle


def open_desk(client: MlflowClient) -> Desk:
    """The guarded server behind a client's tracking URI; without one, a desk of this machine.

    Raises:
        SettingsError: the policy or a setting makes no sense.
        RecordsError: the database cannot be used.
    """
    if client.tracking_uri.startswith(("http://", "https://")):
        remote = RemoteLifecycle(client.tracking_uri)
        if remote.server() is not None:
            return remote
    return local_desk(client)


def local_desk(client: MlflowClient) -> Lifecycle:
    """Decisions of this process, on MLflow's public API."""
    settings = RegistrySettings.load()
    records = open_database(RecordsSettings.load().database_url)
    return Lifecycle(records, ClientShelf(client), load_policy(settings.policy), settings, notify=notifier(settings))

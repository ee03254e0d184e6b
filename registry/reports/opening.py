"""Where the records are that a command reads: at the server where it has the gates, else in this process's database."""

from mlflow import MlflowClient

from records.database import open_database
from records.settings import RecordsSettings
from registry.desk import open_desk
from registry.remote import RemoteLifecycle
from registry.reports.reader import LocalReader, LocalTrail, Reader, Trail
from registry.reports.remote import RemoteReader


def open_reader(client: MlflowClient) -> Reader:
    """The reader that goes with a client's tracking URI.

    Raises:
        SettingsError: the policy or a setting makes no sense.
        RecordsError: the database cannot be used.
    """
    desk = open_desk(client)
    return RemoteReader(desk) if isinstance(desk, RemoteLifecycle) else LocalReader(desk, client)


def open_trail(uri: str) -> Trail:
    """The decisions that go with a tracking URI; needs neither registry nor policy.

    Raises:
        RecordsError: the database cannot be used.
    """
    if uri.startswith(("http://", "https://")):
        remote = RemoteLifecycle(uri)
        if remote.server() is not None:
            return RemoteReader(remote)
    return LocalTrail(open_database(RecordsSettings.load().database_url))

"""`server`: the tracking server with its gates and its UI, in the foreground."""

import time

from rich.console import Console

from pipelines.servers import GUARDED, port_is_free, watched_tracking_server
from records.settings import RecordsSettings
from records.signals import asked_to_end
from registry.policy import load_policy
from registry.settings import RegistrySettings
from resunet.errors import SettingsError

WATCH_SECONDS = 0.5


def serve(port: int, console: Console) -> None:
    """Run until Ctrl-C or SIGTERM.

    Raises:
        SettingsError: the port is taken, or the policy makes no sense.
        ServerError: the server did not come up, or ended by itself.
    """
    if not port_is_free(port):
        raise SettingsError(f"port {port} is taken, perhaps by a tracking server that runs already; give --port")
    # Told here in its own words: the server would only fail to start.
    load_policy(RegistrySettings.load().policy)
    home = RecordsSettings.load().home.absolute()
    with (
        asked_to_end() as asked,
        watched_tracking_server(home / "mlflow", port, app=GUARDED, environment={"RESUNET_HOME": str(home)}) as server,
    ):
        console.print(f"MLflow is at {server.url}; export MLFLOW_TRACKING_URI={server.url}. Ctrl-C stops it.")
        while not asked:
            server.check()
            time.sleep(WATCH_SECONDS)

"""`server`: the tracking server and its UI, in the foreground."""

import contextlib
import signal
import threading
from types import FrameType

from rich.console import Console

from pipelines.servers import port_is_free, watched_tracking_server
from records.settings import RecordsSettings
from resunet.errors import SettingsError

WATCH_SECONDS = 0.5


def serve(port: int, console: Console) -> None:
    """Run until Ctrl-C or SIGTERM.

    Raises:
        SettingsError: the port is taken.
        ServerError: the server did not come up, or ended by itself.
    """
    if not port_is_free(port):
        raise SettingsError(f"port {port} is taken, perhaps by a tracking server that runs already; give --port")
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with (
        watched_tracking_server(RecordsSettings.load().home / "mlflow", port) as server,
        contextlib.suppress(KeyboardInterrupt),
    ):
        console.print(f"MLflow is at {server.url}; export MLFLOW_TRACKING_URI={server.url}. Ctrl-C stops it.")
        while not stop.wait(WATCH_SECONDS):
            server.check()

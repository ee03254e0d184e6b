"""A real MLflow tracking server for a test: SQLite, local artifacts, a free port.

with tracking_server(tmp_path) as url:
    client = MlflowClient(tracking_uri=url)
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 90.0
STOP_SECONDS = 10.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """Run `mlflow server` with all it keeps in `folder`, until the block ends.

    Args:
        folder: holds the database, the artifacts and `server.log`; made when missing and kept afterwards, so
            that a second server on the same folder goes on where the first stopped.

    Yields:
        the server's URL, once it answers.

    Raises:
        RuntimeError: it did not come up; the message ends with the server's own last words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    for last_try in (False, False, True):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        process = _start(folder, port, log)
        try:
            if not _answers(process, url):
                # Between the probe and the start another process may have taken the port.
                words = log.read_text(errors="replace")
                if last_try or "address already in use" not in words.lower():
                    raise RuntimeError(f"mlflow server did not start:\n{words[-2000:]}")
                continue
            yield url
            return
        finally:
            stop_group(process)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a process started with `start_new_session=True`, and all it started."""
    for sign, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break
    # The leader is gone; a worker that outlived it still has the group's number.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _start(folder: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{(folder / 'mlflow.db').resolve()}"),
        *("--artifacts-destination", str((folder / "artifacts").resolve()), "--serve-artifacts"),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return process.poll() is None
        time.sleep(0.1)
    return False

"""Real servers as context managers: MLflow's tracking server and `mlflow models serve`.

    with tracking_server(Path(".resunet/mlflow"), app=GUARDED) as tracking:
        with scoring_server("models:/resunet/Production", tracking, log=Path("serve.log")) as scoring:
            httpx.post(f"{scoring}/invocations", …)

Each runs in a process group of its own on 127.0.0.1 and is gone when its block ends, or when this process dies.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resunet.errors import ResunetError

# MLflow's server with the gates in it, and that without.
GUARDED, PLAIN = "lifecycle", ""
START_SECONDS = 120.0
STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
_LAST_WORDS = 2000
# A proxy that the environment names is for the world outside: it cannot reach this machine's own 127.0.0.1.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_LOCAL = "127.0.0.1,localhost"


class ServerError(ResunetError):
    """A server did not come up, or ended by itself; the message ends with its own last words."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answered.

    Attributes:
        url: where it listens.
        name: of the command, for messages.
        log: what it prints.
        process: it, or what started it.
    """

    url: str
    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """See that it still runs.

        Raises:
            ServerError: it ended by itself.
        """
        if self.process.poll() is not None:
            words = _last_words(self.log)
            raise ServerError(f"{self.name} ended by itself ({self.process.returncode}); {self.log} ends:\n{words}")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextlib.contextmanager
def tracking_server(
    folder: Path, port: int | None = None, *, app: str = PLAIN, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run `mlflow server` with all it keeps in `folder`, until the block ends.

    Args:
        folder: holds the database, the artifacts and `server.log`; made when missing and kept afterwards.
        port: where to listen; None takes a free one.
        app: `--app-name`: PLAIN, GUARDED, or `lifecycle-auth`. The gates read RESUNET_* variables.
        environment: added to this process's variables, of which MLflow's own are left out.

    Yields:
        the server's URL, once it answers.

    Raises:
        ServerError: it did not come up.
    """
    with watched_tracking_server(folder, port, app=app, environment=environment) as server:
        yield server.url


@contextlib.contextmanager
def watched_tracking_server(
    folder: Path,
    port: int | None = None,
    *,
    app: str = PLAIN,
    environment: Mapping[str, str] | None = None,
    more: Sequence[str] = (),
) -> Iterator[RunningServer]:
    """`tracking_server` for who stays beside it and wants to know when it ends.

    Args:
        more: arguments of `mlflow server`, which count where one of here says something else.

    Raises:
        ServerError: it did not come up.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "_MLFLOW_"))}
    variables |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(environment or {})}
    arguments = ["server", *(("--app-name", app) if app else ())]
    arguments += ["--workers", "1", "--host", "127.0.0.1", "--port", "{port}"]
    arguments += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    arguments += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts", *more]
    # The gates' settings may name files relative to where the command was typed.
    cwd = Path.cwd() if app else folder
    with _mlflow(arguments, port, variables, cwd, folder / "server.log", "/health") as server:
        yield server


@contextlib.contextmanager
def scoring_server(
    model_uri: str,
    tracking_uri: str,
    *,
    log: Path,
    port: int | None = None,
    env_manager: str = "local",
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run `mlflow models serve` until the block ends.

    Args:
        model_uri: what to serve, for example `models:/resunet/Production`.
        tracking_uri: where that is resolved.
        log: what the server prints.
        port: where to listen; None takes a free one.
        env_manager: `local` serves in this environment; the others build the version's own.
        environment: added to this process's variables.

    Yields:
        the server's URL, once it answers.

    Raises:
        ServerError: it did not come up.
    """
    variables = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri, **(environment or {})}
    arguments = ["models", "serve", "-m", model_uri, "--env-manager", env_manager]
    arguments += ["--host", "127.0.0.1", "-p", "{port}"]
    with _mlflow(arguments, port, variables, Path.cwd(), log, "/ping") as server:
        yield server.url


@contextlib.contextmanager
def _mlflow(
    arguments: list[str], port: int | None, environment: Mapping[str, str], cwd: Path, log: Path, route: str
) -> Iterator[RunningServer]:
    for last_try in (port is not None, port is not None, True):
        chosen = port or free_port()
        url = f"http://127.0.0.1:{chosen}"
        name = f"mlflow {' '.join(word for word in arguments[:2] if not word.startswith('-'))}"
        filled = [argument.replace("{port}", str(chosen)) for argument in arguments]
        # `models serve` starts uvicorn by name: it must be this environment's.
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        command = [sys.executable, "-m", "mlflow", *filled]
        process = start_group(command, {**_without_proxy(environment), "PATH": path}, cwd, log)
        try:
            if not _answers(process, url + route):
                # Between the probe and the start another process may have taken the port.
                words = log.read_text(errors="replace")
                if last_try or "address already in use" not in words.lower():
                    raise ServerError(f"{name} did not start; {log} ends:\n{_last_words(log)}")
                continue
            yield RunningServer(url, name, log, process)
            return
        finally:
            stop_group(process)


def _without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment, in which this machine's own servers are asked directly."""
    kept = environment.get("no_proxy") or environment.get("NO_PROXY")
    hosts = f"{kept},{_LOCAL}" if kept else _LOCAL
    return {**environment, "no_proxy": hosts, "NO_PROXY": hosts}


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-_LAST_WORDS:]


def start_group(command: list[str], environment: Mapping[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, which the kernel ends when this process dies."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a process of `start_group`, and all it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            break
    # The leader is gone; a worker that outlived it still has the group's number.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), _DIRECTLY.open(url, timeout=5):
            return process.poll() is None
        time.sleep(0.1)
    return False

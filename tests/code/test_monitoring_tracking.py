"""How long a command waits for a tracking server, and what it says of one that is none."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow_state import mlflow_state_kept
from typer.testing import CliRunner

from monitoring.cli import app
from monitoring.tracking import TrackingError


class Busy(ThreadingHTTPServer):
    """A server that can answer nothing now, and counts who asks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refusing)
        self.asked = 0


class _Refusing(BaseHTTPRequestHandler):
    server: Busy

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def busy() -> Iterator[Busy]:
    with Busy() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with mlflow_state_kept():
        for name in ("MAX_RETRIES", "BACKOFF_FACTOR", "BACKOFF_JITTER"):
            monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "0")
        monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
        monkeypatch.setattr("monitoring.cli._stop_politely", lambda: None)
        yield


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (("report",), 3),
        (("trend",), 3),
        (("report", "--counts"), 8),  # as the schedule and cron do: with MLflow's own patience
        (("trend", "--counts"), 8),
    ],
)
def test_who_types_a_command_does_not_wait_minutes_for_the_server(
    typed: tuple[str, ...], asked: int, busy: Busy
) -> None:
    mlflow.set_tracking_uri(f"http://127.0.0.1:{busy.server_port}")
    error = CliRunner().invoke(app, [*typed]).exception
    assert isinstance(error, TrackingError) and "Check MLFLOW_TRACKING_URI" in str(error)
    assert busy.asked == asked


@pytest.mark.parametrize("command", ["report", "trend", "pick"])
@pytest.mark.parametrize("address", ["banana", "gopher://127.0.0.1", "sqlite:////proc/1/mlflow.db"])
def test_an_address_that_is_none_is_told_in_a_sentence(command: str, address: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(address)
    typed = (command, "--out", str(tmp_path / "out")) if command == "pick" else (command,)
    error = CliRunner().invoke(app, typed).exception
    assert isinstance(error, TrackingError) and "Check MLFLOW_TRACKING_URI" in str(error)

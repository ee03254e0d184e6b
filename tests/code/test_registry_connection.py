"""What is said of a tracking server that does not do what it was asked for, and whether its address is doubted."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow_state import mlflow_state_kept
from typer.testing import CliRunner

from registry.cli import app
from registry.connection import tracking, tracking_uri
from resunet.errors import SettingsError

DOUBT = "Is MLFLOW_TRACKING_URI right?"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with mlflow_state_kept():
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield


class _Other(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def other() -> Iterator[str]:
    """A server that is no MLflow, and has no such page."""
    with HTTPServer(("127.0.0.1", 0), _Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_name_that_is_none_does_not_put_the_address_in_doubt(tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    error = CliRunner().invoke(app, ["show", "../x", "1"]).exception
    assert isinstance(error, SettingsError) and str(error).endswith("Names cannot contain '/' or ':'")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "banana", "gopher://127.0.0.1", "sqlite:////proc/1/mlflow.db"]
)
def test_an_address_where_no_server_is_is_doubted(address: str) -> None:
    mlflow.set_tracking_uri(address)
    with pytest.raises(SettingsError) as told, tracking() as client:
        client.get_model_version("x", "1")
    assert str(told.value).endswith(DOUBT)


def test_so_is_one_where_another_server_is(other: str) -> None:
    mlflow.set_tracking_uri(other)
    with pytest.raises(SettingsError) as told, tracking() as client:
        client.get_model_version("x", "1")
    assert str(told.value).endswith(DOUBT)


@pytest.mark.parametrize(
    ("code", "doubted"),
    [
        ("INVALID_PARAMETER_VALUE", False),
        ("PERMISSION_DENIED", False),
        ("INTERNAL_ERROR", False),
        ("ENDPOINT_NOT_FOUND", True),
        ("TEMPORARILY_UNAVAILABLE", True),
    ],
)
def test_an_answer_of_mlflow_is_told_as_it_is(code: str, doubted: bool) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    with pytest.raises(SettingsError) as told, tracking_uri():
        raise RestException({"error_code": code, "message": "no."})
    said = f"the tracking server http://127.0.0.1:1 says: {code}: no"
    assert str(told.value) == (f"{said}. {DOUBT}" if doubted else said)


def test_a_password_is_not_told() -> None:
    mlflow.set_tracking_uri("http://ada:hunter2@127.0.0.1:1")
    with pytest.raises(SettingsError) as told, tracking_uri() as uri:
        raise MlflowException(f"{uri} is away")
    assert "hunter2" not in str(told.value)

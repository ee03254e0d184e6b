"""Promotion and the bytes of a version: altered, unsigned, gone, or out of reach."""

import errno
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow_server import free_port
from promotion_desk import Desk, alter

from registry.signing import keygen
from resunet.errors import RefusedError, StoreError


def test_a_version_with_altered_files_is_refused_by_name(desk: Desk) -> None:
    version = desk.version()
    alter(desk, version)
    with pytest.raises(RefusedError, match=r"intact: fail: .*artifacts/version/model\.onnx"):
        desk.promote(version, "Staging")
    assert desk.rows() == [("refuse", version, "None", "Staging")]


def test_a_store_that_does_not_answer_is_no_verdict(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # The database itself: a server lets nobody register a source at another host.
    desk.client = MlflowClient(tracking_uri=f"sqlite:///{desk.folder / 'mlflow.db'}")
    desk.client.create_registered_model(desk.name)
    nowhere = f"http://127.0.0.1:{free_port()}/api/2.0/mlflow-artifacts/artifacts/model"
    version = str(desk.client.create_model_version(desk.name, nowhere).version)
    with pytest.raises(StoreError, match=r"does not answer.*try again"):
        desk.promote(version)
    done = desk.command("promote", desk.name, version, "Production")
    assert (done.returncode, "Traceback" in done.stderr, "intact" in done.stderr) == (2, False, False)
    assert "cannot be read" in done.stderr
    shown = desk.command("show", desk.name, version)
    assert (shown.returncode, "made" in shown.stdout) == (2, True)
    assert desk.rows() == []


def test_files_that_are_gone_are_told_from_files_that_were_altered(desk: Desk) -> None:
    version = desk.version()
    model = desk.client.get_logged_model(desk.client.get_model_version(desk.name, version).source.split("/")[-1])
    where = get_artifact_repository(model.artifact_location, tracking_uri=desk.client.tracking_uri)
    where.delete_artifacts()
    with pytest.raises(StoreError, match="not in the artifact store"):
        desk.promote(version, "Staging")
    assert desk.rows() == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk .* is full"),
        (MlflowException("{'a': \"PermissionError(13, 'Permission denied')\"}"), "access is denied"),
        (MlflowException("503 Server Error: Service Unavailable"), "does not answer"),
        (RuntimeError("what another store's library raises"), "try again"),
    ],
)
def test_a_failed_download_says_what_is_in_the_way(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*_args: object, **_more: object) -> str:
        raise error

    version = desk.version()
    monkeypatch.setattr("registry.download.download_artifacts", fail)
    with pytest.raises(StoreError, match=told):
        desk.promote(version)
    assert desk.rows() == []


def test_with_a_trusted_key_only_signed_versions_move(desk: Desk, tmp_path: Path) -> None:
    private, public = keygen(tmp_path / "keys")
    other, _ = keygen(tmp_path / "others")
    desk.settings = desk.settings.model_copy(update={"trusted_key": public})
    unsigned, strange, signed = desk.version(), desk.version(key=other), desk.version(key=private)
    with pytest.raises(RefusedError, match=r"model\.sig is missing"):
        desk.promote(unsigned)
    with pytest.raises(RefusedError, match="another key"):
        desk.promote(strange)
    desk.promote(signed)
    assert desk.aliases() == {"champion": signed}

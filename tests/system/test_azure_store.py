"""The guarded server with its artifacts in Azure Blob Storage (the Azurite emulator)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from azurite import ACCOUNT, Azurite, azurite
from guarded_server import GuardedServer, guarded_server
from mlflow.artifacts import download_artifacts

from registry.evidence import VERSION_FOLDER

NAME = "in-azure"


@dataclass
class Scene:
    """A guarded server on a store of its own."""

    store: Azurite
    server: GuardedServer

    def blob(self, version: str, path: str) -> str:
        """The name of a file of a version in the container."""
        return f"mlflow/{self.server.place(NAME, version)}/{path}"

    def live(self) -> str:
        return str(self.server.client.get_model_version_by_alias(NAME, "champion").version)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("azure")
    with azurite(folder) as store:
        environment = {"AZURE_STORAGE_CONNECTION_STRING": store.connection}
        more = ("--artifacts-destination", store.root)
        with guarded_server(folder / "server", environment=environment, more=more) as server:
            yield Scene(store, server)


def test_no_other_account_no_signed_address_and_no_whole_container_is_a_way_past_the_guard(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, name = scene.server, "in-azure-another-way"
    client, version = server.client, server.version(name)
    # Azure's client takes the account of the connection string, whatever a location says.
    other = scene.store.root.replace(f"@{ACCOUNT}.", "@anything.")
    run = client.create_run(client.create_experiment(name + "-inside", f"{other}/{server.place(name, version)}")).info
    answer = server.send("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.run_id}&path=x", raw=b"x")
    assert answer.status == 400 and "which is registered" in answer.message, answer
    for source in (scene.store.root, other, f"{other}/1"):
        answer = server.send("POST", "/api/2.0/mlflow/model-versions/create", {"name": name, "source": source})
        assert answer.status == 400 and "registered as that alone" in answer.message, answer

    free = client.create_run(client.create_experiment(f"{name}-free")).info
    path = f"/api/2.0/mlflow-artifacts/mpu/create/{free.artifact_uri.removeprefix('mlflow-artifacts:/')}"
    assert server.send("POST", path, {"path": "x", "num_parts": 1}).status == 501
    # MLflow's client then sends the whole file, through the guard.
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    (tmp_path / "big.bin").write_bytes(b"weights")
    client.log_artifact(free.run_id, str(tmp_path / "big.bin"))
    blob = f"mlflow/{free.artifact_uri.removeprefix('mlflow-artifacts:/')}/big.bin"
    assert scene.store.container.download_blob(blob).readall() == b"weights"


def test_versions_in_azure_are_gated_kept_and_gone_back_to_when_azure_is_away(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, name = scene.server, NAME
    first = server.promoted(name, 0.90)
    second = server.promoted(name, 0.91)
    file = f"{VERSION_FOLDER}/model.onnx"
    kept = scene.store.container.download_blob(scene.blob(second, file)).readall()

    route = f"/api/2.0/mlflow-artifacts/artifacts/{server.place(name, second)}/{file}"
    for method in ("PUT", "DELETE"):
        answer = server.send(method, route, raw=b"other weights")
        assert (answer.status, "which is registered" in answer.message) == (400, True), answer
    assert scene.store.container.download_blob(scene.blob(second, file)).readall() == kept

    # Past the server, with the store's own key: what it cannot stop, it finds before the version is live.
    third = server.version(name, 0.92)
    scene.store.container.upload_blob(scene.blob(third, file), b"other weights", overwrite=True)
    answer = server.decide("promote", name, version=third, stage="Production")
    assert answer.status == 400 and "intact: fail" in answer.message and "model.onnx" in answer.message, answer
    assert scene.live() == second

    # As `mlflow models serve` asks, who holds no key of the store.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", server.url)
    loaded = Path(download_artifacts(f"models:/{name}/Production", dst_path=str(tmp_path)))
    assert (loaded / file).read_bytes() == kept

    scene.store.stop()
    answer = server.decide("rollback", name, reason="false positives")
    assert answer.status == 200, answer
    assert scene.live() == first
    assert [row[:2] for row in server.rows(name)][-2:] == [("rollback", second), ("rollback", first)]

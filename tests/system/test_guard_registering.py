"""What may be registered, and when: real uploads, deletions and registrations that meet on one guarded server."""

import contextlib
import http.client
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from guarded_server import Answer, GuardedServer

from registry.evidence import VERSION_FOLDER
from registry.guard.writing import registering, writing

CREATE = "/api/2.0/mlflow/model-versions/create"
# So long nothing happens that waits for something; not for luck, but to see that it does wait.
WAITS_SECONDS = 0.3


def waits(answer: "Future[Answer]") -> bool:
    time.sleep(WAITS_SECONDS)
    return not answer.done()


@pytest.fixture
def free(gate_server: GuardedServer) -> Callable[[str], tuple[str, str]]:
    """A logged model that is not registered: its id, and its place."""

    def made(name: str) -> tuple[str, str]:
        version = gate_server.version(name)
        place = gate_server.place(name, version)
        gate_server.client.delete_model_version(name, version)
        return place.split("/")[2], place

    return made


def test_a_write_waits_for_a_registration_and_finds_it_done(
    gate_server: GuardedServer, free: Callable[[str], tuple[str, str]]
) -> None:
    server, home = gate_server, gate_server.folder / "home"
    (model, place), (_, other) = free("waits for it"), free("waits for it")
    run = server.client.create_run(server.client.create_experiment("waits for it, a run")).info
    root = "/api/2.0/mlflow-artifacts"
    writes = [
        ("PUT", f"{root}/artifacts/{place}/{VERSION_FOLDER}/model.onnx", None),
        ("DELETE", f"{root}/artifacts/{other}", None),
        ("POST", f"{root}/mpu/create/{place}", {"path": "model.onnx", "num_parts": 1}),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.run_id}&path=x", None),
        ("POST", "/api/2.0/mlflow/runs/delete", {"run_id": run.run_id}),
        ("POST", "/api/2.0/mlflow/experiments/delete", {"experiment_id": run.experiment_id}),
        ("DELETE", f"/api/2.0/mlflow/logged-models/{model}", {}),
    ]
    with ThreadPoolExecutor(len(writes)) as pool:
        with registering(home):
            answers = [
                pool.submit(server.send, method, path, body, raw=None if body is not None else b"x")
                for method, path, body in writes
            ]
            assert all(map(waits, answers))
            assert (server.folder / "artifacts" / other / "MLmodel").is_file()
        for (method, path, _), answer in zip(writes, answers, strict=True):
            # A folder takes no upload in parts; an experiment may be gone before its run is.
            allowed = (501,) if "/mpu/" in path else (200, 404) if "/runs/" in path or "/upload-" in path else (200,)
            assert answer.result(60).status in allowed, (method, path, answer.result())
    # Nobody keeps the lock, whatever came of it.
    with registering(home, 10):
        pass


@pytest.mark.parametrize("taken", [False, True])
def test_a_registration_waits_for_writes_and_sees_what_they_took_away(
    gate_server: GuardedServer, free: Callable[[str], tuple[str, str]], taken: bool
) -> None:
    server, name = gate_server, f"waits for them {taken}"
    model, _ = free(name)
    body = {"name": name, "source": f"models:/{model}", "model_id": model}
    with ThreadPoolExecutor(1) as pool:
        with writing(server.folder / "home"):
            answer = pool.submit(server.send, "POST", CREATE, body)
            assert waits(answer)
            assert server.client.search_model_versions(f"name='{name}'") == []
            # Nothing to load comes with a prompt: it waits for nobody.
            assert server.client.register_prompt("waits-for-nobody", "{{x}}")
            if taken:
                with contextlib.closing(sqlite3.connect(server.folder / "mlflow.db", timeout=60)) as tables, tables:
                    tables.execute("UPDATE logged_models SET lifecycle_stage = 'deleted' WHERE model_id = ?", (model,))
        assert answer.result(60).status == (404 if taken else 200), answer.result()
    assert len(server.client.search_model_versions(f"name='{name}'")) == (0 if taken else 1)


def test_a_slow_upload_keeps_nobody_from_registering(
    gate_server: GuardedServer, free: Callable[[str], tuple[str, str]]
) -> None:
    server, name = gate_server, "registered meanwhile"
    (_, place), (model, _) = free("slow beside"), free(name)
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    connection.putrequest("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}/late.txt")
    connection.putheader("Content-Length", "20")
    connection.endheaders(b"0123456789")
    folder = server.folder / "artifacts" / place
    ends = time.monotonic() + 30
    while not list(folder.glob(".artifact.uploading.*")):
        assert time.monotonic() < ends
        time.sleep(0.05)
    body = {"name": name, "source": f"models:/{model}", "model_id": model}
    assert server.send("POST", CREATE, body).status == 200
    connection.send(b"0123456789")
    assert connection.getresponse().status == 200
    connection.close()
    assert (folder / "late.txt").read_bytes() == b"0123456789" * 2


def test_files_of_this_server_are_registered_under_its_own_name_for_them_alone(gate_server: GuardedServer) -> None:
    server, name = gate_server, "other names"
    server.client.create_registered_model(name)
    store = server.folder / "artifacts"
    experiment = server.client.create_experiment(name, str(store / "other-names"))
    run = server.client.create_run(experiment).info
    for source in (run.artifact_uri, f"{run.artifact_uri}/model", f"file://{run.artifact_uri}/model"):
        answer = server.send("POST", CREATE, {"name": name, "source": source, "run_id": run.run_id})
        assert answer.status == 400 and "registered as that alone" in answer.message, (source, answer)
    # So nothing is kept from being written or deleted.
    server.client.delete_experiment(experiment)


def test_what_a_killed_upload_left_in_a_version_is_no_file_of_it(gate_server: GuardedServer) -> None:
    server, name = gate_server, "killed in an upload"
    version = server.version(name)
    root = server.folder / "artifacts" / server.place(name, version)
    left = [root / ".artifact.uploading.a1b2c3", root / VERSION_FOLDER / ".artifact.uploading.d4e5f6"]
    for one in left:
        one.write_bytes(b"half of a file")
    answer = server.decide("promote", name, version=version, stage="Production")
    assert answer.status == 200, answer
    assert all(one.exists() for one in left)
    # Any other hidden file is one that nobody listed.
    other = server.version(name)
    (server.folder / "artifacts" / server.place(name, other) / ".artifact.x").write_bytes(b"x")
    answer = server.decide("promote", name, version=other, stage="Production")
    assert answer.status == 400 and "intact: fail" in answer.message, answer

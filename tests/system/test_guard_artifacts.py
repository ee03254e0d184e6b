"""Every door to the bytes of what is live, tried against a real guarded server: they stay what was gated."""

import contextlib
import http.client
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from guarded_server import Answer, GuardedServer, Live
from mlflow.entities import LoggedModelStatus
from small_versions import evaluation, scores

from records.digests import write_digests
from registry.evidence import VERSION_FOLDER

UNITS = ("/api/2.0", "/ajax-api/2.0")
TOLD = "which is registered"


@dataclass
class Scene:
    """A model with a live version."""

    server: GuardedServer
    name: str
    version: str
    before: Live

    @property
    def place(self) -> str:
        return self.server.place(self.name, self.version)

    @property
    def model_id(self) -> str:
        return str(self.server.client.get_model_version(self.name, self.version).source).removeprefix("models:/")

    def unchanged(self) -> None:
        assert self.server.live(self.name) == self.before
        assert self.before.stage == [self.version] and len(self.before.files) == 4


@pytest.fixture
def scene(gate_server: GuardedServer, request: pytest.FixtureRequest) -> Iterator[Scene]:
    name = re.sub(r"\W+", "-", request.node.name)
    version = gate_server.promoted(name)
    made = Scene(gate_server, name, version, gate_server.live(name))
    yield made
    made.unchanged()


def refused(answer: Answer, told: str = TOLD) -> None:
    assert answer.status == 400, answer
    assert told in answer.message, answer


def not_done(answer: Answer) -> None:
    """Refused, sent elsewhere or not understood."""
    assert answer.status >= 300, answer


@pytest.mark.parametrize("unit", UNITS)
def test_no_file_of_a_version_is_written_or_deleted(scene: Scene, unit: str) -> None:
    root = f"{unit}/mlflow-artifacts/artifacts"
    file = f"{scene.place}/{VERSION_FOLDER}/model.onnx"
    for written in (file, f"{scene.place}/new.txt", f"{scene.place}/{VERSION_FOLDER}/a/b/c", scene.place):
        refused(scene.server.send("PUT", f"{root}/{written}", raw=b"other weights"))
    above = [file.rsplit("/", count)[0] for count in range(1, file.count("/") + 1)]
    for deleted in (file, *above, ".", "./", "%2e", "%2E/", "%252e", "./."):
        refused(scene.server.send("DELETE", f"{root}/{deleted}"))
    for path in ("", "/", "/.", "//", "/..", "/%2e%2e", "/%2e%2e/"):
        not_done(scene.server.send("DELETE", f"{root}{path}"))


@pytest.mark.parametrize("unit", UNITS)
def test_no_spelling_of_a_path_is_another_path(scene: Scene, unit: str) -> None:
    root, file = f"{unit}/mlflow-artifacts/artifacts", f"{scene.place}/{VERSION_FOLDER}/model.onnx"
    experiment, rest = file.split("/", 1)
    spellings = [
        f"./{file}",
        f"{experiment}/./{rest}",
        f"{experiment}//{rest}",
        f"{experiment}/%2e/{rest}",
        f"{experiment}/%2E%2F{rest}",
        f"{experiment}%2F{rest}",
        f"{experiment}%252F{rest}",
        quote(quote(quote(file, safe=""), safe=""), safe=""),
        "".join(f"%{ord(letter):02x}" for letter in file),
        f"{file}?path=elsewhere",
        f"{file};x=y",
        f"{file}#x",
        f"{experiment}/../{file}",
        f"{experiment}/%2e%2e/{file}",
        f"x/..%2f{file}",
        f"\\{file}",
        f"file:///{file}",
        f"{file}/",
        f"{file}/.",
        f"{file}%00",
        f"{file}%0a",
    ]
    for spelling in spellings:
        for prefix in (
            root,
            f"/{root}",
            root.replace("/2.0/", "//2.0/"),
            root.replace("mlflow-artifacts/", "mlflow-artifacts//"),
        ):
            for method in ("PUT", "DELETE"):
                scene.server.send(method, f"{prefix}/{spelling}", raw=b"other weights")
                assert scene.server.live(scene.name).files.items() >= scene.before.files.items(), (
                    method,
                    prefix,
                    spelling,
                )
        scene.unchanged()
    for method in ("put", "Put", "PATCH", "POST", "MOVE", "COPY"):
        not_done(scene.server.send(method, f"{root}/{file}", raw=b"x", headers={"X-HTTP-Method-Override": "PUT"}))


@pytest.mark.parametrize("unit", UNITS)
def test_no_upload_in_parts_and_no_signed_address(scene: Scene, unit: str) -> None:
    server, file = scene.server, f"{VERSION_FOLDER}/model.onnx"
    parts = {"upload_id": "1", "parts": [{"part_number": 1, "etag": "x", "url": ""}]}
    for verb in ("create", "complete", "abort"):
        for folder, path in (
            (f"{scene.place}/{VERSION_FOLDER}", "model.onnx"),
            (f"{scene.place}/{VERSION_FOLDER}", "/elsewhere/model.onnx"),
            (scene.place, file),
            (scene.place.rsplit("/", 1)[0], f"artifacts/{file}"),
            (f"{scene.place}/%2e/", f"./{file}"),
        ):
            body = {"path": path, "num_parts": 1, **parts}
            refused(server.send("POST", f"{unit}/mlflow-artifacts/mpu/{verb}/{folder}", body))
            refused(server.send("POST", f"{unit}/mlflow-artifacts/mpu/{verb}/{folder}", json.dumps(body)))
    for key in ("model_id", "modelId"):
        for path in (file, f"./{file}", "%2e/x"):
            body = {key: scene.model_id, "path": path, "expiration": 900}
            refused(server.send("POST", f"{unit}/mlflow/artifacts/presigned-upload-url", body))
    # Nor for a place where there is no version yet.
    model = server.client.create_logged_model(server.client.create_experiment(f"signed {scene.name}"), name="m")
    body = {"model_id": model.model_id, "path": "file"}
    refused(server.send("POST", f"{unit}/mlflow/artifacts/presigned-upload-url", body), "signs no addresses")


@dataclass
class InRun:
    """A live version whose files are in its run's folder."""

    run_id: str
    experiment_id: str
    version: str
    location: str


def live_in_run(server: GuardedServer, name: str, location: str | None = None) -> InRun:
    """Log a version into a run's own artifacts, as before MLflow had logged models, and promote it."""
    client = server.client
    experiment = client.create_experiment(f"{name} {server.made}", artifact_location=location)
    run = client.create_run(experiment).info
    server.made += 1
    folder = server.folder / "made" / f"in a run {server.made}"
    (folder / VERSION_FOLDER).mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / VERSION_FOLDER / "model.onnx").write_bytes(f"not a network: {server.made}".encode())
    document = evaluation(scores(0.9))
    document.write(folder / VERSION_FOLDER)
    digest = write_digests(folder)
    client.log_artifacts(run.run_id, str(folder), "model")
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    source = f"{run.artifact_uri}/model"
    made = client.create_model_version(name, source, run.run_id, tags={"version_digest": digest})
    server.plant(name, made.version, 0.9)
    answer = server.decide("promote", name, version=made.version, stage="Production")
    assert answer.status == 200, answer
    return InRun(run.run_id, experiment, str(made.version), source.removeprefix("mlflow-artifacts:/"))


def upload(server: GuardedServer, run_id: str, path: str) -> Answer:
    where = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path={path}"
    return server.send("POST", where, raw=b"other weights")


def test_a_run_takes_no_file_into_the_version_that_it_made(gate_server: GuardedServer) -> None:
    server, name = gate_server, "in a run"
    run, before = live_in_run(server, name), server.live(name)
    file = f"{VERSION_FOLDER}/model.onnx"
    for path in (f"model/{file}", f"./model/{file}", f"model%2F{file}", f"%2e/model/{file}", f"model/%252e/{file}"):
        refused(upload(server, run.run_id, path))
    for unit in UNITS:
        for key in ("run_id", "runId"):
            body = {key: run.run_id, "path": f"model/{file}"}
            refused(server.send("POST", f"{unit}/mlflow/artifacts/presigned-upload-url", body))
        refused(server.send("PUT", f"{unit}/mlflow-artifacts/artifacts/{run.location}/{file}", raw=b"x"))
    assert upload(server, run.run_id, "notes.txt").status == 200
    assert server.live(name) == before


def test_a_run_that_writes_elsewhere_than_it_says_takes_no_file_in(gate_server: GuardedServer) -> None:
    server, name = gate_server, "written elsewhere"
    # MLflow writes what is uploaded below experiment/run, wherever the run's artifacts are said to be.
    outer = server.client.create_run(server.client.create_experiment("outer", "mlflow-artifacts:/custom")).info
    inner = f"{outer.experiment_id}/{outer.run_id}/artifacts"
    run = live_in_run(server, name, f"mlflow-artifacts:/{inner}")
    before = server.live(name)
    path = f"{run.location.removeprefix(inner + '/')}/{VERSION_FOLDER}/model.onnx"
    refused(upload(server, outer.run_id, path))
    assert server.live(name) == before


def made_directly(server: GuardedServer, location: str) -> str:
    """An experiment with this location, also one that MLflow refuses today and an older release let in."""
    server.made += 1
    experiment = server.client.create_experiment(f"elsewhere {server.made}")
    with contextlib.closing(sqlite3.connect(server.folder / "mlflow.db", timeout=60)) as tables, tables:
        row = (location, int(experiment))
        tables.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", row)
    return experiment


def test_a_run_whose_files_the_server_keeps_beside_its_versions_takes_some(gate_server: GuardedServer) -> None:
    server = gate_server
    link = server.folder / "link to the store"
    link.symlink_to(server.folder / "artifacts")
    for location in (str(server.folder / "artifacts" / "beside"), str(link / "beside")):
        run = server.client.create_run(made_directly(server, location)).info
        assert upload(server, run.run_id, "notes.txt").status == 200
        kept = server.folder / "artifacts" / "beside" / run.run_id / "artifacts" / "notes.txt"
        assert kept.read_bytes() == b"other weights"


def test_an_experiment_inside_of_a_version_takes_no_file(scene: Scene) -> None:
    server = scene.server
    prompt = {
        "prompt_template": "{{x}}",
        "prompt_parameters": [{"key": "x", "value": "y"}],
        "model_route": "r",
        "model_input": "x",
        "mlflow_version": "3",
    }
    inside = server.folder / "artifacts" / scene.place
    link = server.folder / f"link to {scene.name}"
    link.symlink_to(server.folder / "artifacts")
    cwd = os.path.relpath(inside, Path.cwd())
    for location, told in (
        (f"mlflow-artifacts:/{scene.place}", TOLD),
        (str(inside), TOLD),
        (f"/proc/self/root{inside}", TOLD),
        (f"{link}/{scene.place}", TOLD),
        (f"/proc/self/cwd/{cwd}", "outside of this server's own store"),
        (str(server.folder / "elsewhere" / "than the store"), "outside of this server's own store"),
        ("abfss://versions@account.dfs.core.windows.net/x", "outside of this server's own store"),
    ):
        experiment = made_directly(server, location)
        run = server.client.create_run(experiment).info
        refused(upload(server, run.run_id, "notes.txt"), told)
        asked = {"experiment_id": experiment, **prompt}
        refused(server.send("POST", "/ajax-api/2.0/mlflow/runs/create-promptlab-run", asked), told)
        scene.unchanged()
    assert not (server.folder / "elsewhere" / "than the store").exists()


@pytest.mark.parametrize(
    "spelling",
    [
        "mlflow-artifacts:{}",
        "mlflow-artifacts:///{}",
        "MLflow-Artifacts:/{}",
        "mlflow-artifacts:/{}?x=y",
        "{artifacts}/{}",
    ],
)
def test_files_are_watched_however_their_place_is_spelt_or_they_are_not_gated(
    gate_server: GuardedServer, spelling: str
) -> None:
    server = gate_server
    server.made += 1
    name, folder = f"spelt {server.made}", f"odd{server.made}"
    location = spelling.replace("{artifacts}", str(server.folder / "artifacts")).replace("{}", folder)
    made = server.client.create_logged_model(server.client.create_experiment(name, location), name="model")
    place = f"{folder}/models/{made.model_id}/artifacts"
    root = server.folder / "artifacts" / place
    root.mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {}\n")
    write_digests(root)
    server.client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    server.client.create_registered_model(name)
    version = server.client.create_model_version(name, f"models:/{made.model_id}", model_id=made.model_id).version
    answer = server.decide("promote", name, version=version, stage="Staging")
    if server.client.get_model_version_download_uri(name, version) != f"mlflow-artifacts:/{place}":
        refused(answer, "outside this server's artifact store")
    else:
        assert answer.status == 200
        refused(server.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}/MLmodel", raw=b"x"))


def test_an_upload_that_began_before_its_place_was_registered_ends_in_nothing(gate_server: GuardedServer) -> None:
    server, name = gate_server, "slow upload"
    version = server.version(name)
    place = server.place(name, version)
    # Not in the version's own folder while it waits: there it would be a file that is not listed.
    path = f"/api/2.0/mlflow-artifacts/artifacts/{place}/{VERSION_FOLDER}/model.onnx"
    server.client.delete_model_version(name, version)
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    connection.putrequest("PUT", path)
    connection.putheader("Content-Length", "20")
    connection.endheaders(b"0123456789")
    staged = server.folder / "artifacts" / place / VERSION_FOLDER
    wait_for(lambda: len(list(staged.iterdir())) > 2)
    again = server.client.create_model_version(name, f"models:/{place.split('/')[2]}", model_id=place.split("/")[2])
    connection.send(b"0123456789")
    answer = connection.getresponse()
    told = answer.read().decode()
    connection.close()
    assert (answer.status, TOLD in told) == (400, True), told
    wait_for(lambda: len(list(staged.iterdir())) == 2)
    server.client.set_model_version_tag(name, again.version, "version_digest", "")
    assert server.decide("promote", name, version=again.version, stage="Production").status == 200


def wait_for(met: Callable[[], bool], seconds: float = 30) -> None:
    """Until something is so; fails where it is not in time."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def test_what_made_a_version_is_not_deleted_and_gc_takes_nothing(gate_server: GuardedServer) -> None:
    server, name, logged = gate_server, "kept from gc", "kept from gc, logged"
    run = live_in_run(server, name)
    version = server.promoted(logged)
    model_id = str(server.client.get_model_version(logged, version).source).removeprefix("models:/")
    experiment = server.client.get_logged_model(model_id).experiment_id
    before = server.live(name), server.live(logged)
    for unit in UNITS:
        refused(server.send("POST", f"{unit}/mlflow/runs/delete", {"run_id": run.run_id}), "delete that version first")
        for one in (run.experiment_id, experiment):
            gone = server.send("POST", f"{unit}/mlflow/experiments/delete", {"experiment_id": one})
            refused(gone, "delete that version first")
        refused(server.send("DELETE", f"{unit}/mlflow/logged-models/{model_id}", {}), "delete that version first")
    # A run in whose folder another's version lies takes it along.
    outer = server.client.create_run(server.client.create_experiment("around")).info
    location = outer.artifact_uri
    around = live_in_run(server, f"{name}, around", location)
    refused(server.send("POST", "/api/2.0/mlflow/runs/delete", {"run_id": outer.run_id}), "delete that version first")
    live = server.live(f"{name}, around")
    # What nobody registered goes, files and all.
    free = server.client.create_run(outer.experiment_id).info
    server.client.log_text(free.run_id, "text", "note.txt")
    server.client.delete_run(free.run_id)
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", f"sqlite:///{server.folder / 'mlflow.db'}"],
        env={**os.environ, "MLFLOW_TRACKING_URI": server.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f"{free.run_id} has been permanently deleted" in done.stdout, done.stderr
    assert not (server.folder / "artifacts" / outer.experiment_id / free.run_id / "artifacts" / "note.txt").exists()
    assert (server.live(name), server.live(logged)) == before
    assert server.live(f"{name}, around") == live and live.stage == [around.version]


def test_what_gc_will_take_is_not_registered(gate_server: GuardedServer) -> None:
    server, name = gate_server, "to be taken"
    server.client.create_registered_model(name)
    run = server.client.create_run(server.client.create_experiment(name)).info
    server.client.log_text(run.run_id, "flavors: {}", "model/MLmodel")
    server.client.delete_run(run.run_id)
    body = {"name": name, "source": f"{run.artifact_uri}/model", "run_id": run.run_id}
    for unit in UNITS:
        refused(server.send("POST", f"{unit}/mlflow/model-versions/create", body), "restore it")
    server.client.restore_run(run.run_id)
    assert server.send("POST", "/api/2.0/mlflow/model-versions/create", body).status == 200


def test_files_of_what_is_not_registered_come_and_go(gate_server: GuardedServer) -> None:
    server, name = gate_server, "free files"
    version = server.version(name)
    place = server.place(name, version)
    file = f"/api/2.0/mlflow-artifacts/artifacts/{place}/{VERSION_FOLDER}/model.onnx"
    refused(server.send("PUT", file, raw=b"x"))
    server.client.delete_model_version(name, version)
    assert server.send("PUT", file, raw=b"x").status == 200
    assert server.send("DELETE", f"/ajax-api/2.0/mlflow-artifacts/artifacts/{place}").status == 200
    assert not (server.folder / "artifacts" / place).exists()
    # A place that begins with the same letters is another place.
    kept = server.place(name, server.version(name))
    assert server.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{kept}2/file", raw=b"x").status == 200
    assert server.send("DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{kept}2").status == 200

"""Runs, experiments and logged models as a way to the bytes of what is live, on a real guarded server."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass

from guard_scenes import REGISTERED, Kept, stays
from guarded_server import Answer, GuardedServer
from small_versions import evaluation, scores

from records.digests import write_digests
from registry.evidence import VERSION_FOLDER

UNITS = ("/api/2.0", "/ajax-api/2.0")


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
        stays(upload(server, run.run_id, path))
    for unit in UNITS:
        for key in ("run_id", "runId"):
            body = {key: run.run_id, "path": f"model/{file}"}
            stays(server.send("POST", f"{unit}/mlflow/artifacts/presigned-upload-url", body))
        stays(server.send("PUT", f"{unit}/mlflow-artifacts/artifacts/{run.location}/{file}", raw=b"x"))
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
    stays(upload(server, outer.run_id, path))
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


def test_an_experiment_inside_of_a_version_takes_no_file(kept: Kept) -> None:
    server = kept.server
    prompt = {
        "prompt_template": "{{x}}",
        "prompt_parameters": [{"key": "x", "value": "y"}],
        "model_route": "r",
        "model_input": "x",
        "mlflow_version": "3",
    }
    inside = server.folder / "artifacts" / kept.place
    link = server.folder / f"link to {kept.name}"
    link.symlink_to(server.folder / "artifacts")
    # Where `..` leads from a link is not what the text says: the text of this one is a folder outside of the store.
    deep = server.folder / f"deep link to {kept.name}"
    deep.symlink_to(inside / VERSION_FOLDER)
    root = "../" * 30
    for location, told in (
        (f"mlflow-artifacts:/{kept.place}", REGISTERED),
        (str(inside), REGISTERED),
        (f"/proc/self/root{inside}", REGISTERED),
        (f"{link}/{kept.place}", REGISTERED),
        (f"/proc/self/cwd/{root}{inside}", REGISTERED),
        (f"{deep}/..", "outside of this server's own store"),
        (str(server.folder / "elsewhere" / "than the store"), "outside of this server's own store"),
        ("abfss://versions@account.dfs.core.windows.net/x", "outside of this server's own store"),
    ):
        experiment = made_directly(server, location)
        run = server.client.create_run(experiment).info
        stays(upload(server, run.run_id, "notes.txt"), told)
        asked = {"experiment_id": experiment, **prompt}
        stays(server.send("POST", "/ajax-api/2.0/mlflow/runs/create-promptlab-run", asked), told)
        kept.unchanged()
    assert not (server.folder / "elsewhere" / "than the store").exists()


def test_what_made_a_version_is_not_deleted_and_gc_takes_nothing(gate_server: GuardedServer) -> None:
    server, name, logged = gate_server, "kept from gc", "kept from gc, logged"
    run = live_in_run(server, name)
    version = server.promoted(logged)
    model_id = str(server.client.get_model_version(logged, version).source).removeprefix("models:/")
    experiment = server.client.get_logged_model(model_id).experiment_id
    before = server.live(name), server.live(logged)
    for unit in UNITS:
        stays(server.send("POST", f"{unit}/mlflow/runs/delete", {"run_id": run.run_id}), "delete that version first")
        for one in (run.experiment_id, experiment):
            gone = server.send("POST", f"{unit}/mlflow/experiments/delete", {"experiment_id": one})
            stays(gone, "delete that version first")
        stays(server.send("DELETE", f"{unit}/mlflow/logged-models/{model_id}", {}), "delete that version first")
    # A run in whose folder another's version lies takes it along.
    outer = server.client.create_run(server.client.create_experiment("around")).info
    location = outer.artifact_uri
    around = live_in_run(server, f"{name}, around", location)
    stays(server.send("POST", "/api/2.0/mlflow/runs/delete", {"run_id": outer.run_id}), "delete that version first")
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
        stays(server.send("POST", f"{unit}/mlflow/model-versions/create", body), "restore it")
    server.client.restore_run(run.run_id)
    assert server.send("POST", "/api/2.0/mlflow/model-versions/create", body).status == 200

"""MLflow's own route table, walked: whatever can change something is known, and is what the list says it is."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from mlflow.exceptions import _UnsupportedMultipartUploadException
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as SqlAlchemyRuns

from registry.guard import routes
from registry.guard.artifacts import never, runs_code, writes_files
from registry.guard.runs import GuardedTrackingStore
from registry.guard.store import GuardedStore

# What the server's worker does, in a process of its own: MLflow's routes are made when it is imported.
WALK = """
import json, sys
from mlflow.server import app as flask_app, fastapi_app
from registry.guard import app, routes

for method, path in json.loads(sys.argv[2]):
    if path.startswith("native "):
        fastapi_app.artifact_router.add_api_route(path.removeprefix("native "), lambda: "", methods=[method])
    else:
        flask_app.add_url_rule(path, path, lambda: "", methods=[method])
made = getattr(app, sys.argv[1])()
print(json.dumps(sorted(routes.mutating_routes(flask_app, made))))
"""
# What reads a registry's tables; all else in MLflow's interface of a registry store changes them.
READS = ("get_", "search_", "list_", "supports_")
# These are made of the methods that the guarded store has, or have tables of their own.
MADE_OF_OTHERS = {"copy_model_version", "test_webhook"}
UNGUARDED = {"update_registered_model", "update_model_version", "create_webhook", "update_webhook", "delete_webhook"}


def walk(
    folder: Path, app: str = "create_app", made_up: list[tuple[str, str]] | None = None, prefix: str = ""
) -> subprocess.CompletedProcess[str]:
    """Make the server's application, as its worker does."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
    variables |= {
        "_MLFLOW_SGI_NAME": "uvicorn",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_STATIC_PREFIX": prefix,
        "RESUNET_HOME": str(folder),
        "RESUNET_DATABASE": "",
        "RESUNET_POLICY": "",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a long random text",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "another long random text",
    }
    command = [sys.executable, "-W", "ignore", "-c", WALK, app, json.dumps(made_up or [])]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=240, check=False)


def found(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.strip().splitlines()[-1]))


def test_every_route_that_changes_something_is_known_and_every_known_one_is_there(tmp_path: Path) -> None:
    # With passwords there are more routes, and none fewer.
    there = found(walk(tmp_path, "create_auth_app"))
    assert there == routes.KNOWN
    kinds = [routes.DECIDED, routes.KEPT, routes.BYTES, routes.CLOSED, routes.OURS, routes.HARMLESS]
    assert sum(map(len, kinds)) == len(routes.KNOWN), "a route is in two lists"


def test_behind_a_static_prefix_the_same_routes_are_known(tmp_path: Path) -> None:
    assert found(walk(tmp_path, prefix="/mlflow")) <= routes.KNOWN


def test_routes_that_nobody_looked_at_are_named_and_the_server_does_not_start(tmp_path: Path) -> None:
    made_up = [
        ("POST", "/api/2.0/mlflow/model-versions/force-stage"),
        ("PATCH", "/ajax-api/2.0/mlflow/registered-models/alias"),
        ("DELETE", "/api/2.0/mlflow/model-versions/<name>/purge"),
        ("PUT", "native /api/2.0/mlflow/model-versions/{name}"),
        ("GET", "/api/2.0/mlflow/model-versions/only-looked-at"),
    ]
    done = walk(tmp_path, made_up=made_up)
    assert done.returncode != 0
    assert "does not start: this MLflow has routes of which nobody has said what they can change: " in done.stderr
    told = done.stderr.split("can change: ")[1].split(". Install")[0]
    assert told.split(", ") == [
        "DELETE 2.0/mlflow/model-versions/{name}/purge",
        "PATCH 2.0/mlflow/registered-models/alias",
        "POST 2.0/mlflow/model-versions/force-stage",
        "PUT 2.0/mlflow/model-versions/{name}",
    ]
    assert "Traceback" not in done.stderr


def test_what_the_list_says_is_decided_is_a_method_of_the_guarded_stores_own() -> None:
    for store, parent, methods in (
        (GuardedStore, SqlAlchemyStore, routes.DECIDED.values()),
        (GuardedTrackingStore, SqlAlchemyRuns, routes.KEPT.values()),
    ):
        for name in methods:
            assert name in vars(store), f"{store.__name__} has no {name} of its own"
            own, theirs = (list(inspect.signature(getattr(one, name)).parameters) for one in (store, parent))
            assert own == theirs, f"MLflow's {name} takes other arguments now"


def test_what_the_list_says_writes_files_or_runs_code_is_looked_at() -> None:
    for route in routes.KNOWN:
        path = route.split(" ", 1)[1].replace("{artifact_path}", "1/models/m-1")
        for twin in ("/api/", "/ajax-api/", "/prefix/ajax-api/"):
            assert writes_files(twin + path) == (route in routes.BYTES), twin + path
            assert runs_code(twin + path) == (route in routes.CLOSED), twin + path


@pytest.mark.parametrize("verb", ["create", "complete", "abort"])
def test_in_azure_no_address_is_signed_that_could_replace_a_file_later(
    monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    path = f"/ajax-api/2.0/mlflow-artifacts/mpu/{verb}/1/models/m-1"
    with Flask("mlflow").test_request_context(path, method="POST"):
        monkeypatch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, "s3://versions/mlflow")
        assert never(["mlflow-artifacts:/1/models/m-1/file"]) == ""
        monkeypatch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, "wasbs://versions@account.blob.core.windows.net/mlflow")
        # As MLflow says it of a store without: its client then sends the file in one piece.
        with pytest.raises(_UnsupportedMultipartUploadException):
            never(["mlflow-artifacts:/1/models/m-1/file"])


def test_no_method_of_a_registry_store_changes_it_past_the_gates() -> None:
    methods = {name for name, _ in inspect.getmembers(AbstractStore, inspect.isfunction) if not name.startswith("_")}
    change = {name for name in methods if not name.startswith(READS) and "prompt" not in name}
    assert change == {*routes.DECIDED.values(), *UNGUARDED, *MADE_OF_OTHERS}

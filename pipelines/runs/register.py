"""Log a version directory as an MLflow model, and register it.

    info = log_version(directory, requirements, signing_key=None)
    version = register_version(client, info, "resunet", tags)

The model is "models from code": nothing is pickled. Its file list is written, and signed where there is a key,
before it leaves this machine; no path of this machine stays in it.
"""

import shutil
import time
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from mlflow.models import Model

import records
import resunet
import serving
from pipelines.runs.tracked_run import patience
from pipelines.runs.tracking_errors import unanswered
from records.digests import write_digests
from registry.signing import Signer, sign
from serving.pyfunc import VERSION_ARTIFACT, signature
from serving.version import GOLDEN_INPUT_FILE, VersionSpec

MODEL_NAME = "model"
_LONGEST_WAIT_S = 128
# What a version brings along to be served with.
CODE_PACKAGES = (resunet, records, serving)


def package_folder(package: types.ModuleType) -> Path:
    """Where a package of this platform is installed."""
    return Path(str(package.__file__)).parent


# What MLflow runs to load it.
MODEL_CODE = package_folder(serving) / "model_code.py"


@dataclass(frozen=True)
class LoggedVersion:
    """A logged, not yet registered version: its MLflow model id, URI and digest."""

    model_id: str
    uri: str
    digest: str
    size_bytes: int


def log_version(
    directory: Path, requirements: list[str], *, name: str = MODEL_NAME, signing_key: Signer | Path | None = None
) -> LoggedVersion:
    """Log a version directory to the active MLflow run.

    Args:
        directory: all files of a version, as `serving.version` names them.
        requirements: pinned pip requirements of the environment that serves it.
        name: of the logged model.
        signing_key: who signs the file list; a path is that of a private key; None leaves it unsigned.
    """
    made: dict[str, Any] = {}

    def save_model(path: str, mlflow_model: Model, **_: object) -> None:
        mlflow.pyfunc.save_model(
            path,
            mlflow_model=mlflow_model,
            python_model=str(MODEL_CODE),
            artifacts={VERSION_ARTIFACT: str(directory)},
            code_paths=[str(package_folder(package)) for package in CODE_PACKAGES],
            signature=signature(VersionSpec.read(directory)),
            input_example=pd.DataFrame({"image": [(directory / GOLDEN_INPUT_FILE).read_bytes()]}),
            pip_requirements=requirements,
        )
        root = Path(path)
        _forget_this_machine(root, mlflow_model)
        made["digest"] = write_digests(root)
        if signing_key is not None:
            sign(root, signing_key)
        made["size"] = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())

    # `Model.log` takes any object with `save_model`; this one finishes the directory before it is uploaded.
    flavor = types.SimpleNamespace(__name__="mlflow.pyfunc", save_model=save_model)
    info = Model.log(None, flavor, name=name, validate_serving_input=False)
    return LoggedVersion(str(info.model_id), str(info.model_uri), made["digest"], made["size"])


def _forget_this_machine(root: Path, mlflow_model: Model) -> None:
    for cache in list(root.rglob("__pycache__")):
        shutil.rmtree(cache)
    flavor = mlflow_model.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for entry in flavor["artifacts"].values():
        entry["uri"] = entry["path"]
    mlflow_model.artifact_path = MODEL_NAME
    mlflow_model.save(str(root / "MLmodel"))


def register_version(
    client: MlflowClient, logged: LoggedVersion, name: str, run_id: str, tags: Mapping[str, str]
) -> str:
    """Register a logged version and return its number.

    MLflow's client would send a request again whose answer was lost, and each that arrives makes a version. So it sends
    one at a time here, as patiently as it would, and the registry is asked what became of it. A request that a server
    works on for longer than that makes a second version, of the same run and the same files.

    Args:
        client: of the registry.
        logged: what `log_version` returned.
        name: registered model; made when missing.
        run_id: the run that made it.
        tags: shown in the registry; they prove nothing.
    """
    try:
        client.create_registered_model(name, description="Segmentation model trained by this platform.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    retries, attempt = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), 0
    with patience(retries=0):
        while True:
            try:
                known = versions_of_run(client, name, run_id) if attempt else []
                made = next((version for version in known if version.source == logged.uri), None)
                made = made or client.create_model_version(
                    name, source=logged.uri, run_id=run_id, tags=dict(tags), model_id=logged.model_id
                )
                return str(made.version)
            except MlflowException as error:
                if attempt == retries or not unanswered(error):
                    raise
            time.sleep(min(2 ** (attempt + 1), _LONGEST_WAIT_S))
            attempt += 1


def versions_of_run(client: MlflowClient, name: str, run_id: str) -> list[ModelVersion]:
    """The versions of a model that a run has registered, the first one first."""
    found = [version for version in client.search_model_versions(f"run_id = '{run_id}'") if version.name == name]
    return sorted(found, key=lambda version: int(version.version))

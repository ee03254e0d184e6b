"""What a training writes to MLflow besides the metrics of the loop itself."""

import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mlflow
from mlflow.data.pandas_dataset import from_pandas
from mlflow.exceptions import MlflowException

from pipelines.data.data_step import PreparedData
from pipelines.data.manifest import fingerprint
from pipelines.pins import PROJECT, project_pins
from pipelines.training.environment import ENVIRONMENT_FILE, Environment, installed
from pipelines.training.repeat import WORKING_TREE_TAG, working_tree
from pipelines.training.settings import FitSettings
from pipelines.version.evaluation_report import run_metrics, write_scores
from registry.data_place import DATA_TAG, DataPlace
from registry.evidence import EVALUATION_FILE, Evaluation
from resunet.errors import SettingsError

if TYPE_CHECKING:
    from pipelines.training.fit import Fitted
    from pipelines.version.build_version import BuiltVersion


EVALUATION_EXPERIMENT = "resunet-evaluation"
RESUMED_TAG = "environment.resumed"
# A server needs it where the log is in PostgreSQL; a training never does, and its extra is seldom installed.
_DRIVER = "psycopg"


class _WithoutDriver(logging.Filter):
    """Drops MLflow's warning that packages are missing, where only the driver is."""

    def filter(self, record: logging.LogRecord) -> bool:
        listed = [line for line in record.getMessage().splitlines() if line.startswith(" - ")]
        return not listed or not all(line.startswith(f" - {_DRIVER} (current: uninstalled,") for line in listed)


_WITHOUT_DRIVER = _WithoutDriver()


def quiet() -> None:
    """Keep libraries from talking over the command's own words; warnings and errors still come through."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its thread complains of a server that is away, of which the training tells in its own words.
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    logging.getLogger("mlflow.utils.requirements_utils").addFilter(_WITHOUT_DRIVER)


def prefer_project_run(experiment: str) -> None:
    """Log to the run that `mlflow run` made; on our own, to `experiment` unless one is set."""
    if not any(os.environ.get(f"MLFLOW_{name}") for name in ("RUN_ID", "EXPERIMENT_ID", "EXPERIMENT_NAME")):
        mlflow.set_experiment(experiment)


def log_parameters(values: dict[str, object]) -> None:
    """Log parameters; those that `mlflow run` logged already stay as they were typed."""
    run = mlflow.active_run()
    logged = mlflow.get_run(run.info.run_id).data.params if run is not None else {}
    mlflow.log_params({name: value for name, value in values.items() if name not in logged})


def log_settings(settings: FitSettings, data: PreparedData, **more: object) -> None:
    """Log every parameter of a run, how long that makes it, and what the data set looked like."""
    told = {**settings.model_dump(), "length": settings.length}
    log_parameters({**told, "data": str(data.root), "where": data.where, **more})
    mlflow.set_tags(
        {
            "dataset_fingerprint": data.fingerprint,
            DATA_TAG: DataPlace(str(data.root), data.where, data.groups, data.slices).to_tag(),
            "architecture": settings.architecture,
            # The commit says little about code that was changed since.
            WORKING_TREE_TAG: working_tree(PROJECT),
        }
    )


def log_environment() -> None:
    """Log what the run is computed on and with, and the installed versions of all that the project pins."""
    mlflow.set_tags(Environment.here().tags())
    mlflow.log_text(installed(project_pins()), ENVIRONMENT_FILE)


def log_resumed_environment(tags: Mapping[str, str]) -> str:
    """Note in a run that goes on where something is another than when it began; what that is comes back, in words.

    Args:
        tags: of the run.
    """
    if changed := Environment.here().since(tags):
        mlflow.set_tag(RESUMED_TAG, changed)
    return changed


def log_data(data: PreparedData) -> None:
    """Log the manifest as dataset inputs, one a split, and the report of `prepare`."""
    for split in ("train", "validation", "test"):
        rows = data.manifest[data.manifest["split"] == split]
        with warnings.catch_warnings():
            # MLflow finds two readings of a local folder, which are the same.
            warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted")
            dataset = from_pandas(
                rows[["path", "sha256", "group"]].astype(str),
                source=data.root.as_uri(),
                name=data.root.name,
                # Of these rows: MLflow takes inputs of one name and digest for one and the same.
                digest=fingerprint(rows).removeprefix("sha256:")[:16],
            )
        mlflow.log_input(dataset, context=split)
    mlflow.log_text(data.report.to_json(), "data/prepare.json")


def log_result(fitted: "Fitted", built: "BuiltVersion") -> None:
    """Log what came out: the schedule that repeats the run, scores, pictures and the model card."""
    mlflow.log_params(
        {
            "steps_taken": fitted.steps,
            "schedule_taken": str(fitted.schedule),
            "precision_taken": fitted.precision,
            "stopped": fitted.stopped,
        }
    )
    mlflow.log_metrics({"training_seconds": fitted.seconds, **run_metrics(built.evaluation)})
    for name, figure in built.figures.items():
        mlflow.log_figure(figure, f"pictures/{name}.png")
    told = {"history": [asdict(row) for row in fitted.history], "epochs": [asdict(row) for row in fitted.epochs]}
    mlflow.log_dict(told, "training/history.json")
    mlflow.log_artifact(str(built.directory / "model_card.md"))


def log_evaluation(evaluation: Evaluation, model: str, digest: str, data: PreparedData) -> None:
    """Log the evaluation of a version that is there already, to a run of its own or the one `mlflow run` made.

    Args:
        model: URI or folder, as it was given.
        digest: of its files; empty if they are not listed.

    Raises:
        SettingsError: the tracking server does not take it.
    """
    quiet()
    try:
        prefer_project_run(EVALUATION_EXPERIMENT)
        with mlflow.start_run(run_name=f"evaluate {model}"), TemporaryDirectory(prefix="resunet-scores-") as folder:
            log_parameters({"model": model, "data": str(data.root), "where": data.where})
            mlflow.set_tags({"version_digest": digest, "test_fingerprint": evaluation.fingerprint})
            mlflow.log_metrics(run_metrics(evaluation))
            for name in (EVALUATION_FILE, "per_image.csv"):
                write_scores(evaluation, Path(folder, name))
                mlflow.log_artifact(str(Path(folder, name)))
    except MlflowException as error:
        raise SettingsError(f"cannot log to the tracking server: {error.message}") from error

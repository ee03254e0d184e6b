"""What a training writes to MLflow besides the metrics of the loop itself."""

import logging
import os
import re
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING

import mlflow
from mlflow.data.pandas_dataset import from_pandas

from pipelines.data_step import PreparedData
from pipelines.fit import Fitted
from pipelines.manifest import fingerprint
from pipelines.settings import FitSettings

if TYPE_CHECKING:
    from pipelines.build_version import BuiltVersion


def quiet() -> None:
    """Keep libraries from talking over the command's own words; warnings and errors still come through."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


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
    """Log every parameter of a run, and what the data set looked like."""
    log_parameters({**settings.model_dump(), "data": str(data.root), "where": data.where, **more})
    mlflow.set_tags({"dataset_fingerprint": data.fingerprint, "architecture": settings.architecture})


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


def log_result(fitted: Fitted, built: "BuiltVersion") -> None:
    """Log what came out: the schedule that repeats the run, scores, pictures and the model card."""
    mlflow.log_params(
        {
            "steps_taken": fitted.steps,
            "schedule_taken": str(fitted.schedule),
            "precision_taken": fitted.precision,
            "stopped": fitted.stopped,
        }
    )
    scores: dict[str, float] = {"training_seconds": fitted.seconds}
    for metric, interval in built.evaluation.overall.items():
        scores[f"test_{metric}"] = interval.mean
        scores[f"test_{metric}_low"] = interval.low
        scores[f"test_{metric}_high"] = interval.high
    for name, result in built.evaluation.slices.items():
        # A slice's value is any text ("H&E"); a metric's name is not.
        key = re.sub(r"[^\w.-]", "_", name.replace("=", ".", 1))
        scores |= {f"slice.{key}.{metric}": value.mean for metric, value in result.metrics.items()}
    mlflow.log_metrics(scores)
    for name, figure in built.figures.items():
        mlflow.log_figure(figure, f"pictures/{name}.png")
    mlflow.log_dict({"history": [asdict(row) for row in fitted.history]}, "training/history.json")
    mlflow.log_artifact(str(built.directory / "model_card.md"))

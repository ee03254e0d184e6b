"""One MLflow run around a block of work, which ends with a sentence when the tracking server does not take it.

with tracked_run("resunet-training", name="resunet-1a2b", lost=what_to_do) as run_id:
    mlflow.log_params({"width": 16})
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines.tracking import prefer_project_run
from pipelines.tracking_errors import TRACKING_FAILURES, TrackingError, reason


@contextmanager
def tracked_run(
    experiment: str,
    *,
    name: str,
    lost: Callable[[str], str],
    resume: str = "",
    check: Callable[[Run], None] = lambda run: None,
) -> Iterator[str]:
    """The MLflow run to log to: the one resumed, the one `mlflow run` made, or a new one.

    Args:
        experiment: that a new run goes to, unless another is set.
        name: of a new run.
        lost: of the run's id, says what to do about a run whose server went away.
        resume: id of the run to go on with.
        check: refuses to go on with that run, by raising.

    Yields:
        the run's id.

    Raises:
        TrackingError: the tracking server is away, hangs or refuses; whatever the block logs ends so.
    """
    mlflow.enable_system_metrics_logging()
    try:
        if resume:
            # Its experiment is its own, which need not be the one that a new run would go to.
            check(MlflowClient().get_run(resume))
            run = mlflow.start_run(run_id=resume, log_system_metrics=True)
        else:
            prefer_project_run(experiment)
            run = mlflow.start_run(run_name=name, log_system_metrics=True)
    except TRACKING_FAILURES as error:
        raise TrackingError(f"cannot log to the tracking server: {reason(error)}") from error
    run_id = str(run.info.run_id)
    try:
        yield run_id
    except TRACKING_FAILURES as error:
        _end_failed()
        raise TrackingError(
            f"the tracking server did not take run {run_id} ({reason(error)}); {lost(run_id)}"
        ) from error
    except BaseException:
        _end_failed()
        raise
    try:
        mlflow.end_run()
    except TRACKING_FAILURES as error:
        raise TrackingError(
            f"run {run_id} is complete, but the tracking server went away before it could be marked as finished "
            f"({reason(error)})"
        ) from error


def _end_failed() -> None:
    """Mark the run as failed, if the server hears it at once: whoever waits for the error has waited enough."""
    hasty = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {name: os.environ.get(name) for name in hasty}
    os.environ.update(hasty)
    with suppress(*TRACKING_FAILURES):
        mlflow.end_run("FAILED")
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value

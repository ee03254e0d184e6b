"""One MLflow run around a block of work, which ends with a sentence when the tracking server does not take it.

with tracked_run("resunet-training", name="resunet-1a2b", lost=what_to_do) as run_id:
    mlflow.log_params({"width": 16})
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Final

import mlflow
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_RUN_ID
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from sqlalchemy.exc import SQLAlchemyError

from pipelines.locks import lock_in_writable_folder
from pipelines.runs.tracking import prefer_project_run
from pipelines.runs.tracking_errors import TRACKING_FAILURES, TrackingError, reason
from records.settings import RecordsSettings
from records.tracking_file import why_not_opened
from resunet.errors import SettingsError

# Of the run that `mlflow run` made for a training which goes on with another run: that one's id.
RESUMED_RUN_TAG: Final = "resumed_run"
_RETRIES: Final = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


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
        SettingsError: RESUNET_HOME cannot be written to.
        TrackingError: the tracking server is away, hangs or refuses, and so its database; whatever the block logs
            ends so where it is a server.
    """
    if unopened := why_not_opened(mlflow.get_tracking_uri()):
        raise TrackingError(f"cannot log to the tracking database: {unopened}. Is MLFLOW_TRACKING_URI right?")
    mlflow.enable_system_metrics_logging()
    try:
        # Nothing is lost yet: whoever has not started the server is not kept waiting for minutes.
        with _alone(), nullcontext() if _RETRIES in os.environ else patience(retries=2):
            if resume:
                # Its experiment is its own, which need not be the one that a new run would go to.
                check(MlflowClient().get_run(resume))
                run = mlflow.start_run(run_id=resume, log_system_metrics=True)
                _point_to(resume)
            else:
                prefer_project_run(experiment)
                run = mlflow.start_run(run_name=name, log_system_metrics=True)
    except TRACKING_FAILURES as error:
        raise TrackingError(f"cannot log to the tracking server: {reason(error)}") from error
    except (SQLAlchemyError, CommandError, OSError) as error:
        raise TrackingError(
            f"cannot log to the tracking database: {reason(error)}. Is MLFLOW_TRACKING_URI right?"
        ) from error
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


def _point_to(resumed: str) -> None:
    """Have the run that `mlflow run` made say where everything is; nothing else will ever be in it."""
    made = os.environ.get(MLFLOW_RUN_ID.name, resumed)
    if made == resumed:
        return
    note = f"Nothing but a command to go on with run {resumed}: its parameters, metrics and version are there."
    with suppress(*TRACKING_FAILURES):
        for name, value in ((RESUMED_RUN_TAG, resumed), (MLFLOW_RUN_NOTE, note)):
            MlflowClient().set_tag(made, name, value)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other commands of this home waiting: two that make the tables of one SQLite file leave them half made."""
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("sqlite:"):
        yield
        return
    folder = RecordsSettings.load().home.absolute() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_in_writable_folder(folder / f"tracking-{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock")
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written to ({error.strerror}); set RESUNET_HOME") from error
    with lock:
        yield


def _end_failed() -> None:
    """Mark the run as failed, if the server hears it at once: whoever waits for the error has waited enough."""
    with patience(retries=0, seconds=5), suppress(*TRACKING_FAILURES):
        mlflow.end_run("FAILED")


@contextmanager
def patience(retries: int, seconds: int | None = None) -> Iterator[None]:
    """How often MLflow asks a server that does not answer, and how long it waits for an answer; its own: minutes."""
    asked = {_RETRIES: str(retries)}
    if seconds is not None:
        asked["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(seconds)
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update(asked)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

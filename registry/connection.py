"""The tracking server that MLFLOW_TRACKING_URI names, for the length of a command.

with tracking() as client:
    client.get_model_version("resunet", "7")
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.db.db_types import DATABASE_ENGINES

from records.tracking_file import why_not_opened
from resunet.errors import SettingsError

# What MLflow refuses before it asks a server, or in the place of one.
_REFUSED: Final = frozenset(
    {"INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}
)


@contextmanager
def tracking() -> Iterator[MlflowClient]:
    """A client; what MLflow raises in the block becomes a sentence that names the server.

    Raises:
        SettingsError: the server is not there, or says no.
    """
    with tracking_uri():
        yield MlflowClient()


@contextmanager
def tracking_uri() -> Iterator[str]:
    """The same with the address alone: a client of a database makes its tables, which not everybody wants.

    Raises:
        SettingsError: the server is not there, or says no.
    """
    # MLflow's own default waits minutes before it says that a server is not there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = mlflow.get_tracking_uri()
    if reason := why_not_opened(uri):
        raise SettingsError(f"the tracking database: {reason}. Is MLFLOW_TRACKING_URI right?")
    try:
        yield uri
    except MlflowException as error:
        address = urlsplit(uri)
        server = f"{address.scheme}://{address.hostname}:{address.port}" if address.hostname else uri
        said = str(error).replace(address.password, "***") if address.password else str(error)
        doubt = ". Is MLFLOW_TRACKING_URI right?" if _doubtful(address.scheme, error) else ""
        raise SettingsError(f"the tracking server {server} says: {said.rstrip('.')}{doubt}") from error


def _doubtful(scheme: str, error: MlflowException) -> bool:
    """Whether the address may be wrong: nobody answered, or who did is no MLflow; else it is what was asked for."""
    if scheme.partition("+")[0] not in ("http", "https", *DATABASE_ENGINES):
        return True
    if isinstance(error, RestException):
        return error.error_code in ("ENDPOINT_NOT_FOUND", "TEMPORARILY_UNAVAILABLE")
    return error.error_code not in _REFUSED

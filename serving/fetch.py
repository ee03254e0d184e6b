"""Fetching a registered version's files from the artifact store, as they are; nothing of them is run.

root = fetch_model("models:/resunet/Production", Path("somewhere"))
"""

import os
from pathlib import Path
from typing import Final

from records.tracking_file import why_not_opened
from resunet.errors import SettingsError, StoreError, VersionError
from serving.identity import read_note

# What MLflow's registry says of a wrong name; what an artifact store says may hold a signed URL.
_WRONG_NAME: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


def fetch_model(uri: str, folder: Path) -> Path:
    """Download a version.

    Args:
        uri: `models:/<name>/<stage or version>` or `models:/<name>@<alias>`, at MLFLOW_TRACKING_URI.
        folder: empty; the files come to lie in it or below it.

    Returns:
        The model's folder, which holds `MLmodel` and MLflow's note of name and number.

    Raises:
        SettingsError: there is no such version.
        StoreError: the files cannot be fetched now.
        VersionError: what was fetched is no model.
    """
    fail_soon()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    if reason := why_not_opened(mlflow.get_tracking_uri()):
        raise StoreError(f"the tracking database: {reason}. Is MLFLOW_TRACKING_URI right?")
    try:
        root = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except MlflowException as error:
        if error.error_code in _WRONG_NAME:
            raise SettingsError(f"{uri} cannot be served: {error.message}") from error
        raise _away(uri, error) from error
    except Exception as error:
        # Each kind of artifact store has a library of its own, with errors of its own.
        raise _away(uri, error) from error
    if not read_note(root):
        raise VersionError(f"{uri} is not served: it holds no MLmodel at its root, so it is no model")
    return root


def fail_soon() -> None:
    """Have MLflow say within seconds that a server is not there; its own default waits minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


def _away(uri: str, error: Exception) -> StoreError:
    return StoreError(
        f"the files of {uri} cannot be fetched ({type(error).__name__}): see that MLFLOW_TRACKING_URI is right, that "
        "the tracking server and its artifact store answer, and that there is space for temporary files"
    )

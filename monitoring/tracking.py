"""What monitoring asks of MLflow: which version is watched, its reference, and a run that never stays open.

client = connect()
version = find_version(client, "resunet", stage="Production")
reference = read_reference(version, folder)
with report_run(client, "resunet-monitoring", "resunet 3", tags) as run:
    client.log_metric(run, "rows", 120)
"""

import contextlib
import hashlib
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow.artifacts
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from requests import RequestException

from records.digests import DIGESTS_FILE, read_digests, version_digest
from records.tracking_file import why_not_opened
from resunet.errors import ResunetError, SettingsError, VersionError

REFERENCE_PATH = "artifacts/version/reference.parquet"
MANIFEST_PATH = "artifacts/version/manifest.parquet"
# Before the name of a column of `metadata.csv` in a manifest.
_SLICE = "slice:"
# No report takes this long: a run still open then lost its process to a `kill -9` or a power cut.
STALE_AFTER_S = 6 * 3600
# Tells reports from other runs: a training in the same experiment may well take longer.
_OURS = ("resunet_report", "drift")
_UNANSWERED = (MlflowException, RequestException)


class TrackingError(ResunetError):
    """The MLflow server does not answer, or refuses."""


@dataclass(frozen=True)
class WatchedVersion:
    """A registered version; `digest` is the one it was registered with, None when it has no such tag."""

    name: str
    version: str
    digest: str | None

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@contextlib.contextmanager
def explained_tracking() -> Iterator[None]:
    """Turn MLflow's errors into a `TrackingError` of one line, without a password that a URL may hold."""
    try:
        yield
    except _UNANSWERED as error:
        first = re.sub(r"//[^/@\s]+@", "//***@", str(error).strip().split("\n")[0])[:400]
        raise TrackingError(
            f"MLflow did not do it: {first}. Check MLFLOW_TRACKING_URI and that its server is up"
        ) from None


def connect(*, patient: bool = False) -> MlflowClient:
    """A client of the server that MLFLOW_TRACKING_URI names.

    Args:
        patient: wait minutes for a server that is away, as MLflow does: for what nobody sits before, and restarts of
            the server may meet. What MLFLOW_HTTP_REQUEST_MAX_RETRIES says holds in any case.

    Raises:
        TrackingError: the address makes no sense, or names a file that cannot be opened.
    """
    if not patient:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    if reason := why_not_opened(mlflow.get_tracking_uri()):
        raise TrackingError(f"MLflow's database: {reason}. Check MLFLOW_TRACKING_URI")
    with explained_tracking():
        return MlflowClient()


def find_version(
    client: MlflowClient, name: str, *, version: str | None = None, stage: str = "Production"
) -> WatchedVersion:
    """Find a version by its number, else the newest in a stage, which is what `models:/name/stage` serves.

    Raises:
        SettingsError: there is no such model, version, or stage.
        TrackingError: MLflow does not answer.
    """
    try:
        if version is not None:
            return _watched(client.get_model_version(name, version))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            found = client.get_latest_versions(name, stages=[stage])
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            what = f"{name!r} version {version}" if version else f"{name!r}"
            raise SettingsError(
                f"no registered model {what}: train one with `mlflow run . -e train`, give --model and "
                "--version as `python -m registry status` lists them, or set MLFLOW_TRACKING_URI"
            ) from None
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise SettingsError(f"MLflow does not accept this: {error.message}") from None
        with explained_tracking():
            raise
    if not found:
        raise SettingsError(
            f"no version of {name!r} is in {stage}: promote one with `python -m registry promote {name} "
            f"VERSION {stage}` or in the MLflow UI, or name one with --version"
        )
    return _watched(max(found, key=lambda entry: int(entry.version)))


def _watched(entry: ModelVersion) -> WatchedVersion:
    return WatchedVersion(entry.name, str(entry.version), entry.tags.get("version_digest"))


def read_reference(version: WatchedVersion, folder: Path, tracking_uri: str | None = None) -> pd.DataFrame:
    """Download a version's own reference and, where its manifest names groups, add them.

    Args:
        folder: an empty one to download to.

    Returns:
        one row an image: `split`, a float column a descriptor, `embedding` of held-out images, and `cluster`, the
        patient, slide or scene that an image is of; where it knows slices, `slices`, names such as "site=B".

    Raises:
        VersionError: the version has none, or it is not the file the version was registered with.
    """
    reference = _read(version, fetch(version, REFERENCE_PATH, folder, tracking_uri), None)
    if "split" not in reference:
        raise VersionError(f"the reference of {version} has no column 'split'; train it anew")
    if version.digest is not None and MANIFEST_PATH in read_digests(folder) and "path" in reference:
        path = fetch(version, MANIFEST_PATH, folder, tracking_uri)
        sliced = _slice_columns(version, path)
        manifest = _read(version, path, ["path", "group", *sliced]).set_index("path")
        reference["cluster"] = reference["path"].map(manifest["group"])
        if sliced:
            names = {
                file: frozenset(
                    f"{str(name).removeprefix(_SLICE)}={value}" for name, value in row.items() if pd.notna(value)
                )
                for file, row in manifest[sliced].to_dict("index").items()
            }
            reference["slices"] = reference["path"].map(lambda file: names.get(file, frozenset()))
    return reference


def _slice_columns(version: WatchedVersion, manifest: Path) -> list[str]:
    try:
        return [name for name in pq.read_schema(manifest).names if name.startswith(_SLICE)]
    except (OSError, pa.ArrowException) as error:
        raise VersionError(f"the manifest of {version} cannot be read: {error}; train it anew") from error


def fetch(version: WatchedVersion, path: str, folder: Path, tracking_uri: str | None = None) -> Path:
    """Download one of a version's files, and make sure that it is the one it was registered with.

    Args:
        path: in the model's folder, such as REFERENCE_PATH.
        folder: to download to; the file lies there at the same path.

    Raises:
        VersionError: the version has none, or it is not the file the version was registered with.
    """
    found = _download(version, path, folder, tracking_uri)
    if version.digest is not None:
        # It decides what counts as drift: it is believed only as part of the version's digest.
        _download(version, DIGESTS_FILE, folder, tracking_uri)
        listing = read_digests(folder)
        if version_digest(listing) != version.digest or listing.get(path) != _sha256(found):
            raise VersionError(
                f"the {Path(path).stem} of {version} is not the one it was registered with ({version.digest}): "
                "look for who changed its artifacts, and promote a version that is whole"
            )
    return found


def _read(version: WatchedVersion, path: Path, columns: list[str] | None) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:
        raise VersionError(f"the reference of {version} cannot be read: {error}; train it anew") from error


def _download(version: WatchedVersion, path: str, folder: Path, tracking_uri: str | None) -> Path:
    uri = f"models:/{version.name}/{version.version}/{path}"
    target = folder / Path(path).parent
    target.mkdir(parents=True, exist_ok=True)
    try:
        got = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(target), tracking_uri=tracking_uri)
    except (MlflowException, OSError) as error:
        raise VersionError(
            f"{version} has no {path} that can be downloaded ({type(error).__name__}): it was not made by "
            "`mlflow run . -e train`, or its artifact store is out of reach"
        ) from error
    return Path(got)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def report_run(
    client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str], now: float | None = None
) -> Iterator[str]:
    """Open an MLflow run, yield its id, and close it: FINISHED, FAILED, or KILLED when the process stops.

    Args:
        experiment: its name; made when it is missing.
        now: seconds since the epoch; reports left open long before it are closed as KILLED first.
    """
    with explained_tracking():
        home = experiment_id(client, experiment)
        _close_stale(client, home, time.time() if now is None else now)
        run: str = client.create_run(home, run_name=name, tags=dict([*tags.items(), _OURS])).info.run_id
    status = "KILLED"
    try:
        with explained_tracking():
            yield run
        status = "FINISHED"
    except Exception as error:
        status = "FAILED"
        reason = str(error) if isinstance(error, ResunetError) else type(error).__name__
        with contextlib.suppress(*_UNANSWERED):
            client.set_tag(run, "error", reason[:500])
        raise
    finally:
        # Where the report has failed already, its own error is the one to show.
        with explained_tracking() if status == "FINISHED" else contextlib.suppress(*_UNANSWERED):
            client.set_terminated(run, status)


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of an experiment, which is made when it is missing.

    Raises:
        SettingsError: it is deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            # Another report may have made it in between.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise SettingsError(
            f"the MLflow experiment {name!r} is deleted: restore it, or set RESUNET_MONITORING_EXPERIMENT"
        )
    return str(found.experiment_id)


def _close_stale(client: MlflowClient, experiment_id: str, now: float) -> None:
    before = int((now - STALE_AFTER_S) * 1000)
    query = f"attributes.status = 'RUNNING' and attributes.start_time < {before} and tags.{_OURS[0]} = '{_OURS[1]}'"
    for run in client.search_runs([experiment_id], query, ViewType.ACTIVE_ONLY, max_results=100):
        client.set_terminated(run.info.run_id, "KILLED")

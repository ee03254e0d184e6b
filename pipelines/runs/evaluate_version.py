"""`evaluate`: the scores of a version that is there, registered or in a folder, on the test split of a data set.

evaluate_version("models:/resunet/Production", "nuclei", console=console)
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.model import MLMODEL_FILE_NAME
from rich.console import Console

from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.data.labelled import LabelledImages
from pipelines.data.leaks import find_leaks, refuse_leaks, trained_rows
from pipelines.data.manifest import fingerprint, read_manifest
from pipelines.progress import progress_bar
from pipelines.runs.tracking import log_evaluation
from pipelines.version.evaluate import evaluate, file_digests, known_slices
from pipelines.version.evaluation_report import check_scores_file, evaluation_table, write_scores
from records.digests import DIGESTS_FILE
from records.signing import verify_files
from records.tracking_file import why_not_opened
from registry.evidence import Evaluation
from registry.settings import RegistrySettings
from resunet.errors import DataError, SettingsError, VersionError
from serving.golden import check_golden
from serving.predictor import Predictor
from serving.pyfunc import VERSION_ARTIFACT
from serving.version import ANCESTORS_FILE, MANIFEST_FILE, SPEC_FILE


def evaluate_version(
    model: str,
    data: str = "",
    where: str = "",
    groups: str = "",
    console: Console | None = None,
    *,
    out: Path | None = None,
    slices: str = "",
    engine: str = "auto",
    seed: int = 0,
) -> Evaluation:
    """Score a version, registered or in a folder, on the test split of a data set, and print the table.

    They are logged to a run of their own where there is a tracking server. The gates do not read them: what they read
    is measured by `check`.

    Args:
        model: a model URI such as `models:/resunet/3`, or a folder.
        data: data set folder; empty takes the synthetic nuclei.
        where: slice filter such as `modality=fluorescence`.
        groups: another place for `groups.csv` than the data folder.
        console: where progress and the table go; None prints nothing.
        out: also write the scores here, see `write_scores`.
        slices: columns of `metadata.csv` to slice by, comma-separated; empty takes its text columns of few values.
        engine: auto, onnxruntime or openvino.
        seed: of the bootstrap.

    Raises:
        SettingsError: there is no such model, or `out` cannot be written.
        VersionError: its files are damaged or missing, or nobody who is trusted here signed them.
        DataError: its classes are not the data set's, or it was trained on one of the test images or of their groups.
    """
    if out is not None:
        check_scores_file(out)
    tracked: bool = mlflow.is_tracking_uri_set() or not Path(model).is_dir()
    if tracked and (reason := why_not_opened(mlflow.get_tracking_uri())):
        raise SettingsError(f"the tracking database: {reason}. Is MLFLOW_TRACKING_URI right?")
    with _version_folder(model) as (root, digest):
        predictor = Predictor.load(root, engine)
        check_golden(predictor, root)
        prepared = prepare_data(data, where, groups, console, slices)
        test = prepared.manifest[prepared.manifest["split"] == "test"]
        _refuse_other_classes(predictor, prepared)
        _refuse_training_images(root, test, prepared, console)
        samples = prepared.split("test")
        with progress_bar(console, "Evaluating", len(samples)) as advance:
            evaluation = evaluate(
                predictor,
                LabelledImages(samples),
                fingerprint=fingerprint(test),
                digests=file_digests(test),
                known_slices=known_slices(prepared.manifest),
                seed=seed,
                advance=advance,
            )
    if console is not None:
        console.print(evaluation_table(evaluation, f"{model} on the test split of {prepared.root.name}"))
    if out is not None:
        write_scores(evaluation, out)
    if tracked:
        log_evaluation(evaluation, model, digest, prepared)
    return evaluation


@contextmanager
def _version_folder(model: str) -> Iterator[tuple[Path, str]]:
    """The folder that holds `version.json`, downloaded if need be, and the digest of its files, which are checked."""
    with tempfile.TemporaryDirectory(prefix="resunet-evaluate-") as folder:
        root = Path(model)
        if not root.is_dir():
            try:
                root = Path(mlflow.artifacts.download_artifacts(artifact_uri=model, dst_path=folder))
            except (MlflowException, OSError) as error:
                reason = error.message if isinstance(error, MlflowException) else error.strerror
                raise SettingsError(
                    f"model: cannot get {model} ({reason}); give models:/<name>/<version or stage>, "
                    "with MLFLOW_TRACKING_URI set, or a folder"
                ) from error
        digest = _checked(model, root)
        for place in (root, root / "artifacts" / VERSION_ARTIFACT):
            if (place / SPEC_FILE).is_file():
                yield place, digest
                return
        raise VersionError(f"{model} holds no {SPEC_FILE}: it is not a version made by this platform")


def _checked(model: str, root: Path) -> str:
    """Digest of a model's files; empty for a folder outside a model, which has no list of them."""
    trust = RegistrySettings.load().trust
    if not any((root / name).is_file() for name in (MLMODEL_FILE_NAME, DIGESTS_FILE)):
        if not Path(model).is_dir():
            raise SettingsError(
                f"model: {model} is no model, whose files could be checked; give the model itself, as "
                "models:/<name>/<version or stage> or runs:/<run>/model, or a folder"
            )
        if trust is not None:
            raise VersionError(
                f"{model} is a bare folder, which nobody signed: evaluate the MLflow model that holds it, or unset "
                "RESUNET_TRUSTED_KEY and its like"
            )
        return ""
    try:
        return verify_files(root, trust)
    except VersionError as error:
        raise VersionError(f"{model}: {error}") from error


def _refuse_other_classes(predictor: Predictor, prepared: PreparedData) -> None:
    """Several classes are told apart by index, so names and order must be the same; one class may have any name."""
    known, given = tuple(predictor.spec.class_names), prepared.dataset.class_names
    if len(known) == len(given) == 1 or known == given:
        return
    advice = "give another data set"
    if len(known) == len(given):
        advice = f"bring its masks to that order and name them in classes.txt, one a line, or {advice}"
    raise DataError(
        f"the version knows the classes {', '.join(known)}; {prepared.root.name} has {', '.join(given)}: {advice}"
    )


def _refuse_training_images(root: Path, test: pd.DataFrame, prepared: PreparedData, console: Console | None) -> None:
    manifests = [read_manifest(root / MANIFEST_FILE)]
    if (root / ANCESTORS_FILE).is_file():
        manifests.append(read_manifest(root / ANCESTORS_FILE))
    refuse_leaks(
        find_leaks(test, trained_rows(manifests), prepared),
        "this version or an ancestor",
        console,
        "Remove them, with the others of their groups, or give another data set",
    )

"""How good a version is on the test split, through the file that serves.

evaluation = evaluate(predictor, LabelledImages(data.split("test")), fingerprint=fingerprint(test_rows))
evaluate_version("models:/resunet/Production", "nuclei", console=console)
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from rich.console import Console

from pipelines.data_step import PreparedData, prepare_data
from pipelines.evaluation_report import check_scores_file, evaluation_table, metric_name, write_scores
from pipelines.labelled import LabelledImage as LabelledImage
from pipelines.labelled import LabelledImages as LabelledImages
from pipelines.leaks import find_leaks, refuse_leaks, trained_rows
from pipelines.manifest import SLICE_PREFIX, fingerprint, read_manifest
from pipelines.progress import progress_bar
from pipelines.tracking import log_evaluation
from records.digests import DIGESTS_FILE, verify_digests
from registry.evidence import Evaluation, ImageScore, Interval, Metric, SliceResult
from resunet.errors import DataError, SettingsError, VersionError
from resunet.metrics import METRICS, bootstrap_interval, overlap_scores
from resunet.ranking import Ranking
from serving.golden import check_golden
from serving.predictor import Predictor
from serving.pyfunc import VERSION_ARTIFACT
from serving.version import ANCESTORS_FILE, MANIFEST_FILE, SPEC_FILE


class FileDigests(NamedTuple):
    """sha256 (hex) of an image file and of its mask's; empty where nobody knows."""

    image: str = ""
    mask: str = ""


def evaluate(
    predictor: Predictor,
    images: Iterable[LabelledImage],
    *,
    fingerprint: str,
    digests: Mapping[str, FileDigests] = MappingProxyType({}),
    known_slices: Iterable[str] = (),
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Score a version.

    Args:
        predictor: of the version, with its serving file.
        images: the test split.
        fingerprint: of the manifest's test rows.
        digests: of the files of each image, by path: by them a later version's images are known to be the same.
        known_slices: `column=value` of the whole data set; those without a test image are reported as such.
        seed: of the bootstrap.
        advance: told how many images were done.

    Raises:
        DataError: there is no image.
    """
    scores: list[ImageScore] = []
    groups: list[str | None] = []
    slices: list[Mapping[str, str]] = []
    for image in images:
        scores.append(_score(predictor, image, digests.get(image.path, FileDigests())))
        groups.append(image.group)
        slices.append(image.slices)
        advance(1)
    if not scores:
        raise DataError("the test split is empty: nothing can be said of this version; add images")
    members: dict[str, list[int]] = {}
    for index, values in enumerate(slices):
        for column, value in values.items():
            members.setdefault(f"{column}={value}", []).append(index)
    every = range(len(scores))
    return Evaluation(
        fingerprint=fingerprint,
        images=len(scores),
        overall=_intervals(scores, groups, every, seed),
        slices={
            name: SliceResult(images=len(rows), metrics=_intervals(scores, groups, rows, seed))
            for name, rows in sorted(members.items())
        },
        per_image=scores,
        unevaluated_slices=sorted(set(known_slices) - set(members)),
        serving_file=predictor.spec.serving_file,
        precision=predictor.spec.precision,
        engine=predictor.engine.name,
    )


def _score(predictor: Predictor, image: LabelledImage, digests: FileDigests) -> ImageScore:
    """Score one image; the network runs once, and its probabilities are ranked tile by tile."""
    ranking = Ranking(len(predictor.spec.class_names), image.mask.size)
    prediction = predictor.predict(
        image.rgb, on_tile=lambda tile, probabilities: ranking.add(probabilities, image.mask[tile.keep])
    )
    auc = ranking.auc()
    return ImageScore(
        path=image.path,
        sha256=digests.image,
        mask_sha256=digests.mask,
        group=image.group,
        slices=sorted(f"{column}={value}" for column, value in image.slices.items()),
        **overlap_scores(prediction.mask, image.mask),
        auc=None if np.isnan(auc) else auc,
        confidence=min(1.0, max(0.0, prediction.confidence)),
    )


def _intervals(
    scores: Sequence[ImageScore], groups: Sequence[str | None], rows: Iterable[int], seed: int
) -> dict[Metric, Interval]:
    """Mean and 95 % interval of each metric that has a value; whole groups are drawn."""
    rows = list(rows)
    intervals: dict[Metric, Interval] = {}
    for name in METRICS:
        values = [(getattr(scores[row], name), groups[row]) for row in rows]
        known = [(value, group) for value, group in values if value is not None]
        if not known:
            continue
        mean, low, high = bootstrap_interval([v for v, _ in known], [g for _, g in known], seed=seed)
        if len({(group, row if group is None else 0) for row, (_, group) in enumerate(known)}) < 2:
            low, high = 0.0, 1.0  # one image or one group says nothing of the next
        intervals[metric_name(name)] = Interval(mean=mean, low=low, high=high)
    return intervals


def known_slices(manifest: pd.DataFrame) -> list[str]:
    """Every `column=value` that a manifest knows, in alphabetical order."""
    columns = [column for column in manifest.columns if column.startswith(SLICE_PREFIX)]
    return sorted(
        f"{column.removeprefix(SLICE_PREFIX)}={value}"
        for column in columns
        for value in manifest[column].dropna().unique()
    )


def file_digests(manifest: pd.DataFrame) -> dict[str, FileDigests]:
    """The digests of every image and mask of a manifest, by the image's path."""
    rows = manifest[["path", "sha256", "mask_sha256"]].itertuples(index=False, name=None)
    return {path: FileDigests(image, mask or "") for path, image, mask in rows}


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
        VersionError: its files are damaged or missing.
        DataError: its classes are not the data set's, or it was trained on one of the test images or of their groups.
    """
    if out is not None:
        check_scores_file(out)
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
    tracked: bool = mlflow.is_tracking_uri_set()
    if tracked or not Path(model).is_dir():
        log_evaluation(evaluation, model, digest, prepared)
    return evaluation


@contextmanager
def _version_folder(model: str) -> Iterator[tuple[Path, str]]:
    """The folder that holds `version.json`, downloaded if need be, and the digest of its files if they are listed."""
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
        digest = verify_digests(root) if (root / DIGESTS_FILE).is_file() else ""
        for place in (root, root / "artifacts" / VERSION_ARTIFACT):
            if (place / SPEC_FILE).is_file():
                yield place, digest
                return
        raise VersionError(f"{model} holds no {SPEC_FILE}: it is not a version made by this platform")


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

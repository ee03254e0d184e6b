"""How good a version is on the test split, through the file that serves.

evaluation = evaluate(predictor, LabelledImages(data.split("test")), fingerprint=fingerprint(test_rows))
evaluate_version("models:/resunet/Production", "nuclei", console=console)
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipelines.data_step import PreparedData, prepare_data
from pipelines.dataset import Sample, load
from pipelines.manifest import SLICE_PREFIX, fingerprint, read_manifest
from pipelines.progress import progress_bar
from records.digests import DIGESTS_FILE, verify_digests
from registry.evidence import Evaluation, ImageScore, Interval, Metric, SliceResult
from resunet.errors import DataError, SettingsError, VersionError
from resunet.metrics import METRICS, bootstrap_interval, score
from serving.golden import check_golden
from serving.predictor import Predictor
from serving.pyfunc import VERSION_ARTIFACT
from serving.version import ANCESTORS_FILE, MANIFEST_FILE, SPEC_FILE


class LabelledImage(NamedTuple):
    """An image and its truth.

    Attributes:
        path: its name in the data set.
        group: what it has in common with others (patient, slide); None if it stands alone.
        slices: value of each slice column in which it has one.
        rgb: (H, W, 3) uint8.
        mask: (H, W) uint8 class index.
    """

    path: str
    group: str | None
    slices: Mapping[str, str]
    rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class LabelledImages:
    """Samples of a data set, decoded one at a time each time they are gone through."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[LabelledImage]:
        for sample in self._samples:
            yield LabelledImage(sample.file, sample.group, sample.slices, *load(sample))

    def only(self, paths: Iterable[str]) -> "LabelledImages":
        """Those of the images that are named, in the order of the names."""
        by_path = {sample.file: sample for sample in self._samples}
        return LabelledImages([by_path[path] for path in paths])


def evaluate(
    predictor: Predictor,
    images: Iterable[LabelledImage],
    *,
    fingerprint: str,
    known_slices: Iterable[str] = (),
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Score a version.

    Args:
        predictor: of the version, with its serving file.
        images: the test split.
        fingerprint: of the manifest's test rows.
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
        scores.append(_score(predictor, image))
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


def _score(predictor: Predictor, image: LabelledImage) -> ImageScore:
    prediction = predictor.predict(image.rgb)
    values = score(prediction.mask, image.mask, predictor.probabilities(image.rgb))
    auc = values.pop("auc")
    return ImageScore(
        path=image.path,
        **values,
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


def metric_name(name: str) -> Metric:
    """A name of `METRICS` as the type that `evaluation.json` is checked by; a test holds that they are the same."""
    return cast(Metric, name)


def known_slices(manifest: pd.DataFrame) -> list[str]:
    """Every `column=value` that a manifest knows, in alphabetical order."""
    columns = [column for column in manifest.columns if column.startswith(SLICE_PREFIX)]
    return sorted(
        f"{column.removeprefix(SLICE_PREFIX)}={value}"
        for column in columns
        for value in manifest[column].dropna().unique()
    )


def evaluate_version(
    model: str,
    data: str = "",
    where: str = "",
    groups: str = "",
    console: Console | None = None,
    *,
    engine: str = "auto",
    seed: int = 0,
) -> Evaluation:
    """Score a version, registered or in a folder, on the test split of a data set, and print the table.

    Args:
        model: a model URI such as `models:/resunet/3`, or a folder.
        data: data set folder; empty takes the synthetic nuclei.
        where: slice filter such as `modality=fluorescence`.
        groups: another place for `groups.csv` than the data folder.
        console: where progress and the table go; None prints nothing.
        engine: auto, onnxruntime or openvino.
        seed: of the bootstrap.

    Raises:
        SettingsError: there is no such model.
        VersionError: its files are damaged or missing.
        DataError: its classes are not the data set's, or it was trained on one of the test images.
    """
    with _version_folder(model) as root:
        predictor = Predictor.load(root, engine)
        check_golden(predictor, root)
        prepared = prepare_data(data, where, groups, console)
        test = prepared.manifest[prepared.manifest["split"] == "test"]
        _refuse_other_classes(predictor, prepared)
        _refuse_training_images(root, test)
        samples = prepared.split("test")
        with progress_bar(console, "Evaluating", len(samples)) as advance:
            evaluation = evaluate(
                predictor,
                LabelledImages(samples),
                fingerprint=fingerprint(test),
                known_slices=known_slices(prepared.manifest),
                seed=seed,
                advance=advance,
            )
    if console is not None:
        console.print(evaluation_table(evaluation, f"{model} on the test split of {prepared.root.name}"))
    return evaluation


@contextmanager
def _version_folder(model: str) -> Iterator[Path]:
    """The folder that holds `version.json`, downloaded if need be and checked against its list of files."""
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
        if (root / DIGESTS_FILE).is_file():
            verify_digests(root)
        for place in (root, root / "artifacts" / VERSION_ARTIFACT):
            if (place / SPEC_FILE).is_file():
                yield place
                return
        raise VersionError(f"{model} holds no {SPEC_FILE}: it is not a version made by this platform")


def _refuse_other_classes(predictor: Predictor, prepared: PreparedData) -> None:
    if len(predictor.spec.class_names) != prepared.classes:
        raise DataError(
            f"the version knows the classes {', '.join(predictor.spec.class_names)}; "
            f"{prepared.root.name} has {', '.join(prepared.dataset.class_names)}: give another data set"
        )


def _refuse_training_images(root: Path, test: pd.DataFrame) -> None:
    manifests = [read_manifest(root / MANIFEST_FILE)]
    if (root / ANCESTORS_FILE).is_file():
        manifests.append(read_manifest(root / ANCESTORS_FILE))
    trained: set[str] = set()
    for manifest in manifests:
        trained |= set(manifest.loc[manifest["split"] != "test", "pixels"])
    leaked = test.loc[test["pixels"].isin(trained), "path"].tolist()
    if leaked:
        raise DataError(
            f"{len(leaked)} of these test images were used to train this version or an ancestor (first: "
            f"{leaked[0]}): a metric on them would be a lie; remove them or give another data set"
        )


def evaluation_table(evaluation: Evaluation, title: str) -> Table:
    """An evaluation as a table: a row overall and a row a slice, each metric with its 95 % interval."""
    table = Table("", "images", title=f"{title}: mean (95 % interval)")
    metrics = [metric for metric in METRICS if metric_name(metric) in evaluation.overall]
    for metric in metrics:
        table.add_column(metric.replace("_", " "), no_wrap=True)
    rows: list[tuple[str, int, Mapping[Metric, Interval]]] = [("all", evaluation.images, evaluation.overall)]
    rows += [(name, part.images, part.metrics) for name, part in evaluation.slices.items()]
    for name, count, values in rows:
        cells = [format_interval(values.get(metric_name(metric))) for metric in metrics]
        table.add_row(name, str(count), *cells)
    for name in evaluation.unevaluated_slices:
        table.add_row(name, "0", "not evaluated", *[""] * (len(metrics) - 1))
    return table


def format_interval(interval: Interval | None) -> str:
    """`0.912 (0.900–0.925)`, or a dash where there is none."""
    return "–" if interval is None else f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"

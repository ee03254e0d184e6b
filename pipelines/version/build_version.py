"""From trained weights to a complete version directory, measured through the file that will serve.

built = build_version(directory, fitted, settings, data, ancestor=None, console=console)
built.evaluation.overall["dice"].mean
"""

from dataclasses import dataclass
from pathlib import Path

import mlflow
from matplotlib.figure import Figure
from rich.console import Console

from pipelines.data.data_step import PreparedData
from pipelines.data.labelled import LabelledImages, over_slices, showable
from pipelines.data.manifest import fingerprint, write_manifest
from pipelines.progress import progress_bar
from pipelines.training.ancestry import Ancestor
from pipelines.training.environment import Environment
from pipelines.training.fit import Fitted
from pipelines.training.repeat import WORKING_TREE_TAG
from pipelines.training.settings import FitSettings
from pipelines.version.calibrate import Validated, validate
from pipelines.version.evaluate import evaluate, file_digests, known_slices
from pipelines.version.export import export_graph, export_weights, tile_spec
from pipelines.version.figures import calibration_curve, confusion_matrix, learning_curves
from pipelines.version.golden_image import write_golden
from pipelines.version.model_card import CardFacts, model_card
from pipelines.version.overlays import overlay_sheet, overlays
from pipelines.version.parity import UNCALIBRATED
from pipelines.version.quantise import INT8_FILE, quantise
from pipelines.version.reference import build_reference, write_reference
from pipelines.version.serving_file import ServingChoice, choose_serving_file
from registry.evidence import Evaluation
from resunet.images import read_image
from resunet.networks import SegmentationNetwork
from serving.predictor import Predictor
from serving.version import (
    ANCESTORS_FILE,
    CARD_FILE,
    GRAPH_FILE,
    MANIFEST_FILE,
    REFERENCE_FILE,
    WEIGHTS_FILE,
    VersionSpec,
)


@dataclass(frozen=True)
class BuiltVersion:
    """A version directory that is ready to be logged, and what was learnt while making it."""

    directory: Path
    spec: VersionSpec
    evaluation: Evaluation
    choice: ServingChoice
    figures: dict[str, Figure]


def build_version(
    directory: Path,
    fitted: Fitted,
    settings: FitSettings,
    data: PreparedData,
    ancestor: Ancestor | None,
    console: Console,
) -> BuiltVersion:
    """Export, choose the serving file, calibrate, evaluate and describe.

    Args:
        directory: empty; everything that a version holds is written to it.
        fitted: what training ended with.
        settings: of that training.
        data: the data set it was trained on.
        ancestor: the version it started from.
        console: where progress goes.

    Raises:
        VersionError: the exported graph does not agree with the network.
        DataError: a split is empty.
    """
    console.print("exporting, choosing the serving file", style="dim")
    choice = _serving_file(directory, fitted.network, data, console)
    spec = _spec(settings, data, fitted.network, choice)
    spec.write(directory)
    spec, validated, predictor = _calibrate(directory, spec, data, console)
    export_weights(fitted.network, directory / WEIGHTS_FILE)
    write_manifest(data.manifest, directory / MANIFEST_FILE)
    if ancestor is not None:
        ancestor.manifests.to_parquet(directory / ANCESTORS_FILE, index=False)
    evaluation = _evaluate(predictor, data, console)
    evaluation.write(directory)
    _reference(predictor, data, directory, console)
    parent = ancestor.version if ancestor else ""
    origin = {"parent": parent, "environment": str(Environment.here()), **_origin()}
    card = model_card(CardFacts(settings, fitted, data, spec, evaluation, choice, **origin))
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    return BuiltVersion(directory, spec, evaluation, choice, _figures(predictor, fitted, validated, data))


def _serving_file(directory: Path, network: SegmentationNetwork, data: PreparedData, console: Console) -> ServingChoice:
    """Leave one graph in the directory: the one that serves."""
    fp32, int8 = directory / GRAPH_FILE, directory / INT8_FILE
    export_graph(network, data.classes, fp32)
    quantise(fp32, int8, (read_image(sample.image) for sample in over_slices(data.split("train"))))
    samples = over_slices(data.split("validation"))
    with progress_bar(console, "Comparing engines", 2 * len(samples)) as advance:
        choice = choose_serving_file(
            network, data.classes, LabelledImages(samples), fp32=fp32, int8=int8, advance=advance
        )
    for path in (fp32, int8):
        if path != choice.path:
            path.unlink()
    return choice


def _spec(
    settings: FitSettings, data: PreparedData, network: SegmentationNetwork, choice: ServingChoice
) -> VersionSpec:
    return VersionSpec(
        architecture=settings.architecture,
        width=settings.width,
        class_names=list(data.dataset.class_names),
        serving_file=choice.path.name,
        precision=choice.precision,
        tile=tile_spec(network),
        calibration=UNCALIBRATED,
        engines=choice.engines,
    )


def _calibrate(
    directory: Path, spec: VersionSpec, data: PreparedData, console: Console
) -> tuple[VersionSpec, Validated, Predictor]:
    """Calibrate through the engine that will serve; one that fails the golden image is no such engine."""
    samples = data.split("validation")
    while True:
        predictor = Predictor.load(directory)
        with progress_bar(console, "Calibrating", 2 * len(samples)) as advance:
            validated = validate(predictor, LabelledImages(samples), advance=advance)
        spec = spec.model_copy(update={"calibration": validated.calibration})
        spec.write(directory)
        spec = write_golden(directory, spec, showable(samples))
        calibrated = Predictor.load(directory)
        if calibrated.engine.name == predictor.engine.name:
            return spec, validated, calibrated


def _evaluate(predictor: Predictor, data: PreparedData, console: Console) -> Evaluation:
    samples = data.split("test")
    test = data.manifest[data.manifest["split"] == "test"]
    with progress_bar(console, "Evaluating", len(samples)) as advance:
        return evaluate(
            predictor,
            LabelledImages(samples),
            fingerprint=fingerprint(test),
            digests=file_digests(test),
            known_slices=known_slices(data.manifest),
            advance=advance,
        )


def _reference(predictor: Predictor, data: PreparedData, directory: Path, console: Console) -> None:
    splits = dict(zip(data.manifest["path"], data.manifest["split"], strict=True))
    with progress_bar(console, "Describing", len(data.dataset.samples)) as advance:
        rows = build_reference(predictor, data.dataset.samples, splits, advance=advance)
    write_reference(rows, directory / REFERENCE_FILE)


def _figures(predictor: Predictor, fitted: Fitted, validated: Validated, data: PreparedData) -> dict[str, Figure]:
    spec, shown = predictor.spec, showable(data.split("validation"))
    dice = {sample.file: validated.dice[sample.file] for sample in shown}
    return {
        "learning_curves": learning_curves(fitted.history, fitted.epochs),
        "overlays": overlay_sheet(overlays(predictor, LabelledImages(shown), dice)),
        "confusion_matrix": confusion_matrix(validated.confusion, spec.class_names),
        "calibration": calibration_curve(
            validated.before, validated.after, spec.calibration.temperature, binary=spec.binary
        ),
    }


def _origin() -> dict[str, str]:
    """What the run notes of the code and of the model it makes; nothing where there is no run."""
    active = mlflow.active_run()
    if active is None:
        return {}
    # What was noted since it began is not in the active run.
    noted = mlflow.get_run(active.info.run_id).data
    return {
        "commit": noted.tags.get("mlflow.source.git.commit", ""),
        "working_tree": noted.tags.get(WORKING_TREE_TAG, ""),
        "model_name": noted.params.get("model_name", ""),
    }

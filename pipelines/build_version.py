"""From trained weights to a complete version directory, measured through the file that will serve.

built = build_version(directory, fitted, settings, data, ancestor=None, console=console)
built.evaluation.overall["dice"].mean
"""

from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from pipelines.ancestry import Ancestor
from pipelines.calibrate import Validated, validate
from pipelines.data_step import PreparedData
from pipelines.evaluate import LabelledImages, evaluate, known_slices
from pipelines.export import export_graph, export_weights
from pipelines.figures import calibration_curve, confusion_matrix, learning_curves
from pipelines.fit import Fitted
from pipelines.manifest import fingerprint, write_manifest
from pipelines.model_card import CardFacts, model_card
from pipelines.overlays import overlay_sheet, overlays
from pipelines.progress import progress_bar
from pipelines.quantise import INT8_FILE, quantise
from pipelines.reference import build_reference, write_reference
from pipelines.serving_file import ServingChoice, choose_serving_file
from pipelines.settings import FitSettings
from registry.evidence import Evaluation
from resunet.images import read_image
from resunet.networks import SegmentationNetwork
from serving.golden import make_golden
from serving.predictor import Predictor
from serving.version import (
    ANCESTORS_FILE,
    CARD_FILE,
    GRAPH_FILE,
    MANIFEST_FILE,
    REFERENCE_FILE,
    WEIGHTS_FILE,
    Calibration,
    TileSpec,
    VersionSpec,
)

# Whole images up to this are one call to the engine; larger ones are cut. On a 2600² image at width 16, ONNX
# Runtime peaked at 444 MB with a core of 512 and at 949 MB with 1024.
WHOLE_SIDE, TILE_CORE = 1024, 512
# An architecture that cannot be tiled runs whole up to this; above it, a request is answered 413.
WHOLE_SIDE_UNTILEABLE = 2048
GOLDEN_SIDE = 256


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
    validated = _validate(Predictor.load(directory), data, console)
    spec = spec.model_copy(update={"calibration": validated.calibration})
    spec.write(directory)
    predictor = Predictor.load(directory)
    export_weights(fitted.network, directory / WEIGHTS_FILE)
    write_manifest(data.manifest, directory / MANIFEST_FILE)
    if ancestor is not None:
        ancestor.manifests.to_parquet(directory / ANCESTORS_FILE, index=False)
    evaluation = _evaluate(predictor, data, console)
    evaluation.write(directory)
    _reference(predictor, data, directory, console)
    make_golden(predictor, directory, _golden(data))
    parent = ancestor.version if ancestor else ""
    card = model_card(CardFacts(settings, fitted, data, spec, evaluation, choice, _commit(), parent))
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    return BuiltVersion(directory, spec, evaluation, choice, _figures(predictor, fitted, validated, data))


def _serving_file(directory: Path, network: SegmentationNetwork, data: PreparedData, console: Console) -> ServingChoice:
    """Leave one graph in the directory: the one that serves."""
    fp32, int8 = directory / GRAPH_FILE, directory / INT8_FILE
    export_graph(network, data.classes, fp32)
    training = (read_image(sample.image) for sample in data.split("train"))
    quantise(fp32, int8, training)
    samples = data.split("validation")
    with progress_bar(console, "Comparing engines", len(samples)) as advance:
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
    halo = network.halo
    tile = TileSpec(
        tileable=halo is not None,
        halo=halo or 0,
        stride=network.stride,
        core=TILE_CORE,
        whole_side=WHOLE_SIDE if halo is not None else WHOLE_SIDE_UNTILEABLE,
    )
    uncalibrated = Calibration(temperature=1, confidence_x=[0, 1], confidence_y=[0, 1], conformal_halfwidth=1, images=0)
    return VersionSpec(
        architecture=settings.architecture,
        width=settings.width,
        class_names=list(data.dataset.class_names),
        serving_file=choice.path.name,
        precision=choice.precision,
        tile=tile,
        calibration=uncalibrated,
        engines=choice.engines,
    )


def _validate(predictor: Predictor, data: PreparedData, console: Console) -> Validated:
    samples = data.split("validation")
    with progress_bar(console, "Calibrating", 2 * len(samples)) as advance:
        return validate(predictor, LabelledImages(samples), advance=advance)


def _evaluate(predictor: Predictor, data: PreparedData, console: Console) -> Evaluation:
    samples = data.split("test")
    test = data.manifest[data.manifest["split"] == "test"]
    with progress_bar(console, "Evaluating", len(samples)) as advance:
        return evaluate(
            predictor,
            LabelledImages(samples),
            fingerprint=fingerprint(test),
            known_slices=known_slices(data.manifest),
            advance=advance,
        )


def _reference(predictor: Predictor, data: PreparedData, directory: Path, console: Console) -> None:
    splits = dict(zip(data.manifest["path"], data.manifest["split"], strict=True))
    with progress_bar(console, "Describing", len(data.dataset.samples)) as advance:
        rows = build_reference(predictor, data.dataset.samples, splits, advance=advance)
    write_reference(rows, directory / REFERENCE_FILE)


def _figures(predictor: Predictor, fitted: Fitted, validated: Validated, data: PreparedData) -> dict[str, Figure]:
    spec = predictor.spec
    return {
        "learning_curves": learning_curves(fitted.history),
        "overlays": overlay_sheet(overlays(predictor, LabelledImages(data.split("validation")), validated.dice)),
        "confusion_matrix": confusion_matrix(validated.confusion, spec.class_names),
        "calibration": calibration_curve(
            validated.before, validated.after, spec.calibration.temperature, binary=spec.binary
        ),
    }


def _golden(data: PreparedData) -> NDArray[np.uint8]:
    """The centre of the first validation image, which shows foreground unless the data set hardly has any."""
    rgb = read_image(data.split("validation")[0].image)
    top, left = (max(0, (side - GOLDEN_SIDE) // 2) for side in rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + GOLDEN_SIDE, left : left + GOLDEN_SIDE])


def _commit() -> str:
    run = mlflow.active_run()
    return run.data.tags.get("mlflow.source.git.commit", "") if run is not None else ""

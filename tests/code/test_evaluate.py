"""Scores are of the masks that are served: whole or tiled, by slice, with intervals, under names that MLflow takes."""

import json
import tracemalloc
from pathlib import Path
from typing import get_args

import mlflow
import numpy as np
import pytest
from labelled_images import Counting, FourClasses, labelled, truth_of
from mlflow import MlflowClient
from version_factory import draw, write_version

from pipelines.data.labelled import LabelledImage
from pipelines.version.evaluate import evaluate
from pipelines.version.evaluation_report import MAX_METRIC_NAME, run_metrics, slice_keys
from registry.evidence import Evaluation, Metric
from resunet.errors import DataError
from resunet.metrics import METRICS, score
from serving.predictor import Predictor
from serving.version import VersionSpec


def _wide(evaluation: Evaluation) -> float:
    return evaluation.overall["dice"].high - evaluation.overall["dice"].low


def test_the_names_of_the_metrics_are_those_of_the_evidence() -> None:
    assert set(METRICS) == set(get_args(Metric))


def test_an_evaluation_scores_the_masks_that_are_served(predictor: Predictor) -> None:
    images = labelled(range(8))
    seen: list[int] = []
    evaluation = evaluate(predictor, images, fingerprint="sha256:x", advance=seen.append)
    assert sum(seen) == evaluation.images == 8
    for image, scored in zip(images, evaluation.per_image, strict=True):
        prediction = predictor.predict(image.rgb)
        expected = score(prediction.mask, image.mask, predictor.probabilities(image.rgb))
        assert scored.path == image.path
        assert {name: getattr(scored, name) for name in METRICS} == pytest.approx(expected)
        assert scored.confidence == pytest.approx(prediction.confidence)
    assert evaluation.overall["dice"].mean == pytest.approx(np.mean([s.dice for s in evaluation.per_image]))
    assert evaluation.overall["dice"].low < evaluation.overall["dice"].mean < evaluation.overall["dice"].high
    assert (evaluation.serving_file, evaluation.precision) == ("model.onnx", "fp32")
    assert evaluation.engine == "onnxruntime"


def test_slices_are_scored_alone_and_missing_ones_are_named(predictor: Predictor) -> None:
    images = labelled(range(4), stain="a") + labelled(range(4, 10), stain="b")
    known = ["stain=a", "stain=b", "stain=c"]
    evaluation = evaluate(predictor, images, fingerprint="x", known_slices=known)
    assert {name: part.images for name, part in evaluation.slices.items()} == {"stain=a": 4, "stain=b": 6}
    first = np.mean([s.dice for s in evaluation.per_image[:4]])
    assert evaluation.slices["stain=a"].metrics["dice"].mean == pytest.approx(first)
    assert evaluation.unevaluated_slices == ["stain=c"]


def test_images_of_one_group_count_as_one_draw(predictor: Predictor) -> None:
    dark, light = [3] * 8, [4] * 8
    images = [image._replace(path=f"{place}") for place, image in enumerate(labelled(dark + light))]
    grouped = [image._replace(group="abcdefgh"[place // 2]) for place, image in enumerate(images)]
    coarse = [image._replace(group="ab"[place // 8]) for place, image in enumerate(images)]
    widths = [_wide(evaluate(predictor, part, fingerprint="x")) for part in (images, grouped, coarse)]
    assert widths[0] < widths[1] < widths[2]


def test_one_image_or_one_group_says_nothing_of_the_next(predictor: Predictor) -> None:
    for images in (labelled([1]), labelled([1, 2, 3], groups=["g", "g", "g"])):
        interval = evaluate(predictor, images, fingerprint="x").overall["dice"]
        assert (interval.low, interval.high) == (0, 1)


def test_an_image_without_foreground_has_no_auc_and_spoils_nothing(predictor: Predictor) -> None:
    empty = LabelledImage("images/empty.png", None, {}, np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8))
    evaluation = evaluate(predictor, [*labelled(range(3)), empty], fingerprint="x")
    assert evaluation.per_image[-1].auc is None
    assert evaluation.per_image[-1].dice == 1
    known = [s.auc for s in evaluation.per_image[:3]]
    assert evaluation.overall["auc"].mean == pytest.approx(np.mean(known))
    assert "auc" not in evaluate(predictor, [empty], fingerprint="x").overall


def test_an_empty_split_is_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="test split is empty"):
        evaluate(predictor, [], fingerprint="x")


def test_several_classes_are_evaluated(tmp_path: Path) -> None:
    write_version(tmp_path, classes=3)
    predictor = Predictor.load(tmp_path, "onnxruntime")
    images = []
    for image in labelled(range(6)):
        truth = predictor.predict(image.rgb).mask.copy()
        truth[:8] = 0
        images.append(image._replace(mask=truth))
    evaluation = evaluate(predictor, images, fingerprint="x")
    assert 0.5 < evaluation.overall["dice"].mean < 1


def test_the_network_runs_once_an_image(predictor: Predictor) -> None:
    counting = Counting(predictor.engine)
    evaluate(Predictor(predictor.spec, counting), labelled(range(5)), fingerprint="x")
    assert counting.calls == 5


def test_a_large_image_is_evaluated_in_bounded_memory(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A float a pixel and class would be 100 MB of probabilities alone."""
    rgb = np.tile(draw(250, 250), (10, 10, 1))
    truth = truth_of(rgb)
    classes = VersionSpec.model_validate(predictor.spec.model_dump() | {"class_names": list("abcd")})

    monkeypatch.setattr("resunet.ranking.EXACT_VALUES", 0)
    large = Predictor(classes, FourClasses(predictor.engine))
    image = LabelledImage("images/large.png", None, {}, rgb, truth)
    tracemalloc.start()
    try:
        evaluation = evaluate(large, [image], fingerprint="x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert evaluation.per_image[0].auc is not None
    assert peak < 12 * rgb.shape[0] * rgb.shape[1]


def test_slices_that_would_share_a_metric_or_have_too_long_a_name_get_one_each() -> None:
    long = "é" * 300
    names = ["stain=H&E", "stain=H_E", "stain=DAPI", "stain=dapi", "site=a.b-c", f"site={long}", f"site={long}x"]
    keys = slice_keys(names)
    assert keys["site=a.b-c"] == "site.a.b-c"
    assert len({key.casefold() for key in keys.values()}) == len(names)
    assert keys["stain=H&E"].startswith("stain.H_E.") and keys["stain=H_E"].startswith("stain.H_E.")
    assert slice_keys(["stain=H&E"]) == {"stain=H&E": "stain.H_E"}


def test_mlflow_takes_the_metrics_of_slices_of_any_name(predictor: Predictor, tracking_uri: str) -> None:
    images = [
        image
        for seed, stain in enumerate(("H&E", "H_E", "x" * 400, "a/../b:c d", "μm²"))
        for image in labelled([seed], stain=stain)
    ]
    metrics = run_metrics(evaluate(predictor, images, fingerprint="x"))
    assert len([name for name in metrics if name.startswith("slice.") and name.endswith(".dice")]) == 5
    assert max(map(len, metrics)) <= MAX_METRIC_NAME
    client = MlflowClient(tracking_uri=tracking_uri)
    run = client.create_run("0").info.run_id
    client.log_batch(run, [mlflow.entities.Metric(name, value, 0, 0) for name, value in metrics.items()])
    assert client.get_run(run).data.metrics == pytest.approx(metrics)


def test_evaluation_survives_json(predictor: Predictor, tmp_path: Path) -> None:
    evaluation = evaluate(predictor, labelled(range(3)), fingerprint="x")
    evaluation.write(tmp_path)
    assert Evaluation.read(tmp_path) == evaluation
    assert json.loads((tmp_path / "evaluation.json").read_text())["images"] == 3

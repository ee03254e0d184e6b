"""A version's calibration: fitted through what serves, and honest about images that it never saw."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from labelled_images import FourClasses, labelled, truth_of
from version_factory import draw, make_spec, write_version

from pipelines.data.labelled import LabelledImage
from pipelines.version.calibrate import out_of_fold_residuals, validate
from resunet.confidence import apply_confidence_map, conformal_halfwidth, fit_confidence_map
from resunet.errors import DataError
from resunet.metrics import dice
from serving.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    root = tmp_path_factory.mktemp("a version")
    write_version(root)
    return Predictor.load(root, "onnxruntime")


def test_validation_fits_what_the_version_states(predictor: Predictor) -> None:
    images = labelled(range(30))
    validated = validate(predictor, images)
    calibration = validated.calibration
    assert calibration.images == 30
    fitted = Predictor(predictor.spec.model_copy(update={"calibration": calibration}), predictor.engine)
    predictions = [fitted.predict(image.rgb) for image in images]
    truth = [dice(p.mask, image.mask) for p, image in zip(predictions, images, strict=True)]
    assert list(validated.dice.values()) == pytest.approx(truth)
    assert np.mean([p.confidence for p in predictions]) == pytest.approx(np.mean(truth), abs=0.02)
    assert validated.after.error <= validated.before.error + 0.01
    assert validated.before.pixels.sum() == validated.after.pixels.sum() > 0
    rows = validated.confusion.sum(axis=1)
    assert rows.tolist() == [sum(int((i.mask == c).sum()) for i in images) for c in (0, 1)]


def test_the_fitted_temperature_does_not_depend_on_the_stored_one(predictor: Predictor) -> None:
    images = labelled(range(12))
    spec = make_spec(temperature=3.0)
    other = Predictor(spec, predictor.engine)
    assert validate(other, images).calibration == validate(predictor, images).calibration


def test_residuals_come_from_a_map_that_never_saw_the_image() -> None:
    soft = np.linspace(0.5, 0.95, 40)
    truth = soft - 0.05
    alone = out_of_fold_residuals(soft, truth, [None] * 40)
    in_fold = truth - [apply_confidence_map(*fit_confidence_map(soft, truth), s) for s in soft]
    assert np.abs(alone).max() > np.abs(in_fold).max()
    # Two images that share all their oddness: only together in a fold is it a surprise.
    soft = np.array([0.3, 0.3, *np.linspace(0.7, 0.95, 20)])
    truth = np.array([0.1, 0.1, *np.linspace(0.7, 0.95, 20)])
    groups: list[str | None] = ["odd", "odd", *[None] * 20]
    assert out_of_fold_residuals(soft, truth, groups)[0] < -0.5
    assert out_of_fold_residuals([0.5], [0.4], [None]).size == 0
    assert out_of_fold_residuals([0.5, 0.6], [0.4, 0.5], ["g", "g"]).size == 0


def test_the_conformal_interval_holds_nine_images_in_ten() -> None:
    rng = np.random.default_rng(0)
    held = []
    for seed in range(40):
        soft = rng.uniform(0.4, 1, 160)
        truth = np.clip(soft**2 + rng.normal(0, 0.08, 160), 0, 1)
        half = conformal_halfwidth(out_of_fold_residuals(soft[:80], truth[:80], [None] * 80, seed))
        x, y = fit_confidence_map(soft[:80], truth[:80])
        residuals = [t - apply_confidence_map(x, y, s) for s, t in zip(soft[80:], truth[80:], strict=True)]
        held.append(np.mean(np.abs(residuals) <= half))
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)


def test_several_classes_are_validated(tmp_path: Path) -> None:
    write_version(tmp_path, classes=3)
    predictor = Predictor.load(tmp_path, "onnxruntime")
    images = [image._replace(mask=predictor.predict(image.rgb).mask) for image in labelled(range(6))]
    validated = validate(predictor, images)
    assert validated.confusion.shape == (3, 3)
    assert validated.confusion.trace() == validated.confusion.sum() == 6 * 64 * 72
    assert set(validated.dice.values()) == {1.0}


def test_tiles_are_drawn_from_as_whole_images_are(predictor: Predictor) -> None:
    """Cut or not, the same pixels are looked at: 64x72 images, in tiles of 32 with what a 3x3 kernel sees around."""
    images = labelled(range(6))
    tiled = Predictor(make_spec(whole_side=40, core=32), predictor.engine)
    whole, cut = validate(predictor, images), validate(tiled, images)
    assert cut.calibration.temperature == pytest.approx(whole.calibration.temperature, abs=1e-3)
    np.testing.assert_array_equal(cut.before.pixels, whole.before.pixels)
    np.testing.assert_allclose(cut.before.observed, whole.before.observed)


def test_a_large_image_is_calibrated_on_in_bounded_memory(predictor: Predictor) -> None:
    """A float a pixel and class would be 100 MB."""
    rgb = np.tile(draw(250, 250), (10, 10, 1))
    spec = predictor.spec.model_copy(update={"class_names": list("abcd")})
    image = LabelledImage("images/large.png", None, {}, rgb, truth_of(rgb))
    tracemalloc.start()
    try:
        validate(Predictor(spec, FourClasses(predictor.engine)), [image])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 14 * rgb.shape[0] * rgb.shape[1]


def test_an_empty_validation_split_is_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="validation split is empty"):
        validate(predictor, [])

"""A version answers the same whole and tiled, in one thread and in many, and refuses what it cannot do."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from version_factory import draw, encode, make_spec, write_version

from resunet.confidence import apply_confidence_map, apply_temperature, soft_dice
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import SettingsError, VersionError
from resunet.images import read_mask
from resunet.tiling import tiles
from serving.cli import predict
from serving.engine import (
    Engine,
    EngineChoice,
    Images,
    Output,
    available_cores,
    choose_engine,
    default_threads,
    has_bf16,
    open_engine,
)
from serving.errors import TooLargeError, status_of
from serving.golden import check_golden
from serving.predictor import Predictor
from serving.settings import ServingSettings
from serving.version import GOLDEN_OUTPUT_FILE, SPEC_FILE, EngineMeasurement, EngineName

ENGINES: list[EngineName] = [n for n in ("onnxruntime", "openvino") if importlib.util.find_spec(n)]  # type: ignore[misc]
MEASURED = {name: EngineMeasurement(eligible=True, pixel_agreement=1, latency_ms=1) for name in ENGINES}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a version")
    write_version(root, spec=make_spec(engines=MEASURED))
    return root


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(97, 131), (16, 16), (256, 256)])
def test_a_prediction_is_the_thresholded_probability_with_its_words(
    version: Path, engine: str, size: tuple[int, int]
) -> None:
    predictor = Predictor.load(version, engine)
    rgb = draw(*size)
    prediction = predictor.predict(rgb)
    probability = predictor.probabilities(rgb)
    assert probability.shape == (1, *size) and probability.dtype == np.float32
    assert (prediction.mask == np.where(probability[0] >= 0.5, 255, 0)).all()
    assert (prediction.height, prediction.width) == size
    assert prediction.foreground_fractions == [pytest.approx((prediction.mask > 0).mean())]
    assert prediction.embedding.shape == (64,) and prediction.embedding.dtype == np.float32
    assert tuple(prediction.descriptors) == IMAGE_DESCRIPTORS
    assert tuple(prediction.prediction_descriptors) == PREDICTION_DESCRIPTORS
    assert prediction.prediction_descriptors["confidence"] == prediction.confidence
    assert prediction.engine == engine


def test_confidence_is_the_mapped_soft_dice_of_scaled_probabilities(version: Path) -> None:
    predictor = Predictor.load(version, "onnxruntime")
    rgb = draw(120, 200, seed=3)
    prediction = predictor.predict(rgb)
    scaled = apply_temperature(predictor.probabilities(rgb), predictor.spec.calibration.temperature)
    assert prediction.soft_dice == pytest.approx(soft_dice(scaled[0], prediction.mask), abs=1e-12)
    assert prediction.confidence == apply_confidence_map([0, 1], [0.1, 0.95], prediction.soft_dice)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("classes", [1, 3])
def test_tiled_equals_whole(tmp_path: Path, engine: str, classes: int) -> None:
    write_version(tmp_path, classes, make_spec(classes, whole_side=1000, engines=MEASURED))
    whole = Predictor.load(tmp_path, engine)
    cut = Predictor(make_spec(classes, whole_side=64, core=64), whole.engine)
    rgb = draw(233, 307, seed=5)
    one, other = whole.predict(rgb), cut.predict(rgb)
    assert (one.mask == other.mask).all()
    assert np.abs(whole.probabilities(rgb) - cut.probabilities(rgb)).max() < 1e-4
    assert other.soft_dice == pytest.approx(one.soft_dice, abs=1e-3)
    assert other.foreground_fractions == pytest.approx(one.foreground_fractions)
    assert other.prediction_descriptors == pytest.approx(one.prediction_descriptors, abs=1e-3)


def test_a_tiled_embedding_is_the_mean_by_area(version: Path) -> None:
    engine = open_engine("onnxruntime", version / "model.onnx", "fp32")
    rgb = draw(72, 200)
    rgb[:, 192:] = 255  # what little the last tiles keep must count for little
    cut = Predictor(make_spec(whole_side=64, core=64), engine).predict(rgb).embedding
    each = [(tile, engine.run(rgb[tile.read][None])[1][0]) for tile in tiles(72, 200, 64, 16, 8)]
    expected = sum(embedding * tile.kept_pixels / (72 * 200) for tile, embedding in each)
    assert np.allclose(cut, expected, atol=1e-5)
    plain = np.full((72, 200, 3), 90, np.uint8)
    whole = Predictor(make_spec(whole_side=256), engine)
    assert np.allclose(
        whole.predict(plain).embedding,
        Predictor(make_spec(whole_side=64), engine).predict(plain).embedding,
        atol=1e-4,
    )


def test_more_classes_take_the_likeliest(tmp_path: Path) -> None:
    write_version(tmp_path, classes=3)
    predictor = Predictor.load(tmp_path)
    rgb = draw(100, 100)
    prediction = predictor.predict(rgb)
    assert (prediction.mask == predictor.probabilities(rgb).argmax(axis=0)).all()
    assert set(np.unique(prediction.mask)) == {0, 1, 2}, "the image should hold every class"
    assert prediction.foreground_fractions == [pytest.approx((prediction.mask == index).mean()) for index in (1, 2)]
    scaled = apply_temperature(predictor.probabilities(rgb), 1.5)
    each = [soft_dice(scaled[index], prediction.mask == index) for index in (1, 2)]
    assert prediction.soft_dice == pytest.approx(np.mean(each), abs=1e-12)
    with pytest.raises(SettingsError, match="likeliest"):
        predictor.predict(rgb, threshold=0.5)


def test_the_threshold_moves_the_mask_and_is_checked(version: Path) -> None:
    predictor = Predictor.load(version)
    rgb = draw(64, 64)
    low, high = predictor.predict(rgb, 0.1), predictor.predict(rgb, 0.9)
    assert low.foreground_fractions[0] > high.foreground_fractions[0] > 0
    for wrong in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="between 0 and 1"):
            predictor.predict(rgb, wrong)


@pytest.mark.parametrize("size", [(64, 64), (300, 280)])
def test_a_caller_s_threshold_does_not_change_what_the_version_is_watched_by(
    version: Path, size: tuple[int, int]
) -> None:
    predictor = Predictor.load(version)
    rgb = draw(*size)
    own = predictor.predict(rgb)
    for threshold in (0.1, 0.9):
        asked = predictor.predict(rgb, threshold)
        assert (asked.mask == np.where(predictor.probabilities(rgb)[0] >= threshold, 255, 0)).all()
        assert asked.foreground_fractions == [pytest.approx((asked.mask > 0).mean())] != own.foreground_fractions
        assert asked.prediction_descriptors == own.prediction_descriptors
        assert (asked.confidence, asked.soft_dice) == (own.confidence, own.soft_dice)
    same = predictor.predict(rgb, predictor.spec.threshold)
    assert (same.mask == own.mask).all() and same.foreground_fractions == own.foreground_fractions


def test_a_network_that_cannot_be_tiled_refuses_what_is_too_large(version: Path) -> None:
    spec = make_spec(tileable=False, whole_side=64)
    predictor = Predictor(spec, open_engine("onnxruntime", version / "model.onnx", "fp32"))
    predictor.predict(draw(64, 64))
    with pytest.raises(TooLargeError, match=r"65 x 64 pixels.*at most 64") as refusal:
        predictor.predict(draw(64, 65))
    assert status_of(refusal.value) == 413


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_at_once_get_the_answers_they_would_get_alone(version: Path, engine: str) -> None:
    predictor = Predictor.load(version, engine)
    images = [draw(60 + 8 * (i % 5), 90, seed=i) for i in range(24)]
    alone = [predictor.predict(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(predictor.predict, images))
    for one, other in zip(alone, together, strict=True):
        assert (one.mask == other.mask).all()
        assert np.allclose(one.embedding, other.embedding, atol=1e-5)


def test_engines_agree(version: Path) -> None:
    if len(ENGINES) < 2:
        pytest.skip("only one engine is installed")
    rgb = draw(250, 250, seed=9)
    one, other = (Predictor.load(version, engine).predict(rgb) for engine in ENGINES)
    assert (one.mask == other.mask).mean() >= 0.9999


def test_auto_takes_the_fastest_eligible_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("serving.engine.is_installed", lambda name: True)
    slow = EngineMeasurement(eligible=True, pixel_agreement=1, latency_ms=9)
    fast = EngineMeasurement(eligible=True, pixel_agreement=1, latency_ms=3)
    wrong = EngineMeasurement(eligible=False, pixel_agreement=0.97, latency_ms=1)
    assert choose_engine(make_spec(engines={"onnxruntime": slow, "openvino": fast})) == "openvino"
    assert choose_engine(make_spec(engines={"onnxruntime": fast, "openvino": slow})) == "onnxruntime"
    assert choose_engine(make_spec(engines={"onnxruntime": slow, "openvino": wrong})) == "onnxruntime"
    assert choose_engine(make_spec(engines={})) == "onnxruntime"
    both = make_spec(engines={"onnxruntime": slow, "openvino": fast})
    monkeypatch.setattr("serving.engine.is_installed", lambda name: name == "onnxruntime")
    assert choose_engine(both) == "onnxruntime"
    monkeypatch.setattr("serving.engine.is_installed", lambda name: True)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert choose_engine(both) == "onnxruntime"
    assert choose_engine(both, "openvino") == "openvino"


def test_an_engine_that_is_wrong_unmeasured_unknown_or_absent_is_refused(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = EngineMeasurement(eligible=False, pixel_agreement=0.97, latency_ms=1)
    with pytest.raises(SettingsError, match=r"97\.0000%"):
        choose_engine(make_spec(engines={"openvino": wrong}), "openvino")
    with pytest.raises(SettingsError, match="openvino was never measured with this version"):
        choose_engine(make_spec(), "openvino")
    assert choose_engine(make_spec(engines={}), "onnxruntime") == "onnxruntime"
    with pytest.raises(SettingsError, match="unknown engine"):
        choose_engine(make_spec(), "tensorrt")
    monkeypatch.setattr("serving.engine.is_installed", lambda name: False)
    with pytest.raises(SettingsError, match="pip install openvino"):
        open_engine("openvino", version / "model.onnx", "fp32")


@pytest.mark.skipif("openvino" not in ENGINES, reason="openvino is not installed")
@pytest.mark.parametrize(("precision", "hint"), [("fp32", "float32"), ("int8", "float32"), ("bf16", "bfloat16")])
def test_openvino_runs_in_the_precision_that_was_measured(version: Path, precision: str, hint: str) -> None:
    if precision == "bf16" and not has_bf16():
        hint = "float32"
    engine = open_engine("openvino", version / "model.onnx", precision)  # type: ignore[arg-type]
    request = engine._pool.get()  # type: ignore[attr-defined]
    assert hint in str(request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT"))


def test_a_missing_or_broken_graph_says_so(version: Path, tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="missing"):
        open_engine("onnxruntime", tmp_path / "model.onnx", "fp32")
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    for engine in ENGINES:
        with pytest.raises(VersionError, match=r"cannot read model\.onnx"):
            open_engine(engine, tmp_path / "model.onnx", "fp32")  # type: ignore[arg-type]


def test_the_golden_output_must_be_reproduced(tmp_path: Path) -> None:
    write_version(tmp_path)
    predictor = Predictor.load(tmp_path)
    check_golden(predictor, tmp_path)
    with np.load(tmp_path / GOLDEN_OUTPUT_FILE) as stored:
        good = dict(stored)

    def altered(**changes: object) -> None:
        np.savez_compressed(tmp_path / GOLDEN_OUTPUT_FILE, **(good | changes))  # type: ignore[arg-type]

    mask = good["mask"].copy()
    mask[0, 0] ^= 255
    altered(mask=mask)
    check_golden(predictor, tmp_path)
    mask[0, :3] = 255 - good["mask"][0, :3]
    altered(mask=mask)
    with pytest.raises(VersionError, match="golden mask"):
        check_golden(predictor, tmp_path)
    mask[:2] = 255 - good["mask"][:2]
    altered(mask=mask)
    for name in ("soft_dice", "confidence", "foreground_fractions", "embedding"):
        altered(**{name: good[name] + 0.01 * max(1, np.linalg.norm(good["embedding"]))})
        with pytest.raises(VersionError, match=f"golden {name}"):
            check_golden(predictor, tmp_path)
    altered(mask=mask[:-1])
    with pytest.raises(VersionError, match="golden mask"):
        check_golden(predictor, tmp_path)
    (tmp_path / GOLDEN_OUTPUT_FILE).write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(VersionError, match="cannot be read"):
        check_golden(predictor, tmp_path)


@dataclass(frozen=True)
class _CalledOpenVino:
    """An engine under another name."""

    engine: Engine
    name: EngineChoice = "openvino"

    def run(self, images: Images) -> Output:
        return self.engine.run(images)


@pytest.mark.parametrize(("in_bf16", "engine"), [(True, "openvino"), (False, "openvino"), (True, "onnxruntime")])
def test_only_what_is_computed_in_bf16_may_round_as_bf16_does(
    in_bf16: bool, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden answers are those of fp32, and so are a bf16 version's where there is no bf16 to compute in."""
    monkeypatch.setattr("serving.engine.has_bf16", lambda: in_bf16)
    write_version(tmp_path)
    plain = Predictor.load(tmp_path, "onnxruntime").engine
    spec = make_spec().model_copy(update={"precision": "bf16"})
    rounded = Predictor(spec, plain if engine == "onnxruntime" else _CalledOpenVino(plain))
    with np.load(tmp_path / GOLDEN_OUTPUT_FILE) as stored:
        good = dict(stored)

    def refused(**changes: object) -> bool:
        np.savez_compressed(tmp_path / GOLDEN_OUTPUT_FILE, **(good | changes))  # type: ignore[arg-type]
        try:
            check_golden(rounded, tmp_path)
        except VersionError:
            return True
        return False

    mask = good["mask"].copy()
    mask[0, :3] ^= 255
    length = max(1, np.linalg.norm(good["embedding"]))
    as_bf16 = {"mask": mask, "embedding": good["embedding"] + 5e-3 * length}
    as_bf16 |= {name: good[name] + 5e-3 for name in ("soft_dice", "confidence")}
    for name, value in as_bf16.items():
        assert refused(**{name: value}) == (not in_bf16 or engine == "onnxruntime"), name
    fractions = good["foreground_fractions"]
    assert refused(foreground_fractions=fractions + 2e-3) and not refused(foreground_fractions=fractions + 5e-4)
    mask[:2] ^= 255
    assert refused(mask=mask)


def test_an_unknown_format_version_is_refused(tmp_path: Path) -> None:
    write_version(tmp_path)
    content = json.loads((tmp_path / SPEC_FILE).read_text()) | {"format_version": 2}
    (tmp_path / SPEC_FILE).write_text(json.dumps(content))
    with pytest.raises(VersionError, match="format_version"):
        Predictor.load(tmp_path)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_ENGINE", "openvino")
    monkeypatch.setenv("RESUNET_THREADS", "3")
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", "sqlite:///secret.db")
    settings = ServingSettings.load()
    assert (settings.engine, settings.threads, settings.max_image_mb) == ("openvino", 3, 512)
    assert "secret" not in repr(settings)
    monkeypatch.setenv("RESUNET_THREADS", "many")
    with pytest.raises(SettingsError, match="RESUNET_THREADS"):
        ServingSettings.load()


def test_threads_are_sized_to_what_the_process_may_use() -> None:
    assert available_cores() >= 1


@pytest.mark.parametrize(("told", "threads"), [("1", 1), ("1,4", 1), ("0", None), ("", None), ("many", None)])
def test_who_shares_a_machine_says_how_many_threads_compute(
    told: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert default_threads() == (threads or available_cores())
    monkeypatch.setenv("OMP_NUM_THREADS", "10000")
    assert default_threads() == available_cores()


def test_a_mask_that_would_cost_the_image_or_cannot_be_written_is_refused_before_the_model_is_loaded(
    tmp_path: Path,
) -> None:
    image, nowhere = tmp_path / "a.png", tmp_path / "no version"
    image.write_bytes(encode(draw(32, 32)))
    before = image.read_bytes()
    (tmp_path / "link.png").symlink_to(image)
    (tmp_path / "twin.png").hardlink_to(image)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "sub").mkdir()
    for mask in (image, tmp_path / "sub" / ".." / "a.png", tmp_path / "link.png", tmp_path / "twin.png"):
        with pytest.raises(SettingsError, match="is the image itself, which would be lost"):
            predict(image, mask, nowhere)
    for name, why in (("folder.png", "it is a folder"), ("away/m.png", "no folder"), ("a.png/m.png", "no folder")):
        with pytest.raises(SettingsError, match=f"cannot be written: .*{why}"):
            predict(image, tmp_path / name, nowhere)
    for name in ("m.jpg", "m"):
        with pytest.raises(SettingsError, match=r"written as PNG: name it something\.png"):
            predict(image, tmp_path / name, nowhere)
    assert image.read_bytes() == before and not (tmp_path / "m.jpg").exists()


def test_a_mask_is_written_beside_the_image(version: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(draw(32, 32)))
    predict(tmp_path / "a.png", tmp_path / "m.PNG", version, "onnxruntime")
    assert read_mask(tmp_path / "m.PNG").shape == (32, 32)
    (tmp_path / "full.png").symlink_to("/dev/full")
    with pytest.raises(SettingsError, match=r"full\.png cannot be written: No space left on device"):
        predict(tmp_path / "a.png", tmp_path / "full.png", version, "onnxruntime")

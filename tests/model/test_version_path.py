"""A version of every kind goes the whole way: export, int8, choice, calibration, golden image, evaluation, card."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from disc_images import write_data
from numpy.typing import NDArray
from rich.console import Console

from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.data.labelled import LabelledImages, over_slices
from pipelines.data.manifest import pixel_digest
from pipelines.runs.evaluate_version import evaluate_version
from pipelines.training.batches import sample_store
from pipelines.training.fit import Fitted, fit
from pipelines.training.settings import FitSettings
from pipelines.version.build_version import BuiltVersion, build_version
from pipelines.version.golden_image import SIDE, write_golden
from registry.evidence import Evaluation
from resunet.errors import VersionError
from resunet.images import read_image
from serving.engine import has_bf16
from serving.golden import check_golden
from serving.predictor import Predictor
from serving.version import GOLDEN_INPUT_FILE, REFERENCE_FILE, EngineName, VersionSpec

KINDS = {"resunet": 1, "resunetpp": 1, "resunet of 3 classes": 3}


@dataclass(frozen=True)
class Made:
    """A version that was trained for a few seconds on images of 64 px."""

    settings: FitSettings
    fitted: Fitted
    data: PreparedData
    built: BuiltVersion

    @property
    def spec(self) -> VersionSpec:
        return VersionSpec.read(self.built.directory)

    @property
    def eligible(self) -> list[EngineName]:
        return [name for name, measured in self.spec.engines.items() if measured.eligible]


@pytest.fixture(scope="module", params=list(KINDS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("a version")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESUNET_HOME", str(folder / "home"))
        data = prepare_data(str(write_data(folder / "data", KINDS[request.param])))
    settings = FitSettings.checked(
        architecture=request.param.split()[0],
        width=4,
        classes=data.classes,
        crop=48,
        batch_size=4,
        max_steps=90,
        evaluations=2,
        precision="fp32",
    )
    fitted = fit(
        settings,
        sample_store(data.split("train"), data.manifest, 100),
        sample_store(data.split("validation"), data.manifest, 100),
    )
    root = folder / "version"
    root.mkdir()
    return Made(settings, fitted, data, build_version(root, fitted, settings, data, None, Console(quiet=True)))


def test_it_learnt_and_everything_was_measured(made: Made) -> None:
    evaluation = Evaluation.read(made.built.directory)
    assert evaluation.overall["dice"].mean > 0.8
    assert evaluation.overall["auc"].mean > 0.9
    assert set(evaluation.slices) == {"stain=a", "stain=b"}
    assert made.spec.class_names == list(made.data.dataset.class_names)
    assert made.spec.calibration.images == len(made.data.split("validation"))
    assert {c.precision for c in made.built.choice.candidates} >= {"fp32", "int8"}
    assert made.built.choice.images == len(made.data.split("validation"))
    assert (made.built.directory / REFERENCE_FILE).is_file()
    assert set(made.built.figures) == {"learning_curves", "overlays", "confusion_matrix", "calibration"}


def test_every_precision_gives_the_masks_of_torch_fp32(made: Made) -> None:
    candidates = made.built.choice.candidates
    assert {c.precision for c in candidates} == {"fp32", "int8"} | ({"bf16"} if has_bf16() else set())
    assert min(c.pixel_agreement for c in candidates if c.precision != "int8") >= 0.9999, candidates
    assert min(c.lowest_mask_dice for c in candidates) >= 0.98, candidates
    assert min(c.engine_agreement for c in candidates) >= 0.9999, candidates


def test_scores_name_the_bytes_that_they_are_of(made: Made) -> None:
    rows = made.data.manifest.set_index("path")
    for score in made.built.evaluation.per_image:
        assert (score.sha256, score.mask_sha256) == tuple(rows.loc[score.path, ["sha256", "mask_sha256"]])


def test_every_engine_that_may_serve_reproduces_the_golden_image(made: Made) -> None:
    assert "onnxruntime" in made.eligible
    assert read_image(made.built.directory / GOLDEN_INPUT_FILE).shape == (SIDE, SIDE, 3)
    for engine in made.eligible:
        predictor = Predictor.load(made.built.directory, engine)
        check_golden(predictor, made.built.directory)
        assert 0 < sum(predictor.predict(read_image(made.built.directory / GOLDEN_INPUT_FILE)).foreground_fractions) < 1


def test_int8_and_the_comparison_of_engines_begin_with_every_slice(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[str]] = {}

    class SeenError(Exception):
        pass

    def quantise(source: Path, target: Path, images: Iterator[NDArray[np.uint8]]) -> None:
        named = {pixel_digest(read_image(sample.image)): sample.file for sample in made.data.dataset.samples}
        seen["train"] = [named[pixel_digest(image)] for image in images]

    def choose(network: object, classes: int, images: LabelledImages, **_: object) -> None:
        seen["validation"] = [image.path for image in images]
        raise SeenError

    # The graph is not looked at here, and took longer than all the rest.
    monkeypatch.setattr("pipelines.version.build_version.export_graph", lambda *_: None)
    monkeypatch.setattr("pipelines.version.build_version.quantise", quantise)
    monkeypatch.setattr("pipelines.version.build_version.choose_serving_file", choose)
    with pytest.raises(SeenError):
        build_version(tmp_path, made.fitted, made.settings, made.data, None, Console(quiet=True))
    for split in ("train", "validation"):
        assert seen[split] == [sample.file for sample in over_slices(made.data.split(split))]


def test_evaluating_it_again_gives_the_same_scores(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    again = evaluate_version(str(made.built.directory), str(made.data.root))
    before = made.built.evaluation
    assert [score.path for score in again.per_image] == [score.path for score in before.per_image]
    assert [score.dice for score in again.per_image] == pytest.approx([score.dice for score in before.per_image])
    assert again.fingerprint == before.fingerprint


def test_its_card_tells_what_it_is(made: Made) -> None:
    card = (made.built.directory / "model_card.md").read_text()
    spec = made.spec
    named = "one class, `foreground`" if spec.binary else "3 classes: `background`, `white`, `blue`"
    assert named in card
    assert ("ResUNet++" in card) == (spec.architecture == "resunetpp")
    assert ("looks at the whole image at once" in card) == (not spec.tile.tileable)
    assert f"| {made.built.choice.precision} | " in card and "nan" not in card


def test_an_engine_that_fails_every_golden_image_may_not_serve(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "openvino" not in made.eligible:
        pytest.skip("OpenVINO may not serve this version anyway")
    tried: list[NDArray[np.uint8]] = []

    def check(predictor: Predictor, root: Path) -> None:
        if predictor.engine.name == "openvino":
            tried.append(read_image(root / GOLDEN_INPUT_FILE))
            raise VersionError("other pixels")

    directory = tmp_path / "version"
    directory.mkdir()
    for file in made.built.directory.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("pipelines.version.golden_image.check_golden", check)
    spec = write_golden(directory, made.spec, made.data.split("validation"))
    assert (spec.engines["openvino"].eligible, spec.engines["onnxruntime"].eligible) == (False, True)
    assert VersionSpec.read(directory) == spec
    assert len(tried) > 1 and not np.array_equal(tried[0], tried[1])
    assert Predictor.load(directory).engine.name == "onnxruntime"
    check_golden(Predictor.load(directory), directory)

"""A version's images run together where that changes no mask, and every run of its engine is told of."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
from version_factory import draw, write_version

from records.digests import write_digests
from serving.batching import BatchingEngine, agreement
from serving.budget import WorkBudget
from serving.engine import Engine, Images, Output, open_engine
from serving.gateway.fleet import Fleet
from serving.gateway.loading import Batching, batched
from serving.predictor import Predictor
from serving.settings import ServingSettings
from serving.version import EngineName

ENGINES: list[EngineName] = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name)]


class Sociable:
    """An engine whose probabilities rise with its company; for real ones it is a rounding that differs."""

    name: EngineName = "onnxruntime"

    def __init__(self, inner: Engine, company: int) -> None:
        self.inner, self.company = inner, company

    def run(self, images: Images) -> Output:
        probabilities, embedding = self.inner.run(images)
        if len(images) == self.company:
            probabilities[-1] += np.float32(0.2)
        return probabilities, embedding


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a version") / "version"
    write_version(root)
    return root


@pytest.mark.parametrize("company", [2, 3, 4])
def test_an_engine_whose_masks_depend_on_company_is_not_batched(
    version: Path, company: int, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Predictor.load(version, "onnxruntime")
    predictor = Predictor(plain.spec, Sociable(plain.engine, company))
    with caplog.at_level(logging.WARNING):
        assert batched(predictor, version, Batching(most=4)) is predictor
    assert [record.message for record in caplog.records] == [
        "images are not run together: with onnxruntime a mask depends on its company"
    ]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("classes", [1, 3])
def test_real_engines_agree_with_themselves(name: EngineName, classes: int, tmp_path: Path) -> None:
    spec = write_version(tmp_path, classes)
    engine = open_engine(name, tmp_path / spec.serving_file, spec.precision)
    assert agreement(engine, spec, draw(64, 80), most=4) == 1.0


def test_a_version_is_batched_where_it_is_asked_for(version: Path) -> None:
    plain = Predictor.load(version, "onnxruntime")
    together = batched(plain, version, Batching(most=4))
    assert isinstance(together.engine, BatchingEngine)
    rgb = draw(64, 80)
    assert (together.predict(rgb).mask == plain.predict(rgb).mask).all()


@pytest.mark.parametrize("most", [1, 4])
def test_a_gateway_s_fleet_tells_every_run_of_its_engines(tmp_path: Path, most: int) -> None:
    write_version(tmp_path / "artifacts" / "version")
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    write_digests(tmp_path)
    (tmp_path / "registered_model_meta").write_text("model_name: resunet\nmodel_version: 1\n")
    told = list[int]()
    settings, budget = ServingSettings(engine="onnxruntime"), WorkBudget(4, 30)
    fleet = Fleet(settings, budget, lambda loaded, lane: None, 1, Batching(most), told.append)
    fleet.prepare("production", tmp_path)
    fleet.switch("production")
    live = fleet.on("production")
    assert live is not None
    before = len(told)
    live.loaded.predictor.predict(draw(64, 64))
    assert told[before:] == [1] and fleet.waiting_images == 0

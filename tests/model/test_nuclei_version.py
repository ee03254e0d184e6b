"""Real microscopy goes the whole way: a network of a few seconds' training is measured through the file that serves."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from pipelines.data.data_step import prepare_data
from pipelines.training.batches import sample_store
from pipelines.training.fit import fit
from pipelines.training.settings import FitSettings
from pipelines.version.build_version import build_version
from registry.evidence import Evaluation
from resunet.images import read_image
from serving.golden import check_golden
from serving.predictor import Predictor

NUCLEI = Path(__file__).resolve().parents[3] / "shared" / "data" / "nuclei"
# Enough for a version; all of them would take minutes.
IMAGES = {"fluorescence": 36, "histology": 4}


def _some_nuclei(folder: Path) -> Path:
    """A data folder with the first images of each modality, as they are."""
    table = pd.read_csv(NUCLEI / "metadata.csv")
    chosen = pd.concat([table[table["modality"] == modality].head(count) for modality, count in IMAGES.items()])
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
        for file in chosen["file"]:
            shutil.copyfile(NUCLEI / kind / file, folder / kind / file)
    chosen.to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.mark.nuclei
def test_a_version_of_real_images_finds_their_nuclei(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not NUCLEI.is_dir():
        assert not os.environ.get("RESUNET_REQUIRE_NUCLEI"), "the nuclei data set is missing"
        pytest.skip("needs ../shared/data/nuclei")
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    data = prepare_data(str(_some_nuclei(tmp_path / "some nuclei")), where="modality=fluorescence")
    assert len(data.manifest) == IMAGES["fluorescence"] and data.report.problems == ()
    settings = FitSettings.checked(width=4, crop=64, max_steps=120, evaluations=2, precision="fp32")
    train, validation = (sample_store(data.split(name), data.manifest, 1000) for name in ("train", "validation"))
    train.warm()
    validation.warm()
    root = tmp_path / "version"
    root.mkdir()
    build_version(root, fit(settings, train, validation), settings, data, None, Console(quiet=True))
    dice = Evaluation.read(root).overall["dice"]
    assert dice.mean > 0.75, dice
    predictor = Predictor.load(root)
    check_golden(predictor, root)
    image = read_image(data.split("test")[0].image)
    prediction = predictor.predict(image)
    assert prediction.mask.shape == image.shape[:2]
    assert 0 < sum(prediction.foreground_fractions) < 0.9

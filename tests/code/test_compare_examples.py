"""`pipelines compare-examples`: pictures of what two versions make of the same images."""

from pathlib import Path

import numpy as np
import pytest
from labelled_images import truth_of
from PIL import Image
from version_factory import draw, make_spec, write_graph, write_version

from pipelines.compare_examples import SIDE, draw_examples
from pipelines.data.dataset import read_dataset
from pipelines.data.manifest import build_manifest, write_manifest
from records.digests import write_digests
from registry.evidence import VERSION_FOLDER
from registry.reports.examples import PICTURES, SHEET_FILE, Sheet
from resunet.errors import DataError, VersionError
from resunet.metrics import dice
from serving.engine import open_engine
from serving.golden import make_golden
from serving.predictor import Predictor
from serving.version import MANIFEST_FILE

IMAGES = ("images/0.png", "images/1.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for seed in range(3):
        rgb = draw(64, 96, seed)
        Image.fromarray(rgb).save(root / "images" / f"{seed}.png")
        Image.fromarray(truth_of(rgb) * np.uint8(255)).save(root / "masks" / f"{seed}.png")
    return root


def model(folder: Path, data: Path, seed: int) -> Path:
    """A version whose graph depends on a seed."""
    root = folder / VERSION_FOLDER
    spec = write_version(root, spec=make_spec())
    write_graph(root / spec.serving_file, seed=seed)
    make_golden(Predictor(spec, open_engine("onnxruntime", root / spec.serving_file, "fp32")), root, draw(128, 160))
    write_manifest(build_manifest(read_dataset(data)), root / MANIFEST_FILE)
    write_digests(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return model(folder / "first", data, 0), model(folder / "second", data, 1)


def test_each_image_has_its_four_pictures_of_one_size(models: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    sheet = draw_examples(*models, str(data), IMAGES, tmp_path / "out")
    assert Sheet.model_validate_json((tmp_path / "out" / SHEET_FILE).read_bytes()) == sheet
    assert ([one.path for one in sheet.examples], sheet.skipped) == (list(IMAGES), [])
    for one in sheet.examples:
        assert tuple(one.pictures) == PICTURES
        for name in one.pictures.values():
            with Image.open(tmp_path / "out" / name) as picture:
                assert (picture.format, picture.size) == ("PNG", (one.width, one.height))
        assert (one.width, one.height) == (SIDE, round(SIDE * 64 / 96))


def test_dice_is_that_of_each_version_on_the_image(models: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    (one,) = draw_examples(*models, str(data), IMAGES[:1], tmp_path).examples
    rgb = draw(64, 96, 0)
    for root, found in zip(models, (one.first, one.second), strict=True):
        mask = Predictor.load(root / VERSION_FOLDER).predict(rgb).mask
        assert found == pytest.approx(dice(mask, truth_of(rgb)))
    assert one.first != one.second


def test_wrong_pixels_are_red_and_right_ones_are_not(models: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    (one,) = draw_examples(*models, str(data), IMAGES[:1], tmp_path).examples
    rgb = draw(64, 96, 0)
    truth = truth_of(rgb)
    for root, kind in zip(models, ("first", "second"), strict=True):
        wrong = (Predictor.load(root / VERSION_FOLDER).predict(rgb).mask > 0) != truth
        with Image.open(tmp_path / one.pictures[kind]) as opened:
            picture = np.asarray(opened.convert("RGB"), np.int16)
        # Discs of one grey: any red that is not the outline's orange is a judgement.
        red = (picture[..., 0] - picture[..., 1] > 60) & (picture[..., 2] < 110) & (picture[..., 1] < 110)
        small = np.asarray(Image.fromarray(red).resize((96, 64), Image.Resampling.BOX))
        assert wrong.any()
        assert small[wrong].mean() > 5 * small[~wrong].mean()


def test_an_image_that_was_exchanged_or_lost_is_skipped_and_the_others_are_shown(
    models: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    for folder in ("images", "masks"):
        (changed / folder).mkdir(parents=True)
        for seed in (0, 1):
            content = (data / folder / f"{seed}.png").read_bytes()
            (changed / folder / f"{seed}.png").write_bytes(content)
    Image.fromarray(draw(64, 96, 9)).save(changed / "images" / "0.png")
    sheet = draw_examples(*models, str(changed), [*IMAGES, "images/2.png"], tmp_path / "out")
    assert [one.path for one in sheet.examples] == ["images/1.png"]
    assert {one.path: one.why for one in sheet.skipped} == {
        "images/0.png": "the data set holds another image or mask of that name",
        "images/2.png": "it is not in the data set, or has no mask there",
    }


def test_files_that_are_not_those_that_were_made_are_refused(
    models: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    altered = model(tmp_path / "altered", data, 0)
    (altered / VERSION_FOLDER / "more.txt").write_text("x")
    with pytest.raises(VersionError, match=r"not listed: 'artifacts/version/more\.txt'"):
        draw_examples(altered, models[1], str(data), IMAGES, tmp_path / "out")


def test_a_data_set_that_is_not_there_is_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data folder"):
        draw_examples(*models, str(tmp_path / "nowhere"), IMAGES, tmp_path / "out")

"""A mask that may belong to the image turned otherwise is not trained on."""

from pathlib import Path

import pytest
from dataset_factory import blob, make, picture
from PIL import Image

from pipelines.data.dataset import read_dataset
from pipelines.data.manifest import examine
from pipelines.data.prepare import prepare

CHECK = "orientation unclear"


def turned(path: Path, image: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(path, exif=exif)


def with_pair(
    root: Path, orientation: int, mask_orientation: int, size: tuple[int, int], mask: tuple[int, int]
) -> Path:
    """A sound data set and one image whose file, and whose mask's, has these orientations and sizes as stored."""
    make(root)
    turned(root / "images/x.tif", Image.fromarray(picture(700, *size)), orientation)
    turned(root / "masks/x.png", Image.fromarray(blob(*mask)), mask_orientation)
    return root


@pytest.mark.parametrize(
    ("orientation", "mask_orientation", "size", "mask"),
    [
        (3, 1, (40, 48), (40, 48)),
        (2, 4, (40, 48), (40, 48)),
        (6, 1, (48, 48), (48, 48)),
        (6, 8, (40, 48), (40, 48)),
        (1, 3, (40, 48), (40, 48)),
    ],
)
def test_orientations_that_differ_are_refused_where_the_sizes_fit_both_ways(
    tmp_path: Path, orientation: int, mask_orientation: int, size: tuple[int, int], mask: tuple[int, int]
) -> None:
    report = prepare(with_pair(tmp_path, orientation, mask_orientation, size, mask))
    (problem,) = [problem for problem in report.problems if problem.severity == "refuse"]
    assert (problem.check, problem.files) == (CHECK, ("images/x.tif",))
    assert "save both upright" in problem.what_to_do


@pytest.mark.parametrize(
    ("orientation", "mask_orientation", "size", "mask"),
    [
        (3, 3, (40, 48), (40, 48)),
        (6, 6, (40, 48), (40, 48)),
        (6, 1, (40, 48), (48, 40)),
        (1, 8, (40, 48), (48, 40)),
    ],
)
def test_masks_that_were_turned_alike_or_can_only_be_upright_are_accepted(
    tmp_path: Path, orientation: int, mask_orientation: int, size: tuple[int, int], mask: tuple[int, int]
) -> None:
    assert prepare(with_pair(tmp_path, orientation, mask_orientation, size, mask)).problems == ()


def test_a_mask_drawn_before_turning_is_a_size_mismatch_where_the_sides_differ(tmp_path: Path) -> None:
    report = prepare(with_pair(tmp_path, 6, 1, (40, 48), (40, 48)))
    assert [problem.check for problem in report.problems] == ["size mismatch"]


def test_the_facts_of_a_file_say_how_it_was_turned(tmp_path: Path) -> None:
    facts = {fact.file: fact for fact in examine(read_dataset(with_pair(tmp_path, 6, 3, (40, 48), (40, 48))))}
    assert (facts["images/x.tif"].orientation, facts["images/x.tif"].mask_orientation) == (6, 3)
    assert (facts["images/p000.png"].orientation, facts["images/p000.png"].mask_orientation) == (1, 1)

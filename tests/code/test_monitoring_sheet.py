"""Images far from the reference: found, and shown beside what they come nearest to."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from version_factory import encode

from monitoring.drift import Family
from monitoring.furthest import FarImage, furthest
from monitoring.sheet import draw_sheet


def family(names: bool = True) -> Family:
    rng = np.random.default_rng(0)
    reference, live = rng.normal(size=(80, 4)), rng.normal(size=(30, 4))
    live[7], live[11] = [9, 9, -9, 9], reference[13] + [4, 0, 0, 0]
    by = (np.array([f"images/{n}.png" for n in range(80)]), np.array([f"answer {n}" for n in range(30)]))
    return Family("input", tuple("abcd"), reference, live, names=by if names else None)


def test_the_furthest_image_comes_first_with_its_distance() -> None:
    far = furthest(family(), 3)
    assert [one.answer for one in far][:2] == ["answer 7", "answer 11"]
    assert far[0].distance > far[1].distance > far[0].usual
    assert far[0].nearest.startswith("images/")
    assert furthest(family(names=False), 3) == []


def picture(value: int, side: int = 40) -> bytes:
    return encode(np.full((side, side, 3), value, np.uint8), "PNG")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "a.png").write_bytes(picture(10))
    (tmp_path / "secret.png").write_bytes(picture(20))
    return tmp_path / "data"


def test_images_that_are_kept_are_shown_beside_their_neighbours(tmp_path: Path, data: Path) -> None:
    far = [FarImage("gone", 9.0, 1.0, "images/a.png"), FarImage("kept", 8.0, 1.0, "images/a.png")]
    kept = {"kept": picture(200)}
    path = tmp_path / "furthest.png"
    assert draw_sheet(far, kept.get, data, title="$of resunet", path=path)
    with Image.open(path) as sheet:
        values = set(np.asarray(sheet.convert("L")).ravel())
    assert {10, 200} <= values


def test_without_kept_images_there_is_no_sheet(tmp_path: Path) -> None:
    path = tmp_path / "furthest.png"
    assert not draw_sheet([FarImage("a", 2.0, 1.0, "x.png")], lambda answer: None, None, title="", path=path)
    assert not draw_sheet([FarImage("a", 2.0, 1.0, "x.png")], lambda answer: b"no image", None, title="", path=path)
    assert not path.exists()


def test_a_file_outside_of_the_data_set_is_not_shown(tmp_path: Path, data: Path) -> None:
    far, path = [FarImage("kept", 8.0, 1.0, "../../secret.png")], tmp_path / "furthest.png"
    (data / "images" / "secret.png").symlink_to(tmp_path / "secret.png")
    assert draw_sheet(far, lambda answer: picture(200), data, title="", path=path)
    with Image.open(path) as sheet:
        assert 20 not in set(np.asarray(sheet.convert("L")).ravel())

"""Images far from the reference: found, and shown beside what they come nearest to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from version_factory import encode

from monitoring.drift import Family
from monitoring.furthest import FarImage, furthest
from monitoring.sheet import draw_sheet
from monitoring.statistics.strangers import spread_out


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
    assert furthest(family(names=False), 3) == []


def neighbours(of: Family) -> dict[str, str]:
    """The file of the nearest reference image of each answer, by looking at each."""
    assert of.names is not None
    files, answers = of.names
    points = spread_out(np.concatenate([of.reference, of.live]))
    reference, live = points[: len(files)], points[len(files) :]
    return {
        str(answer): str(files[np.linalg.norm(reference - point, axis=1).argmin()])
        for answer, point in zip(answers, live, strict=True)
    }


def test_each_image_comes_with_the_training_image_that_is_nearest_to_it() -> None:
    far = furthest(family(), 30)
    assert {one.answer: one.nearest for one in far} == neighbours(family())
    # They are not all the same one, so that a mix-up shows.
    assert len({one.nearest for one in far}) > 15


def test_the_sheet_shows_each_image_beside_its_neighbour_and_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    for place in range(80):
        (tmp_path / "data" / "images" / f"{place}.png").write_bytes(picture(place))
    kept = {f"answer {place}": picture(100 + place) for place in range(30)}
    drawn: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, path: Path, **options: Any) -> None:
        drawn.append(figure)
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    far = furthest(family(), 8)
    assert draw_sheet(far, kept.get, tmp_path / "data", title="", path=tmp_path / "furthest.png")
    panels = [(panel.get_title("left").splitlines()[-1], panel.images[0].get_array()) for panel in drawn[0].axes]
    shown = [(name, int(np.asarray(pixels).max())) for name, pixels in panels]
    expected = neighbours(family())
    for one, (answer, live), (file, training) in zip(far, shown[::2], shown[1::2], strict=True):
        assert (answer, file) == (one.answer, expected[one.answer])
        assert (answer, file) == (f"answer {live - 100}", f"images/{training}.png")


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

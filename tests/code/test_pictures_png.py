"""PNG files that are written a strip at a time: what any reader reads back is what was drawn."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from resunet.errors import SettingsError
from resunet.palette import CLASS_COLOURS, levels
from resunet.tiling import tiles
from serving.pictures import overlay, probability
from serving.pictures.overlay import SHADE, TINT, draw_overlay, encode_overlay, line_width
from serving.pictures.png import Strip, encode_strips
from serving.pictures.probability import ProbabilityMap

ORANGE, SKY = (np.array(levels(colour)) for colour in CLASS_COLOURS[:2])
RNG = np.random.default_rng(0)


def written(whole: Strip, rows: int) -> bytes:
    height, width = whole.shape[:2]
    return b"".join(encode_strips((whole[top : top + rows] for top in range(0, height, rows)), width, height))


def read(data: bytes) -> NDArray[np.generic]:
    """By libpng, RGB, checksums and all."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return found[..., ::-1] if found.ndim == 3 else found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.integers(0, 255),
    ),
    st.integers(1, 10),
)
def test_grey_of_8_and_16_bits_is_read_back(whole: Strip, rows: int) -> None:
    whole = whole * 257 if whole.dtype == np.uint16 else whole
    data = written(whole, rows)
    np.testing.assert_array_equal(read(data), whole)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(data))), whole)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_colour_is_read_back_whatever_the_strips(rows: int) -> None:
    whole = RNG.integers(0, 256, (50, 33, 3), dtype=np.uint8)
    data = written(whole, rows)
    assert Image.open(BytesIO(data)).mode == "RGB"
    np.testing.assert_array_equal(read(data), whole)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(data))), whole)
    assert data == written(whole.copy(), rows)


def disc(height: int = 60, width: int = 80, value: int = 255) -> NDArray[np.uint8]:
    return cv2.circle(np.zeros((height, width), np.uint8), (40, 30), 20, value, -1)


def drawn(rgb: NDArray[np.uint8], mask: NDArray[np.uint8], binary: bool = True) -> NDArray[np.uint8]:
    return np.concatenate(list(draw_overlay(rgb, mask, binary=binary)))


def test_an_overlay_is_tinted_inside_outlined_at_the_border_and_else_the_image() -> None:
    rgb, mask = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8), disc()
    picture = drawn(rgb, mask).astype(int)
    np.testing.assert_array_equal(read(b"".join(encode_overlay(rgb, mask, binary=True))), picture)
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    inner = (mask > 0) & (cv2.erode(mask, cross) == 0)
    outer = (mask == 0) & (cv2.dilate(mask, cross) > 0)
    assert inner.sum() > 100 and outer.sum() > 100
    assert (picture[inner] == ORANGE).all()
    assert np.abs(picture[outer] - (1 - SHADE) * rgb[outer]).max() <= 1
    tinted = (mask > 0) & ~inner
    assert np.abs(picture[tinted] - (TINT * ORANGE + (1 - TINT) * rgb[tinted])).max() <= 1
    np.testing.assert_array_equal(picture[(mask == 0) & ~outer], rgb[(mask == 0) & ~outer])


def test_each_class_has_its_colour_and_a_border_to_the_next() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:20], mask[10:30, 20:30] = 1, 2
    picture = drawn(np.zeros((40, 40, 3), np.uint8), mask, binary=False)
    assert (picture[15, [10, 19]] == ORANGE).all() and (picture[15, [20, 29]] == SKY).all()
    assert (np.abs(picture[15, 24].astype(int) - TINT * SKY) <= 1).all()
    many = np.full((40, 40), len(CLASS_COLOURS) + 1, np.uint8)
    many[:20] = 0
    assert (drawn(np.zeros((40, 40, 3), np.uint8), many, binary=False)[20, 5] == ORANGE).all()


def test_where_the_image_ends_there_is_no_outline() -> None:
    picture = drawn(np.zeros((30, 30, 3), np.uint8), np.full((30, 30), 255, np.uint8))
    assert np.abs(picture.astype(int) - np.rint(TINT * ORANGE)).max() <= 1


@pytest.mark.parametrize("pixels", [80, 1000])
def test_an_overlay_does_not_depend_on_the_strips(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, mask = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8), disc()
    monkeypatch.setattr(overlay, "_WIDER_FROM", (70, 75))
    whole = drawn(rgb, mask)
    monkeypatch.setattr(overlay, "_STRIP_PIXELS", pixels)
    assert len(list(draw_overlay(rgb, mask, binary=True))) > 4
    np.testing.assert_array_equal(drawn(rgb, mask), whole)


def test_lines_are_wider_on_large_images() -> None:
    assert [line_width(side, 100) for side in (100, 1023, 1024, 4096, 10_000)] == [1, 1, 2, 3, 3]


PROBABILITIES = RNG.random((3, 70, 90), dtype=np.float32)
PROBABILITIES /= PROBABILITIES.sum(axis=0)
NAMES = ["ground", "dim", "bright"]


def gathered(category: str | None, depth: int, names: list[str] = NAMES) -> NDArray[np.generic]:
    part = PROBABILITIES[: len(names)]
    found = ProbabilityMap(70, 90, names, category, 16 if depth == 16 else 8)
    for tile in tiles(70, 90, 32, 8, 8):
        found.add(tile, part[:, *tile.keep])
    levels = read(b"".join(found.encode()))
    assert levels.dtype == (np.uint16 if depth == 16 else np.uint8)
    return levels / (2**depth - 1)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_probability_is_written_to_the_nearest_level(depth: int) -> None:
    close = 0.51 / (2**depth - 1)
    assert np.abs(gathered("bright", depth) - PROBABILITIES[2]).max() < close
    assert np.abs(gathered("2", depth) - PROBABILITIES[2]).max() < close
    assert np.abs(gathered("0", depth) - PROBABILITIES[0]).max() < close
    assert np.abs(gathered(None, depth) - (1 - PROBABILITIES[0])).max() < close
    for category in (None, "spot", "1"):
        assert np.abs(gathered(category, depth, ["spot"]) - PROBABILITIES[0]).max() < close


def test_a_probability_does_not_depend_on_the_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gathered("dim", 16)
    monkeypatch.setattr(probability, "_STRIP_PIXELS", 91)
    np.testing.assert_array_equal(gathered("dim", 16), whole)


@pytest.mark.parametrize(("names", "category"), [(NAMES, "3"), (NAMES, "Dim"), (["spot"], "0"), (["spot"], "2")])
def test_a_class_that_is_not_there_is_refused_with_those_that_are(names: list[str], category: str) -> None:
    with pytest.raises(SettingsError, match=r"dim \(1\)" if names == NAMES else r"spot \(1\)"):
        ProbabilityMap(70, 90, names, category)

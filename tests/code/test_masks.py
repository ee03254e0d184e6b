"""A mask survives its way to PNG and to run lengths and back."""

import json
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from resunet.errors import DataError
from resunet.images import decode_mask
from resunet.masks import decode_classes_rle, encode_classes_rle, encode_png, from_rle, rle, to_rle

CLASSES = np.random.default_rng(0).integers(0, 4, (37, 53), dtype=np.uint8)


@pytest.mark.parametrize("mask", [CLASSES, CLASSES * 85, np.zeros((16, 16), np.uint8)], ids=["classes", "255", "empty"])
def test_png_keeps_every_value(mask: np.ndarray) -> None:
    data = encode_png(mask)
    assert Image.open(BytesIO(data)).mode == "L"
    np.testing.assert_array_equal(decode_mask(data), mask)


def test_png_of_a_view_and_of_a_copy_are_the_same_bytes() -> None:
    assert encode_png(CLASSES.T) == encode_png(np.ascontiguousarray(CLASSES.T)) == encode_png(CLASSES.T)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), bool), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)])
def test_what_is_no_mask_is_not_encoded(wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"\(H, W\) uint8"):
        encode_png(wrong)


def test_run_lengths_follow_cocos_column_major_counts() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]])
    assert rle(mask) == {"size": [2, 3], "counts": [2, 1, 1, 2]}
    assert rle(mask == 0) == {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}
    assert json.loads(to_rle(mask)) == rle(mask)


def naive_counts(mask: np.ndarray) -> list[int]:
    counts, value = [0], False
    for pixel in mask.flatten(order="F"):
        if bool(pixel) != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    return counts


@settings(max_examples=100, deadline=None, derandomize=True)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_equal_a_walk_over_the_pixels_and_go_back(mask: np.ndarray) -> None:
    assert rle(mask)["counts"] == naive_counts(mask)
    np.testing.assert_array_equal(from_rle(to_rle(mask), *mask.shape), mask)


def test_0_255_masks_and_uniform_masks_have_run_lengths() -> None:
    for mask in (CLASSES // 2 * 255, np.zeros((16, 20), np.uint8), np.ones((16, 20), np.uint8)):
        np.testing.assert_array_equal(from_rle(rle(mask)), mask > 0)


def test_classes_go_to_run_lengths_and_back() -> None:
    parts = encode_classes_rle(CLASSES, 4)
    assert len(parts) == 4
    np.testing.assert_array_equal(decode_classes_rle(json.loads(json.dumps(parts))), CLASSES)


def test_class_run_lengths_must_cover_the_mask_once() -> None:
    parts = encode_classes_rle(CLASSES, 4)
    for wrong in (parts[:3], [*parts, parts[1]], []):
        with pytest.raises(DataError, match="one class"):
            decode_classes_rle(wrong)
    with pytest.raises(DataError, match="holds class 3"):
        encode_classes_rle(CLASSES, 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        "{}",
        '{"size": [2, 3], "counts": [5]}',
        '{"size": [2, 3], "counts": [-1, 7]}',
        '{"size": [2, 3], "counts": ["6"]}',
        '{"size": [2, 3], "counts": [5.5, 0.5]}',
        '{"size": [2, 3], "counts": [[6]]}',
        '{"size": [-2, -3], "counts": [6]}',
        '{"size": [2], "counts": [2]}',
        '{"size": [1000000, 1000000], "counts": [1000000000000]}',
        '{"size": [2, 3], "counts": [9223372036854775807, 9223372036854775807, 8]}',
        '{"size": [2, 3], "counts": [1e400]}',
    ],
)
def test_what_is_no_run_length_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        from_rle(text)


def test_run_lengths_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match="53 x 37 mask, not 37 x 53"):
        from_rle(to_rle(CLASSES), 53, 37)
    for height, width in ((36, 53), (37, 52)):
        with pytest.raises(DataError, match="53 x 37 mask"):
            from_rle(to_rle(CLASSES), height, width)

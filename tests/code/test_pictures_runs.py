"""Run lengths: the numbers of `resunet.masks`, and the letters of COCO's own tool."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

from resunet.masks import from_rle, rle
from serving.pictures import runs
from serving.pictures.runs import coco_json, compress, rle_json

MASKS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 255]))
LARGE = np.zeros((700, 900), np.uint8)
LARGE[5:650, 40:860] = 255
LARGE[100:110, 300:500] = 0


def compressed_by_coco(inside: NDArray[np.bool_]) -> str:
    letters: bytes = coco_masks.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"]
    return letters.decode()


@pytest.mark.parametrize("block", [1, 5, 40, 1 << 20])
def test_run_lengths_are_those_of_masks_and_of_pycocotools_whatever_the_blocks(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_BLOCK_PIXELS", block)

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(MASKS)
    @example(np.full((3, 3), 255, np.uint8))
    @example(np.zeros((3, 3), np.uint8))
    def check(mask: NDArray[np.uint8]) -> None:
        for value in (1, 255):
            inside = mask == value
            assert json.loads(b"".join(rle_json(mask, value))) == rle(inside)
            expected = {"size": list(mask.shape), "counts": compressed_by_coco(inside)}
            assert json.loads(b"".join(coco_json(mask, value))) == expected

    check()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_long_runs_and_large_differences_are_written_as_pycocotools_reads_them() -> None:
    found = json.loads(b"".join(coco_json(LARGE, 255)))
    assert found["counts"] == compressed_by_coco(LARGE == 255)
    np.testing.assert_array_equal(coco_masks.decode(found), LARGE == 255)
    np.testing.assert_array_equal(from_rle(b"".join(rle_json(LARGE, 255)).decode()), LARGE == 255)


def test_counts_of_the_largest_image_fit_the_letters() -> None:
    # Of each count the difference to the last but one, five bits a letter with the low ones first, 48 added.
    counts = [np.array([3, 100_000_000, 2, 1]), np.array([99_999_999])]
    letters, numbers, value, shift = "".join(compress(counts)), [], 0, 0
    for letter in letters:
        code = ord(letter) - 48
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            numbers.append(value - (1 << shift) if code & 16 else value)
            value = shift = 0
    assert numbers == [3, 100_000_000, 2, 1 - 100_000_000, 99_999_999 - 2]


def test_the_backslash_among_the_letters_is_json() -> None:
    mask = np.zeros((60, 1), np.uint8)
    mask[44:] = 255  # 44 is written as two letters, the first of which is a backslash
    text = b"".join(coco_json(mask, 255))
    assert b"\\\\" in text and json.loads(text)["counts"] == compressed_by_coco(mask == 255)

"""Run lengths of a mask as COCO writes them, some columns at a time: memory does not grow with the number of runs.

    b"".join(rle_json(mask, 255))                       # {"size":[h,w],"counts":[3,2,…]}
    b"".join(coco_json(mask, 255))                      # {"size":[h,w],"counts":"32…"}, as pycocotools reads it

Both hold the same numbers: pixels column by column, counts of outside and inside in turn, beginning with outside. The
first form is that of `resunet.masks`. In the second a count from the fourth on is written as its difference to the last
but one, in groups of five bits, the low ones first, each as one letter (`rleToString` of pycocotools' maskApi.c).
"""

import json
from collections.abc import Iterable, Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_BLOCK_PIXELS: Final = 1 << 20
_MORE: Final = 0x20
_SIGN: Final = 0x10
_FIRST_LETTER: Final = 48
# Seven letters carry 35 bits with their sign; no difference of two counts of 10^8 pixels needs more than 28.
_LETTERS: Final = 7


def run_lengths(mask: NDArray[np.uint8], value: int) -> Iterator[NDArray[np.int64]]:
    """Counts of the pixels that are not `value` and that are, in turn.

    Args:
        mask: (H, W) uint8.
        value: 255 for the foreground of a binary version, else a class index.

    Returns:
        The counts in parts, some of them empty.
    """
    height, width = mask.shape
    columns = max(1, _BLOCK_PIXELS // max(height, 1))
    inside, open_run = False, 0
    for left in range(0, width, columns):
        block = cv2.transpose((mask[:, left : left + columns] == value).view(np.uint8)).ravel()
        edges = np.flatnonzero(block[1:] != block[:-1]) + 1
        counts = np.diff(edges, prepend=0, append=block.size)
        if bool(block[0]) == inside:
            counts[0] += open_run
        else:
            counts = np.concatenate([[open_run], counts])
        inside, open_run = bool(block[-1]), int(counts[-1])
        yield counts[:-1]
    yield np.array([open_run])


def rle_json(mask: NDArray[np.uint8], value: int) -> Iterator[bytes]:
    """Uncompressed run lengths as a JSON object, in pieces."""
    yield f'{{"size":[{mask.shape[0]},{mask.shape[1]}],"counts":['.encode()
    begun = False
    for counts in run_lengths(mask, value):
        if counts.size:
            yield (("," if begun else "") + ",".join(map(str, counts.tolist()))).encode()
            begun = True
    yield b"]}"


def coco_json(mask: NDArray[np.uint8], value: int) -> Iterator[bytes]:
    """Compressed run lengths as a JSON object, in pieces."""
    yield f'{{"size":[{mask.shape[0]},{mask.shape[1]}],"counts":"'.encode()
    for letters in compress(run_lengths(mask, value)):
        yield json.dumps(letters)[1:-1].encode()  # one of the letters is a backslash
    yield b'"}'


def compress(parts: Iterable[NDArray[np.int64]]) -> Iterator[str]:
    """Counts as COCO's letters, in pieces.

    Args:
        parts: of the counts, as `run_lengths` gives them.
    """
    before, done = np.zeros(0, np.int64), 0
    for counts in parts:
        together = np.concatenate([before, counts])
        numbers = counts.copy()
        # Of each count the place in the whole, and that of the last but one; the first three are written as they are.
        known = np.arange(done, done + counts.size) > 2
        ahead = np.arange(counts.size) + before.size - 2
        numbers[known] -= together[ahead[known]]
        yield _letters(numbers)
        before, done = together[-2:], done + counts.size


def _letters(numbers: NDArray[np.int64]) -> str:
    """The letters of some numbers."""
    table = np.zeros((numbers.size, _LETTERS), np.uint8)
    used = np.zeros((numbers.size, _LETTERS), np.bool_)
    left, going = numbers.copy(), np.ones(numbers.size, np.bool_)
    for place in range(_LETTERS):
        group = left & 0x1F
        left >>= 5
        more = np.where(group & _SIGN, left != -1, left != 0)
        table[:, place] = _FIRST_LETTER + group + np.where(more, _MORE, 0)
        used[:, place] = going
        going = going & more
        if not going.any():
            break
    return table[used].tobytes().decode("ascii")

"""A mask in JSON, without a picture: run lengths, COCO results or contours, one entry for each class or piece.

    b"".join(describe("coco", mask, ["spot"], confidence=0.93, image_id="a1"))

`rle`: a foreground class each, `category_id` and `category` with `size` and `counts` (see `serving.pictures.runs`).
`coco`: as pycocotools' `loadRes` reads them, a foreground class each that has pixels: `image_id`, `category_id`,
`segmentation`, `area`, `bbox` and `score` (where there is a box, `loadRes` takes the box's area for the result's; leave
it out to have the mask's). `contours`: a piece each, `category_id`, `category`, `area`, `bbox` and
`coordinates`: rings as in a GeoJSON polygon, closed, the outline and then its holes (see `serving.pictures.polygons`).

Written in pieces, because a mask of 10^8 pixels may have as many runs.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from serving.pictures.polygons import MOST_CORNERS, Polygon, polygons
from serving.pictures.runs import coco_json, rle_json

Description = Literal["rle", "coco", "contours"]
_CORNERS_A_PIECE: Final = 10_000
_LEAST_PIECE: Final = 1 << 16


def describe(
    form: Description, mask: NDArray[np.uint8], class_names: Sequence[str], *, confidence: float, image_id: str
) -> Iterator[bytes]:
    """Describe a mask as a JSON array, in pieces.

    Args:
        mask: (H, W) uint8, 0 and 255 with one class name, else class indices.
        class_names: of the version.
        confidence: of the prediction, which is each result's score.
        image_id: what COCO results name the image.

    Raises:
        NotAcceptableError: contours have more corners than can be listed.
    """
    classes = foreground(class_names)
    entries: Iterable[Iterable[bytes]]
    if form == "rle":
        entries = (_run_lengths(mask, value, *named) for value, named in classes.items())
    elif form == "coco":
        found = {value: number for value, (number, _) in classes.items() if (mask == value).any()}
        entries = (_result(mask, value, number, confidence, image_id) for value, number in found.items())
    else:
        entries = _contours(mask, classes)
    return _gathered(_array(entries))


def foreground(class_names: Sequence[str]) -> dict[int, tuple[int, str]]:
    """Of each foreground value of a mask the number and the name of its class."""
    if len(class_names) == 1:
        return {255: (1, class_names[0])}
    return {number: (number, name) for number, name in enumerate(class_names) if number}


def _array(entries: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    yield b"["
    for place, entry in enumerate(entries):
        if place:
            yield b","
        yield from entry
    yield b"]"


def _run_lengths(mask: NDArray[np.uint8], value: int, number: int, name: str) -> Iterator[bytes]:
    runs = rle_json(mask, value)
    yield _json({"category_id": number, "category": name})[:-1] + b"," + next(runs)[1:]
    yield from runs


def _result(mask: NDArray[np.uint8], value: int, number: int, confidence: float, image_id: str) -> Iterator[bytes]:
    inside = (mask == value).view(np.uint8)
    area, box = cv2.countNonZero(inside), list(cv2.boundingRect(inside))
    del inside
    facts = {"image_id": image_id, "category_id": number, "area": area, "bbox": box, "score": confidence}
    yield _json(facts)[:-1] + b',"segmentation":'
    yield from coco_json(mask, value)
    yield b"}"


def _contours(mask: NDArray[np.uint8], classes: dict[int, tuple[int, str]]) -> Iterator[Iterator[bytes]]:
    left = MOST_CORNERS
    for value, (number, name) in classes.items():
        for polygon in polygons(mask, value, left):
            left -= sum(ring.shape[0] for ring in polygon.rings)
            yield _contour(polygon, number, name)


def _contour(polygon: Polygon, number: int, name: str) -> Iterator[bytes]:
    facts = {"category_id": number, "category": name, "area": polygon.area, "bbox": polygon.box}
    if sum(ring.shape[0] for ring in polygon.rings) <= _CORNERS_A_PIECE:
        rings = [ring.tolist() for ring in polygon.rings]
        yield _json({**facts, "coordinates": [[*ring, ring[0]] for ring in rings]})
        return
    yield _json(facts)[:-1] + b',"coordinates":'
    yield from _array(_ring(ring) for ring in polygon.rings)
    yield b"}"


def _ring(ring: NDArray[np.int16]) -> Iterator[bytes]:
    yield b"["
    for begin in range(0, ring.shape[0], _CORNERS_A_PIECE):
        yield _json(ring[begin : begin + _CORNERS_A_PIECE].tolist())[1:-1] + b","
    yield _json(ring[0].tolist()) + b"]"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: each has a cost of its own in memory."""
    begun = bytearray()
    for piece in pieces:
        begun += piece
        if len(begun) >= _LEAST_PIECE:
            yield bytes(begun)
            begun.clear()
    yield bytes(begun)

"""What a request must look like: every row is checked, and its image decoded, before any is predicted.

    options = read_options(params, spec)
    rows = read_rows(frame, settings.max_image_mb)
    images = decode_rows(rows)

A refusal names the row, counted from 0 as in the request, and the reason; never a value of the image column.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from resunet.errors import ImageError, SettingsError
from resunet.images import MAX_PIXELS, decode_image
from serving.answer import MaskFormat
from serving.errors import TooLargeError
from serving.version import VersionSpec

TEXT_COLUMNS = ("request_id", "client", "slice")
MAX_TEXT = 200
HOW_TO_SEND = (
    'send {"dataframe_split": {"columns": ["image"], "data": [["<base64 of an image file>"]]}} as application/json'
)


@dataclass(frozen=True)
class Options:
    """The request's parameters; a threshold of None is the version's own."""

    threshold: float | None
    mask_format: MaskFormat


@dataclass(frozen=True)
class Row:
    """One row of a request: an encoded image and the caller's words about it."""

    number: int
    data: bytes
    request_id: str
    client: str | None
    slice: str | None


def read_options(params: Mapping[str, Any] | None, spec: VersionSpec) -> Options:
    """Check the parameters.

    Raises:
        SettingsError: a threshold outside 0 to 1 or for a version with more classes; an unknown mask format.
    """
    given = params or {}
    threshold = given.get("threshold")
    if threshold is not None:
        if not spec.binary:
            raise SettingsError("threshold is for one class; this version takes the likeliest of several")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise SettingsError("threshold must be a number between 0 and 1, both excluded")
    formats: dict[object, MaskFormat] = {None: "png", "png": "png", "rle": "rle"}
    mask_format = formats.get(given.get("mask_format"))
    if mask_format is None:
        raise SettingsError("mask_format must be png or rle")
    return Options(None if threshold is None else float(threshold), mask_format)


def read_rows(frame: pd.DataFrame, max_image_mb: int) -> list[Row]:
    """Check every row of a request, its image's bytes only for their size.

    Args:
        frame: column `image` of bytes; `request_id`, `client` and `slice` may be absent or null.
        max_image_mb: largest encoded image, MB of 10^6 bytes.

    Raises:
        ImageError, SettingsError: something is missing, of a wrong type or too large.
    """
    if "image" not in frame.columns:
        raise ImageError(f"the column image is missing; {HOW_TO_SEND}")
    if not frame.columns.is_unique:
        raise ImageError(f"a column is there more than once; {HOW_TO_SEND}")
    if frame.empty:
        raise ImageError(f"the request has no rows; {HOW_TO_SEND}")
    columns = {name: list(frame[name]) if name in frame.columns else None for name in TEXT_COLUMNS}
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, data in enumerate(frame["image"]):
        texts = {name: _text(number, name, values[number]) for name, values in columns.items() if values}
        request_id = texts.get("request_id") or uuid.uuid4().hex
        if request_id in seen:  # the log keeps one row an id
            raise SettingsError(f"row {number}: request_id is the same as in row {seen[request_id]}")
        seen[request_id] = number
        rows.append(
            Row(
                number,
                _bytes(number, data, max_image_mb),
                request_id,
                texts.get("client"),
                texts.get("slice"),
            )
        )
    return rows


def decode_rows(rows: list[Row]) -> Iterator[NDArray[np.uint8]]:
    """Decode every image before giving the first, so that one bad image refuses the whole request.

    Decoded images are kept while they are together no more than one of the largest size; beyond that they are
    decoded again one by one.

    Yields:
        (H, W, 3) uint8 RGB of each row.

    Raises:
        ImageError: a row's bytes are no image; the message names the row.
    """
    keep = count_pixels(rows) <= MAX_PIXELS
    kept: list[NDArray[np.uint8]] = []
    for row in rows:
        try:
            image = decode_image(row.data)
        except ImageError as error:
            raise type(error)(f"row {row.number}: {error}") from None
        if keep:
            kept.append(image)
        del image
    while kept:
        yield kept.pop(0)
    if not keep:
        for row in rows:
            yield decode_image(row.data)


def count_pixels(rows: list[Row]) -> int:
    """Pixels that the headers of all images announce; what has no readable header counts as none."""
    total = 0
    for row in rows:
        try:
            with Image.open(BytesIO(row.data)) as image:
                total += min(image.width * image.height, MAX_PIXELS)
        except Exception:  # the decoder, which comes next, says what is wrong with it
            continue
    return total


def _bytes(number: int, data: object, max_image_mb: int) -> bytes:
    if data is None or (isinstance(data, float) and np.isnan(data)):
        raise ImageError(f"row {number}: image is missing")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(
            f"row {number}: image is {type(data).__name__}, not bytes; in JSON only dataframe_split and "
            "dataframe_records carry bytes, as base64 text"
        )
    if len(data) > max_image_mb * 1_000_000:
        raise TooLargeError(
            f"row {number}: the image file has {len(data) / 1e6:.1f} MB, above the limit of "
            f"{max_image_mb} MB (RESUNET_MAX_IMAGE_MB)"
        )
    return bytes(data)


def _text(number: int, name: str, value: object) -> str | None:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if not isinstance(value, str):
        raise SettingsError(f"row {number}: {name} must be text, not {type(value).__name__}")
    if len(value) > MAX_TEXT or not value.isprintable():
        raise SettingsError(f"row {number}: {name} must be at most {MAX_TEXT} printable characters")
    return value or None

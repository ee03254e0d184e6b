"""What a request must look like: every row is checked, and its image decoded, before any is predicted.

    options = read_options(params, spec)
    rows = read_rows(frame, settings.max_rows, settings.max_image_mb)
    costs = measure(rows)
    rgb = decode(rows[0])

A refusal names the row, counted from 0 as in the request, and the reason; never a value of the image column.
"""

import base64
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resunet.errors import ImageError, SettingsError
from resunet.images import MAX_PIXELS, decode_image, read_size
from serving.answer import MaskFormat
from serving.errors import RowError, TooLargeError
from serving.version import VersionSpec

TEXT_COLUMNS = ("request_id", "client", "slice")
MAX_TEXT = 200
# No image needs more bytes for a pixel than 16-bit RGBA without compression: a file that has more is mostly
# something else, which takes its time to read over.
_BYTES_A_PIXEL = 8
# Commas, brackets and lines of a body. A table of images has some for each image; each may be an object of 100 bytes
# once it is parsed, which makes gigabytes of a body that is small enough by its bytes.
_MOST_VALUES = 1_000_000
_VALUES = (",", "[", "{", "\n")
HOW_TO_SEND = (
    'send {"dataframe_split": {"columns": ["image"], "data": [["<base64 of an image file>"]]}} as application/json'
)
BEGINS_AS_URL = "begins with data:…;base64, as a URL does: leave that out, and send the base64 text behind it alone"
DATA_URL = f"image {BEGINS_AS_URL} (to /segment, the file itself)"
UNDECODED = (
    "image arrived as base64 text, not as an image file: it was encoded more often than it is decoded. "
    "dataframe_split, dataframe_records and JSON of the V2 protocol are decoded once; instances, inputs, /segment and "
    "binary tensors are not"
)
# How a data URL begins that was taken for base64, which skips its signs; and how base64 text does.
_DATA_URL_DECODED = base64.b64decode("data")
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]+")
_BASE64_LOOKED_AT = 1024


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


def check_values(body: bytes | str) -> None:
    """See that a body, JSON or CSV, is worth parsing.

    Raises:
        TooLargeError: it holds more values than any table of images.
    """
    if len(body) <= _MOST_VALUES:  # each mark is a character of its own
        return
    if isinstance(body, str):
        found = sum(body.count(mark) for mark in _VALUES)
    else:
        found = sum(body.count(mark.encode()) for mark in _VALUES)
    if found > _MOST_VALUES:
        raise TooLargeError(f"the body holds more than {_MOST_VALUES:,} values; an image is one, as base64 text")


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


def read_rows(
    frame: pd.DataFrame,
    max_rows: int,
    max_image_mb: int,
    request_id: str | None = None,
    caller: str | None = None,
) -> list[Row]:
    """Check every row of a request, its image's bytes only for their size.

    Args:
        frame: column `image` of bytes; `request_id`, `client` and `slice` may be absent or null.
        max_rows: most images.
        max_image_mb: largest encoded image, and largest sum of them, MB of 10^6 bytes.
        request_id: of a request with one row, where the row has none.
        caller: who asks, as far as that was proved; the rows' `client` begins with it.

    Raises:
        ImageError, SettingsError: something is missing, of a wrong type or too large.
    """
    if "image" not in frame.columns:
        raise ImageError(f"the column image is missing; {HOW_TO_SEND}")
    if not frame.columns.is_unique:
        raise ImageError(f"a column is there more than once; {HOW_TO_SEND}")
    texts = {name: list(frame[name]) for name in TEXT_COLUMNS if name in frame.columns}
    return make_rows(list(frame["image"]), texts, max_rows, max_image_mb, request_id, caller)


def make_rows(
    images: Sequence[object],
    texts: Mapping[str, Sequence[object]],
    max_rows: int,
    max_image_mb: int,
    request_id: str | None = None,
    caller: str | None = None,
) -> list[Row]:
    """Check the images of a request and what is said of them; see `read_rows`.

    Args:
        images: bytes each.
        texts: of the names in `TEXT_COLUMNS`, a value an image.

    Raises:
        ImageError, SettingsError: something is missing, of a wrong type or too large.
    """
    if not images:
        raise ImageError(f"the request has no rows; {HOW_TO_SEND}")
    if len(images) > max_rows:
        raise TooLargeError(
            f"the request has {len(images)} rows, above the limit of {max_rows} (RESUNET_MAX_ROWS): send fewer at a "
            "time"
        )
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, data in enumerate(images):
        said = {name: _text(number, name, values[number]) for name, values in texts.items()}
        row_id = said.get("request_id") or (request_id if len(images) == 1 else None) or uuid.uuid4().hex
        if row_id in seen:  # the log keeps one row an id
            raise SettingsError(f"row {number}: request_id is the same as in row {seen[row_id]}")
        seen[row_id] = number
        client = said.get("client")
        if caller is not None:
            client = f"{caller}:{client}" if client else caller
        rows.append(Row(number, _bytes(number, data), row_id, client, said.get("slice")))
    _check_sizes(rows, max_image_mb)
    return rows


def _check_sizes(rows: Sequence[Row], max_image_mb: int) -> None:
    limit = f"above the limit of {max_image_mb} MB (RESUNET_MAX_IMAGE_MB)"
    for row in rows:
        if len(row.data) > max_image_mb * 1_000_000:
            raise RowError(row, TooLargeError(f"the image file has {len(row.data) / 1e6:.1f} MB, {limit}"))
    total = sum(len(row.data) for row in rows)
    if total > max_image_mb * 1_000_000:
        raise TooLargeError(
            f"the request's image files have {total / 1e6:.1f} MB together, {limit}: send fewer at a time"
        )


def measure(rows: Sequence[Row]) -> list[int]:
    """What the image of each row costs to work on, in pixels, by the size in its header.

    Raises:
        RowError: a header cannot be read, or announces a size that is not taken.
        TooLargeError: the images are together larger than one of the largest size.
    """
    pixels, costs = 0, []
    for row in rows:
        try:
            width, height = read_size(row.data)
        except ImageError as error:
            raise RowError(row, _sent_otherwise(row.data) or error) from None
        pixels += width * height
        costs.append(max(width * height, len(row.data) // _BYTES_A_PIXEL))
    if pixels > MAX_PIXELS:
        raise TooLargeError(
            f"the request's {len(rows)} images have {pixels / 1e6:.0f} million pixels together, above the limit of "
            f"{MAX_PIXELS // 1_000_000}: send fewer at a time"
        )
    return costs


def _sent_otherwise(data: bytes) -> ImageError | None:
    """What is wrong with bytes that are no image, where they are one in another clothing."""
    if is_data_url(data) or data.startswith(_DATA_URL_DECODED):
        return ImageError(DATA_URL)
    if _BASE64.fullmatch(data[:_BASE64_LOOKED_AT]):
        try:
            read_size(base64.decodebytes(data))
        except (ValueError, ImageError):
            return None
        return ImageError(UNDECODED)
    return None


def is_data_url(text: bytes | str) -> bool:
    """Whether base64 text has the head of a URL."""
    return text[:5].lower() in ("data:", b"data:")


def decode(row: Row) -> NDArray[np.uint8]:
    """Decode a row's image: (H, W, 3) uint8 RGB.

    Raises:
        RowError: its bytes are no image.
    """
    try:
        return decode_image(row.data)
    except ImageError as error:
        raise RowError(row, error) from None


def _is_missing(value: object) -> bool:
    # pandas writes what is not there as None, nan or NA, by the type of the column.
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _bytes(number: int, data: object) -> bytes:
    if _is_missing(data):
        raise ImageError(f"row {number}: image is missing")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(
            f"row {number}: image is {type(data).__name__}, not bytes; in JSON only dataframe_split and "
            "dataframe_records carry bytes, as base64 text"
        )
    return bytes(data)


def _text(number: int, name: str, value: object) -> str | None:
    if _is_missing(value):
        return None
    if not isinstance(value, str):
        raise SettingsError(f"row {number}: {name} must be text, not {type(value).__name__}")
    if len(value) > MAX_TEXT or not value.isprintable():
        raise SettingsError(f"row {number}: {name} must be at most {MAX_TEXT} printable characters")
    return value or None

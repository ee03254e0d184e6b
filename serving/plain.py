"""The commonest body of `/invocations`, read without a data frame: making two takes longer than encoding a mask.

    table = read_plain(body, "application/json")
    if table is not None:
        answer = answer_plain(service, table, settings, call_with)

That is `dataframe_split` with the columns of the signature, each image base64 text, and no parameter but `mask_format`.
All else, and all that is wrong, is MLflow's to read: who reads does not change an answer.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serving.errors import TooLargeError
from serving.frames import answer_rows
from serving.request import TEXT_COLUMNS, Options, check_values, make_rows, read_options
from serving.service import Call, Service
from serving.settings import ServingSettings

_JSON: Final = frozenset({"application/json", "application/json; charset=utf-8"})
_COLUMNS: Final = frozenset({"image", *TEXT_COLUMNS})


@dataclass(frozen=True)
class PlainTable:
    """Images as they were encoded, what is said of each, and the parameters."""

    images: Sequence[bytes]
    texts: Mapping[str, Sequence[str | None]]
    params: Mapping[str, str]


def read_plain(body: bytes, content_type: str) -> PlainTable | None:
    """Read a body; None: it is of another kind, or something is wrong with it.

    Args:
        body: as it came.
        content_type: its header.
    """
    if content_type not in _JSON:
        return None
    try:
        check_values(body)
        found = json.loads(body)
        frame, params = found.pop("dataframe_split"), found.pop("params", {})
        columns, data = frame.pop("columns"), frame.pop("data")
        if found or frame or not (_are_columns(columns) and _are_rows(data, columns) and _are_params(params)):
            return None
        values = dict(zip(columns, zip(*data, strict=True), strict=True))
        # As lenient as MLflow, by the same function.
        images = [base64.decodebytes(image.encode()) for image in values.pop("image")]
    except (TooLargeError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return PlainTable(images, {name: values[name] for name in TEXT_COLUMNS if name in values}, params)


def _are_columns(columns: Any) -> bool:
    names = [name for name in columns if isinstance(name, str)]
    return len(names) == len(columns) == len(set(names)) and "image" in names and _COLUMNS.issuperset(names)


def _are_rows(data: Any, columns: Sequence[str]) -> bool:
    def fits(row: Any) -> bool:
        return (
            isinstance(row, list)
            and len(row) == len(columns)
            and all(isinstance(v, str) or (v is None and c != "image") for c, v in zip(columns, row, strict=True))
        )

    return isinstance(data, list) and bool(data) and all(map(fits, data))


def _are_params(params: Any) -> bool:
    return isinstance(params, dict) and params.keys() <= {"mask_format"} and all(map(_is_text, params.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def answer_plain(
    service: Service, table: PlainTable, settings: ServingSettings, call_with: Callable[[Options], Call]
) -> str:
    """Segment the images of a table; see `serving.frames.answer_frame`.

    Returns:
        The body of the answer, as MLflow writes it.

    Raises:
        ResunetError: as of `answer_frame`.
    """
    call = call_with(read_options(table.params, service.predictor.spec))
    rows = make_rows(table.images, table.texts, settings.max_rows, settings.max_image_mb, call.request_id, call.caller)
    return json.dumps({"predictions": answer_rows(service, rows, call)})

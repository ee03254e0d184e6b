"""What stands between our errors and the words of MLflow's scoring server.

MLflow puts the request's data frame, its whole body or a stack trace into the errors it answers. Two things
keep images out of them:

- `RequestError`, which `predict` raises, keeps its message and knows statuses that MLflow has no code for.
- `guard_scoring_server`, called when the model is loaded by `mlflow models serve`, stands around the server's
  one scoring function: what MLflow refuses before the model is asked is refused again in words without data.
"""

import base64
import functools
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, DEADLINE_EXCEEDED, INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE

from resunet.errors import RecordsError
from serving.errors import INTERNAL_MESSAGE, UNLOGGED_MESSAGE, TooLargeError, headers_of, status_of
from serving.request import DATA_URL, HOW_TO_SEND, check_values, is_data_url

_log = logging.getLogger(__name__)

# Set by `mlflow models serve` for the process that answers, and only there.
_SERVER_VARIABLE = "__pyfunc_model_path__"
_SERVER_MODULE = "mlflow.pyfunc.scoring_server"
_PARAMETERS = ["data", "content_type", "model", "input_schema"]
_CODES = {504: DEADLINE_EXCEEDED, 503: TEMPORARILY_UNAVAILABLE, 500: INTERNAL_ERROR}
# For what is not images: columns, ids, the words of JSON.
_BODY_ROOM = 1_000_000
_FRAMES = ("dataframe_split", "dataframe_records")

# (body, content type, model, input schema) → what has `response`, `status` and `mimetype`.
Invocations = Callable[[Any, str | None, Any, Any], Any]


class RequestError(MlflowException):
    """A refused or failed request; the server answers with exactly this message and status.

    Attributes:
        headers: that the answer adds to its own, where the server is ours.
    """

    def __init__(self, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        self.headers = dict(headers or {})
        self._fixed = message
        self._status = status
        super().__init__(message, error_code=_CODES.get(status, BAD_REQUEST))

    @property
    def message(self) -> str:
        return self._fixed

    @message.setter
    def message(self, value: str) -> None:
        """The scoring server would put the data frame in front of it."""

    def get_http_status_code(self) -> int:
        return self._status


def as_request_error(error: Exception) -> RequestError:
    """Turn a failure into its answer; one that is not the client's to mend is logged here and not told."""
    status = status_of(error)
    if status == 500:
        _log.error("a request failed", exc_info=error)
        return RequestError(INTERNAL_MESSAGE, status)
    if isinstance(error, RecordsError):
        _log.error("a request failed: %s", error)
        return RequestError(UNLOGGED_MESSAGE, status)
    if status > 500:
        _log.warning("a request was not answered: %s", error)
    return RequestError(str(error), status, headers_of(error))


def server_threads() -> int:
    """Requests that MLflow's scoring server works on at a time: the threads of asyncio's own pool."""
    return min(32, (os.cpu_count() or 1) + 4)


def server_limit_s() -> float | None:
    """After how many seconds MLflow's scoring server answers 504, whatever the model does; None elsewhere."""
    if _SERVER_VARIABLE not in os.environ:
        return None
    return float(MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())


def guard_scoring_server(max_image_mb: int) -> bool:
    """In a process of `mlflow models serve`, keep data and stack traces out of MLflow's own refusals.

    Args:
        max_image_mb: a body that has more than such an image in base64, MB of 10^6 bytes, is not even parsed,
            which takes several times its memory.

    Returns:
        Whether it is in place: False in any other process, and where MLflow's function is not the one that
        this release knows (its answers are then MLflow's own; a warning says so).
    """
    server = sys.modules.get(_SERVER_MODULE)
    if server is None or _SERVER_VARIABLE not in os.environ:
        return False
    original = getattr(server, "invocations", None)
    if getattr(original, "guarded", False):
        return True
    if original is None or list(inspect.signature(original).parameters) != _PARAMETERS:
        _log.warning("this MLflow's scoring server is unknown: its own errors may repeat what was sent")
        return False

    server.invocations = guarded(original, max_image_mb)  # type: ignore[attr-defined]
    return True


def guarded(original: Invocations, max_image_mb: int) -> Invocations:
    """MLflow's scoring function, which tells nothing of what was sent.

    Args:
        original: (body, content type, model, input schema) to an answer; its model raises `RequestError` alone.
        max_image_mb: as of `guard_scoring_server`.
    """
    largest_body = largest_body_bytes(max_image_mb)

    @functools.wraps(original)
    def invocations(data: Any, content_type: str | None, model: Any, input_schema: Any) -> Any:
        if len(data) > largest_body:
            raise RequestError(too_large_body(max_image_mb), 413)
        try:
            check_values(data)
        except TooLargeError as error:
            raise RequestError(str(error), 413) from None
        try:
            # MLflow fails on none as on a fault of its own; it refuses an empty one as one that it does not read.
            return original(data, content_type or "", model, input_schema)
        except RequestError:
            raise
        except Exception as error:
            # Everything that `predict` raises is a RequestError, so this is MLflow failing on what was sent.
            _log.info("MLflow refused a request (%s)", type(error).__name__)
            raise RequestError(explain(data, content_type or "")) from None

    invocations.guarded = True  # type: ignore[attr-defined]
    return invocations


def largest_body_bytes(max_image_mb: int) -> int:
    """Bytes of a body that holds images of so many MB in base64."""
    return max_image_mb * 1_000_000 * 4 // 3 + _BODY_ROOM


def too_large_body(max_image_mb: int) -> str:
    """What is said of a larger one."""
    return (
        f"the request is above the limit of {largest_body_bytes(max_image_mb) / 1e6:.0f} MB that "
        f"RESUNET_MAX_IMAGE_MB={max_image_mb} makes: send fewer or smaller images"
    )


def explain(body: bytes | str, content_type: str) -> str:
    """Why MLflow could not read a request, told without repeating any value of it.

    Args:
        body: of the request.
        content_type: its header.
    """
    kind = content_type.partition(";")[0].strip()
    if kind != "application/json":
        return f"the body could not be read as {kind[:80] or 'anything: it has no content type'}; {HOW_TO_SEND}"
    try:
        request = json.loads(body)
    except json.JSONDecodeError as error:
        return f"the body is not valid JSON from line {error.lineno}, column {error.colno} on; {HOW_TO_SEND}"
    except UnicodeDecodeError:
        return f"the body is not UTF-8; {HOW_TO_SEND}"
    except (ValueError, RecursionError):
        return f"the body holds a number or a nesting too large to read; {HOW_TO_SEND}"
    if not isinstance(request, dict):
        return f"the body must be a JSON object; {HOW_TO_SEND}"
    forms = [name for name in (*_FRAMES, "inputs", "instances") if name in request]
    if len(forms) != 1 or forms[0] not in _FRAMES:
        return f"the body must hold either dataframe_split or dataframe_records, once; {HOW_TO_SEND}"
    return (
        _explain_rows(_records(request[forms[0]]))
        or _explain_parameters(request.get("params"))
        or f"the request does not fit the model's signature; {HOW_TO_SEND}"
    )


def _records(frame: Any) -> list[dict[str, Any]] | None:
    """Rows of either form as objects; None where it is no table."""
    if isinstance(frame, list) and all(isinstance(row, dict) for row in frame):
        return frame
    if not isinstance(frame, dict):
        return None
    columns, data = frame.get("columns"), frame.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or len(set(map(str, columns))) != len(columns):
        return None
    rows = [row if isinstance(row, list) else [row] for row in data]  # as pandas reads a single column
    if not all(len(row) == len(columns) for row in rows):
        return None
    return [dict(zip(map(str, columns), row, strict=True)) for row in rows]


def _explain_rows(rows: list[dict[str, Any]] | None) -> str | None:
    if rows is None:
        return f"the rows are not a table with each column once and as many values in each row; {HOW_TO_SEND}"
    if not any("image" in row for row in rows):
        return f"the column image is missing; {HOW_TO_SEND}"
    for number, row in enumerate(rows):
        image = row.get("image")
        if image is None:
            return f"row {number}: image is missing"
        if not isinstance(image, str):
            return f"row {number}: image must be base64 text"
        if is_data_url(image):
            return f"row {number}: {DATA_URL}"
        try:
            base64.decodebytes(image.encode("utf-8"))
        except ValueError:
            return f"row {number}: image is not valid base64"
    return None


def _explain_parameters(params: Any) -> str | None:
    if params is None:
        return None
    if not isinstance(params, dict):
        return 'params must be an object, such as {"threshold": 0.5, "mask_format": "png"}'
    threshold = params.get("threshold")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        return "threshold must be a number between 0 and 1, both excluded"
    if not isinstance(params.get("mask_format", ""), str | None):
        return "mask_format must be png or rle"
    return None

"""How a failure reaches a client: one status, one sentence, and nothing of what was sent or of this machine.

response = answer_problem(error)

The body has the fields of MLflow's scoring server, so that its clients read ours.
"""

import logging

from starlette.responses import JSONResponse

from resunet.errors import RecordsError
from serving.errors import INTERNAL_MESSAGE, UNLOGGED_MESSAGE, headers_of, status_of
from serving.scoring import RequestError

# A queue of a few seconds' work is gone by then.
RETRY_SECONDS = 2

_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    408: "REQUEST_TIMEOUT",
    409: "RESOURCE_CONFLICT",
    410: "RESOURCE_GONE",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_log = logging.getLogger(__name__)


def answer_problem(error: Exception) -> JSONResponse:
    """The answer to a request that failed; what is not the client's to mend is logged here and not told."""
    if isinstance(error, RequestError):  # whoever made it has logged what there was to log
        answer = problem(error.get_http_status_code(), error.message)
        answer.headers.update(error.headers)
        return answer
    status, message = status_of(error), str(error)
    if status == 500:
        _log.error("a request failed", exc_info=error)
        message = INTERNAL_MESSAGE
    elif isinstance(error, RecordsError):
        _log.error("a request failed: %s", error)
        message = UNLOGGED_MESSAGE
    answer = problem(status, message)
    answer.headers.update(headers_of(error))
    return answer


def problem(status: int, message: str, retry_after: float | None = None) -> JSONResponse:
    """An answer of that status with a sentence; 503 and 429 say after how many seconds to come again."""
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, round(RETRY_SECONDS if retry_after is None else retry_after)))
    body = {"error_code": _CODES.get(status, "INTERNAL_ERROR"), "message": message}
    return JSONResponse(body, status, headers)


def problem_at(path: str, status: int, message: str) -> JSONResponse:
    """The same for whom no route was found yet: below `/v2` in the form of the Open Inference Protocol."""
    answer = problem(status, message)
    if path != "/v2" and not path.startswith("/v2/"):
        return answer
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    return JSONResponse({"error": message}, status, headers)

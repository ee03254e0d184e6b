"""Which HTTP status each failure becomes, for every server of the platform.

    status_of(ImageError("the file is truncated"))      # 400
    headers_of(LimitedError("too many requests", 0.4))  # {"Retry-After": "1"}

A message of 4xx, busy or late is for the client and is sent as it is. A log that cannot be written is told with
`UNLOGGED_MESSAGE`, because its own words name folders of this machine; what has no place here is a defect and
answered 500 with `INTERNAL_MESSAGE`. Both are told in full to the server's own log only, and so is a file of API keys
that cannot be used: the client is told `KEYS_MESSAGE`.
"""

import math
from typing import TYPE_CHECKING

from resunet.errors import ImageError, RecordsError, ResunetError, SettingsError

if TYPE_CHECKING:
    from serving.request import Row

INTERNAL_MESSAGE = "the server failed on this request; its log says why, under the time of this answer"
UNLOGGED_MESSAGE = (
    "the prediction could not be logged, and what is not logged is not answered; send the request again later. "
    "The server's log says why, under the time of this answer"
)

KEYS_MESSAGE = (
    "the server cannot read who may ask it, and lets nobody in; send the request again later. The server's log says why"
)


class TooLargeError(ImageError):
    """A good image or request that is larger than this server or this version takes."""


class RowError(ImageError):
    """An image of a request that is refused; the message begins with its row, and the status is its reason's."""

    def __init__(self, row: "Row", reason: ImageError) -> None:
        super().__init__(f"row {row.number}: {reason}")
        self.row = row
        self.reason = reason
        self.status = status_of(reason)


class NotAcceptableError(ResunetError):
    """The answer does not come in the form that was asked for; the message says in which it does."""


class UnsupportedError(ResunetError):
    """What was sent is of a kind that is not read here."""


class ConflictError(ResunetError):
    """What is there does not allow what was asked for."""


class NotThereError(ResunetError):
    """Something was asked for by a name that nothing has here."""


class BusyError(ResunetError):
    """Others are being answered: the same request may succeed later."""


class LateError(ResunetError):
    """The server has already answered 504 for this request, or is about to: its work is stopped."""


class SlowError(ResunetError):
    """A request's body did not come in the time that a request has."""


class UnauthorisedError(ResunetError):
    """A request without a valid API key.

    Args:
        error: as of RFC 6750, section 3.1; empty where the request brought no key.
    """

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.challenge = 'Bearer realm="resunet"' + (f', error="{error}"' if error else "")


class ForbiddenError(ResunetError):
    """A caller who is known and may not do this.

    Args:
        scope: that is missing.
    """

    def __init__(self, scope: str) -> None:
        super().__init__(f"this caller lacks the scope {scope}: ask the server's operator for a key that has it")
        self.challenge = f'Bearer realm="resunet", error="insufficient_scope", scope="{scope}"'


class LimitedError(ResunetError):
    """A caller who asks for more than its share.

    Args:
        message: whose share of what is used up.
        wait_s: until it is let in, if nothing else of it comes first.
    """

    def __init__(self, message: str, wait_s: float) -> None:
        self.retry_after = max(1, math.ceil(wait_s))
        super().__init__(f"{message}: send the request again in {self.retry_after} s")


class KeysError(ResunetError):
    """The file of API keys cannot be used: nobody can be told from anybody."""


# The first class that fits decides, so subclasses come before their base.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooLargeError, 413),
    (ImageError, 400),
    (SettingsError, 400),
    (NotThereError, 404),
    (ConflictError, 409),
    (UnsupportedError, 415),
    (NotAcceptableError, 406),
    (SlowError, 408),
    (UnauthorisedError, 401),
    (ForbiddenError, 403),
    (LimitedError, 429),
    (KeysError, 503),
    (BusyError, 503),
    (RecordsError, 503),
    (LateError, 504),
)


def status_of(error: Exception) -> int:
    """HTTP status of a failure while a request is answered; 500 for what is not the client's to mend."""
    if isinstance(error, RowError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def headers_of(error: Exception) -> dict[str, str]:
    """Headers that the answer to a failure adds to its own."""
    if isinstance(error, UnauthorisedError | ForbiddenError):
        return {"WWW-Authenticate": error.challenge}
    return {"Retry-After": str(error.retry_after)} if isinstance(error, LimitedError) else {}

"""Which HTTP status each failure becomes, for every server of the platform.

    status_of(ImageError("the file is truncated"))      # 400

A message of 4xx, busy or late is for the client and is sent as it is. A log that cannot be written is told with
`UNLOGGED_MESSAGE`, because its own words name folders of this machine; what has no place here is a defect and
answered 500 with `INTERNAL_MESSAGE`. Both are told in full to the server's own log only.
"""

from typing import TYPE_CHECKING

from resunet.errors import ImageError, RecordsError, ResunetError, SettingsError

if TYPE_CHECKING:
    from serving.request import Row

INTERNAL_MESSAGE = "the server failed on this request; its log says why, under the time of this answer"
UNLOGGED_MESSAGE = (
    "the prediction could not be logged, and what is not logged is not answered; send the request again later. "
    "The server's log says why, under the time of this answer"
)


class TooLargeError(ImageError):
    """A good image or request that is larger than this server or this version takes."""


class RowError(ImageError):
    """An image of a request that is refused; the message begins with its row, and the status is its reason's."""

    def __init__(self, row: "Row", reason: ImageError) -> None:
        super().__init__(f"row {row.number}: {reason}")
        self.row = row
        self.status = status_of(reason)


class BusyError(ResunetError):
    """Others are being answered: the same request may succeed later."""


class LateError(ResunetError):
    """The server has already answered 504 for this request, or is about to: its work is stopped."""


# The first class that fits decides, so subclasses come before their base.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooLargeError, 413),
    (ImageError, 400),
    (SettingsError, 400),
    (BusyError, 503),
    (RecordsError, 503),
    (LateError, 504),
)


def status_of(error: Exception) -> int:
    """HTTP status of a failure while a request is answered; 500 for what is not the client's to mend."""
    if isinstance(error, RowError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)

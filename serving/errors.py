"""Which HTTP status each failure becomes, for every server of the platform.

    status_of(ImageError("the file is truncated"))      # 400

A 4xx message is for the client and is sent as it is. What has no place here is a defect: it is answered 500
with `INTERNAL_MESSAGE` and told in full to the server's own log only.
"""

from resunet.errors import ImageError, RecordsError, SettingsError

INTERNAL_MESSAGE = "the server failed on this request; its log says why, under the time of this answer"


class TooLargeError(ImageError):
    """A good image that this version cannot run: too large as a whole, and its network cannot be tiled."""


# The first class that fits decides, so subclasses come before their base.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooLargeError, 413),
    (ImageError, 400),
    (SettingsError, 400),
    (RecordsError, 503),
)


def status_of(error: Exception) -> int:
    """HTTP status of a failure while a request is answered; 500 for what is not the client's to mend."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)

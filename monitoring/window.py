"""A stretch of time, as a person writes it on a command line.

parse_duration("24h")                              # timedelta(days=1)
Window.ending(parse_moment("2026-03-01T12:00Z"), parse_duration("7d"))
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from records.clocks import CLOCKS_DIFFER
from resunet.errors import SettingsError

# With fewer live rows a window has no verdict, unless somebody asks for one.
MIN_ROWS: Final = 20

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# A Monday: weeks begin with it.
_ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)
_LONGEST = timedelta(days=3650)


@dataclass(frozen=True)
class Window:
    """From `start` on, up to but without `end`. Both are aware UTC times."""

    start: datetime
    end: datetime

    @classmethod
    def ending(cls, end: datetime, length: timedelta) -> "Window":
        """The window of a length that ends at a moment."""
        end = end.astimezone(UTC)
        try:
            return cls(end - length, end)
        except OverflowError as error:
            raise SettingsError(f"a window of {length.days} days cannot end at {end.isoformat()}") from error

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"


def last_end(now: datetime, length: timedelta) -> datetime:
    """The end of the last window that is over, end to end; days begin at midnight UTC, weeks on Monday."""
    return now - (now - _ORIGIN) % length


def span(length: timedelta) -> str:
    """A length of time as a command or a policy writes it: 90m, 24h, 7d."""
    seconds = round(length.total_seconds())
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % unit == 0:
            return f"{seconds // unit}{name}"
    return f"{seconds}s"


def parse_duration(text: str) -> timedelta:
    """Read a length of time: a whole number and `s`, `m`, `h` or `d`.

    Raises:
        SettingsError: the text is something else, is zero, or is longer than ten years.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip().lower())
    if match is None:
        raise SettingsError(
            f"{text!r} is not a length of time: write a whole number and s, m, h or d, such as 30m, 24h or 7d"
        )
    length = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if not timedelta(0) < length <= _LONGEST:
        raise SettingsError(f"{text!r} is not a usable length of time: it must be more than 0 and at most 3650d")
    return length


def parse_moment(text: str) -> datetime:
    """Read an ISO 8601 date and time; without a time zone it is UTC.

    Raises:
        SettingsError: the text is not a date.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{text!r} is not a date and time: write it like 2026-03-01T12:00:00Z") from error


def parse_end(text: str, now: datetime) -> datetime:
    """Read the end of a window that is over: `parse_moment`, up to now.

    Args:
        now: aware.

    Raises:
        SettingsError: the text is not a date, or is one in the future: rows of the window are still to come.
    """
    end = parse_moment(text)
    if end > now + CLOCKS_DIFFER:
        raise SettingsError(
            f"--until {end.isoformat()} is in the future: a window that is not over has no verdict. Name a moment up "
            "to now, or leave --until out"
        )
    return end

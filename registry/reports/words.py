"""How reports write things that come up in each of them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich.text import Text

from registry.evidence import Interval

# Control characters, and those that turn the direction of writing: a reason or a name can be anybody's text.
_UNSAFE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SHORT: Final = 12


def plain(text: str) -> str:
    """Somebody's text without what a terminal would obey."""
    return _UNSAFE.sub("\ufffd", text)


def safe(text: str, style: str = "") -> Text:
    """The same for rich, which is to find no markup in it."""
    return Text(plain(text), style=style)


def moment(when: datetime) -> str:
    """`2026-11-21 07:24:05`, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def short(digest: str) -> str:
    """The beginning of a digest."""
    return digest.removeprefix("sha256:")[:_SHORT] or "unknown"


def interval(found: Interval | None) -> str:
    """`0.9120 [0.9000, 0.9250]`, or a dash."""
    return "–" if found is None else f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


def difference(found: Interval | None) -> str:
    """`+0.0100 [-0.0020, +0.0220]`, or a dash."""
    return "–" if found is None else f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def count(number: int, noun: str) -> str:
    """`1 image`, `1,234 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

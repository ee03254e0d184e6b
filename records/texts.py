"""Text that both databases can store, and text that a person can be shown."""

import re
from typing import Final

_LONGEST: Final = 500
_WHITE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def storable(text: str) -> str:
    """A text without NUL and half surrogate pairs: people and clients write anything, but no database stores those."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    """Text of anybody's as one line that ends: models, slices and jobs are named by people and by clients."""
    line = _WHITE.sub(" ", text).strip()
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"

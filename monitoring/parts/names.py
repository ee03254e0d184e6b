"""Names that clients gave, as a person may be shown them anywhere: in a terminal, on a page, in Markdown.

shown("site=B")                     # "site=B"
shown("<script>\\n" + 10_000 * "x")  # "·script··xxxx…"
"""

import unicodedata
from typing import Final

LONGEST: Final = 40
NO_SLICE: Final = "(no slice)"
_ALSO: Final = frozenset(" =.,:;_-+/#@%()'")


def shown(name: str | None) -> str:
    """One short line of letters, numbers and a few signs, none of which means anything to HTML, Markdown or rich."""
    if name is None:
        return NO_SLICE
    kept = "".join(sign if _is_plain(sign) else "·" for sign in name[: LONGEST + 1])
    kept = kept.replace("//", "··")  # nor an address to follow
    return f"{kept[: LONGEST - 1]}…" if len(kept) > LONGEST else kept


def _is_plain(sign: str) -> bool:
    return sign in _ALSO or unicodedata.category(sign)[0] in "LMN"

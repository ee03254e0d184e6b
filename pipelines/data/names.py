"""Names that read the same: an accented letter may be one character or two (Unicode's NFC and NFD).

names = Names(path.name for path in images)     # as macOS stores them: "Zellko\u0308rper.png"
names.meant_by("Zellk\u00f6rper.png")           # "Zellko\u0308rper.png"
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable


def composed(name: str) -> str:
    """The name in NFC: what reads the same is the same."""
    return unicodedata.normalize("NFC", name)


class Names:
    """Names that are there, found whatever normal form they are asked for in."""

    def __init__(self, there: Iterable[str] = ()) -> None:
        self._there = frozenset(there)
        self._alike: dict[str, list[str]] = defaultdict(list)
        for name in self._there:
            self._alike[composed(name)].append(name)

    def __contains__(self, name: str) -> bool:
        return name in self._there

    def meant_by(self, name: str) -> str:
        """The same name, else the only one that reads the same.

        Where none does it comes back in NFC, where several do as it is.
        """
        alike = self._alike.get(composed(name), [composed(name)])
        return name if name in self._there or len(alike) > 1 else alike[0]

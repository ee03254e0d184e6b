"""The texts of `--where` and `--slices`; a name or value with a separator in it stands between double quotes.

parse_where('stain="H&E, 40x"|PAS, site=x')     # {"stain": {"H&E, 40x", "PAS"}, "site": {"x"}}
parse_slices("stain, site")                     # ["stain", "site"]
quoted("H&E, 40x")                              # '"H&E, 40x"'
"""

import re
from typing import Final

from resunet.errors import DataError, SettingsError

_QUOTES: Final = 'text with , | = or " in it between double quotes, as in stain="H&E, 40x", and a " in it twice'


def _word(ends: str) -> str:
    """A pattern for text in double quotes, or without one at its front up to one of the characters `ends`."""
    return rf'\s*(?:"(?:[^"]|"")+"\s*|(?![\s"])[^{ends}]+)'


_COLUMN: Final = re.compile(rf"({_word(',')})(,|\Z)")
_VALUE: Final = re.compile(rf"({_word(',|')})(\||\Z)")
_PART: Final = re.compile(rf"({_word('=,')})=({_word(',|')}(?:\|{_word(',|')})*)(,|\Z)")


def parse_slices(text: str) -> list[str] | None:
    """`stain, site` as the columns it names; None, which means the default, if it is empty.

    Raises:
        SettingsError: it is not of that form.
    """
    if not text.strip():
        return None
    parts, rest = _cut(text, _COLUMN)
    if rest is not None:
        raise SettingsError(
            f"slices: '{text}' is not understood; write the columns of metadata.csv as a,b, and {_QUOTES}"
        )
    return [_plain(part[1]) for part in parts]


def parse_where(expression: str) -> dict[str, frozenset[str]]:
    """`a=x|y,b=z` as the values wanted of each column.

    Raises:
        DataError: it is not of that form, or names a column twice.
    """
    wanted: dict[str, frozenset[str]] = {}
    parts, rest = _cut(expression, _PART)
    for part in parts:
        column = _plain(part[1])
        if column in wanted:
            rest = expression[part.start() :]
            break
        wanted[column] = frozenset(_plain(value[1]) for value in _VALUE.finditer(part[2]))
    if rest is not None:
        raise DataError(
            f"where: '{rest.strip()}' is not understood; write column=value, alternatives as column=a|b, further "
            f"columns (each once) after a comma, and {_QUOTES}"
        )
    return wanted


def quoted(text: str) -> str:
    """A column's name or a value as `--where` and `--slices` understand it."""
    return '"' + text.replace('"', '""') + '"' if re.search(r'[,|="]', text) else text


def _plain(word: str) -> str:
    word = word.strip()
    return word[1:-1].replace('""', '"') if word.startswith('"') else word


def _cut(text: str, pattern: re.Pattern[str]) -> tuple[list[re.Match[str]], str | None]:
    """The parts of a text, each up to its separator, and what follows them; None if they are all of it."""
    parts: list[re.Match[str]] = []
    place = 0
    while part := pattern.match(text, place):
        parts.append(part)
        place = part.end()
        if not part[part.re.groups]:
            return parts, None
    return parts, text[place:]

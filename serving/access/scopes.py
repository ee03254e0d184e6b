"""What a caller may do: five scopes, of which `admin` includes the others.

parse_scopes(["predict", "labels"])     # frozenset({"predict", "labels"})
effective({"admin"})                    # all five
"""

from collections.abc import Iterable, Set
from typing import Final, Literal, get_args

from resunet.errors import SettingsError

Scope = Literal["predict", "probabilities", "labels", "metrics", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
EVERYTHING: Final[frozenset[Scope]] = frozenset(SCOPES)
NOT_ADMIN: Final[frozenset[Scope]] = EVERYTHING - {"admin"}


def effective(scopes: Set[Scope]) -> frozenset[Scope]:
    """All that these scopes allow."""
    return EVERYTHING if "admin" in scopes else frozenset(scopes)


def parse_scopes(words: Iterable[str]) -> frozenset[Scope]:
    """Scopes as somebody types them.

    Raises:
        SettingsError: there is none, or one of them is not known; a word is not repeated, it may be a pasted token.
    """
    given = set(words)
    found = frozenset(scope for scope in SCOPES if scope in given)
    if not found or len(found) < len(given):
        raise SettingsError(f"a key needs one or more of the scopes {', '.join(SCOPES)}: name each with --scope")
    return found

"""The split of a file is a pure function of its key, so that adding images never moves an old one.

split_of(key_of("patient 7", pixels))       # "train"
"""

import hashlib
from typing import Final, Literal, get_args

Split = Literal["train", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
PIXELS_PREFIX: Final = "pixels:"


def key_of(group: str | None, pixels: str) -> str:
    """What decides a file's split: its group's name, else its decoded pixels.

    A group named `pixels:<hash>` has the split of an ungrouped file with those pixels.
    """
    if group is None:
        return PIXELS_PREFIX + pixels
    return group if group.startswith(PIXELS_PREFIX) else f"group:{group}"


def split_of(key: str) -> Split:
    """70 % train, 15 % validation, 15 % test, by the key's hash."""
    fraction = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "train" if fraction < 0.70 else "validation" if fraction < 0.85 else "test"

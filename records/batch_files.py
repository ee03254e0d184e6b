"""The files of a data set that live images become: images as they were sent, masks as PNG, a name each.

write_image(folder, file_stem(answer_id), image)                # images/live-….jpg; returns its name
write_mask(folder, file_stem(answer_id), mask)                  # masks/live-….png
"""

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from resunet.masks import encode_png

_SUFFIXES: Final = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"II": ".tif", b"MM": ".tif", b"BM": ".bmp"}


def write_image(folder: Path, stem: str, image: bytes) -> str:
    """Write an encoded image, and return its file's name."""
    name = f"{stem}{next((suffix for start, suffix in _SUFFIXES.items() if image.startswith(start)), '.png')}"
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / name).write_bytes(image)
    return name


def write_mask(folder: Path, stem: str, mask: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
    """Write a mask (H, W), as `levels` makes it."""
    (folder / "masks").mkdir(exist_ok=True)
    (folder / "masks" / f"{stem}.png").write_bytes(encode_png(levels(mask)))


def sha256(content: bytes) -> str:
    """By which an image or a mask is known, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def levels(mask: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask (H, W) as a data set has it: 0 and 255 of a binary one, else class indices."""
    return np.where(mask, np.uint8(255), np.uint8(0)) if mask.dtype == np.bool_ else mask.astype(np.uint8)

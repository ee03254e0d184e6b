"""Drawing masks over images: enlarged so that outlines are equally thin, brighter where an image is dark.

rgb, (truth,) = enlarged(image, [truth])
picture = brighter(rgb)
draw_outline(picture, truth, SKY)
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from resunet.palette import levels

# Side that pictures are drawn at: outlines are then equally thin whatever the image's size.
SIDE: Final = 640


def enlarged(
    rgb: NDArray[np.uint8], masks: Sequence[NDArray[np.uint8]], side: int = SIDE
) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """An image (H, W, 3) and masks of it (H, W), scaled so that the longer side has `side` pixels."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, size, interpolation=smooth), np.uint8), [
        np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), np.uint8) for mask in masks
    ]


def gain(rgb: NDArray[np.uint8]) -> float:
    """How much brighter a dark image is shown: fluorescence often ends at a level of 60."""
    top = float(np.quantile(rgb.max(axis=2), 0.995))
    return min(6.0, 220 / max(top, 1.0)) if top < 150 else 1.0


def brighter(rgb: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """An image (H, W, 3) with its levels multiplied."""
    return np.asarray(np.clip(rgb * factor, 0, 255), np.uint8)


def faded(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey and half as contrasted, so that what is drawn on it is the only colour."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.repeat((grey // 2 + 40).astype(np.uint8)[..., None], 3, axis=2)


def draw_outline(picture: NDArray[np.uint8], mask: NDArray[np.uint8], colour: str, thickness: int = 2) -> None:
    """Draw the outline of each class into (H, W, 3) uint8, in place; `colour` is #rrggbb."""
    for index in np.unique(mask[mask > 0]):
        inside = (mask == index).astype(np.uint8)
        contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, levels(colour), thickness, cv2.LINE_AA)

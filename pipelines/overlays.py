"""The best, the median and the worst image of a split: what was found, what is there, and where they differ.

drawn = overlays(predictor, LabelledImages(validation), dice_by_path)
overlay_sheet(drawn).savefig("overlays.png")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pipelines.evaluate import LabelledImages
from pipelines.palette import INK, ORANGE, SKY, canvas
from serving.predictor import Predictor

_RED: Final = "#dc1414"
# Side that pictures are drawn at: outlines are then equally thin whatever the image's size.
_SIDE: Final = 640


@dataclass(frozen=True)
class Overlay:
    """One image of the overlay sheet.

    Attributes:
        label: such as "best".
        path: the image's name in the data set.
        dice: of the prediction.
        rgb: (H, W, 3) uint8.
        prediction, truth: (H, W) uint8 class indices.
    """

    label: str
    path: str
    dice: float
    rgb: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def overlays(predictor: Predictor, images: LabelledImages, dice: Mapping[str, float]) -> list[Overlay]:
    """Predict the best, the median and the worst of the images whose Dice is known; ties go by name.

    Args:
        predictor: of the version.
        images: hold those that `dice` names.
        dice: of each image, by path.
    """
    ranked = sorted(dice, key=lambda path: (-dice[path], path))
    picks: dict[str, str] = {}  # path: label; with one or two images a path would come twice
    for label, place in (("best", 0), ("worst", len(ranked) - 1), ("median", len(ranked) // 2)):
        picks.setdefault(ranked[place], label)
    drawn = []
    for image in images.only(sorted(picks, key=ranked.index)):
        mask = predictor.predict(image.rgb).mask
        prediction = (mask > 0).astype(np.uint8) if predictor.spec.binary else mask
        drawn.append(Overlay(picks[image.path], image.path, dice[image.path], image.rgb, prediction, image.mask))
    return drawn


def overlay_sheet(drawn: Sequence[Overlay]) -> Figure:
    """A row an image: the image, the outlines of truth and prediction, and the wrong pixels in red.

    Args:
        drawn: best, median and worst, or any others; at least one.
    """
    ratios = [min(1.6, max(0.3, o.rgb.shape[0] / o.rgb.shape[1])) for o in drawn]
    panel = 3.7
    figure = canvas(3 * panel + 0.4, sum(panel * ratio + 0.45 for ratio in ratios) + 0.6)
    rows = figure.subplots(len(drawn), 3, squeeze=False, height_ratios=ratios)
    for axes, overlay in zip(rows, drawn, strict=True):
        gain = _gain(overlay.rgb)
        rgb, prediction, truth = _enlarged(overlay)
        rgb = np.clip(rgb * gain, 0, 255).astype(np.uint8)
        wrong = prediction != truth
        outlined, errors = rgb.copy(), _faded(rgb)
        # The truth's line is the wider one: where the two agree, it shows on both sides.
        _outline(outlined, truth, SKY, thickness=5)
        _outline(outlined, prediction, ORANGE, thickness=2)
        errors[wrong] = _levels(_RED)
        _outline(errors, truth, "#ffffff", thickness=1)
        share = float((overlay.prediction != overlay.truth).mean())
        titles = (
            f"{overlay.label}: {_short(overlay.path)}" + (" (shown brighter)" if gain > 1 else ""),
            f"Dice {overlay.dice:.3f}",
            f"{share:.1%} of pixels wrong",
        )
        for place, picture, title in zip(axes, (rgb, outlined, errors), titles, strict=True):
            place.imshow(picture)
            place.set_title(title, fontsize=10, color=INK)
            place.set_axis_off()
    handles: list[Artist] = [
        Line2D([], [], color=SKY, linewidth=3, label="outline of the truth"),
        Line2D([], [], color=ORANGE, linewidth=3, label="outline of the prediction"),
        Patch(color=_RED, label="wrong pixel (white line: the truth)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def _short(path: str, limit: int = 38) -> str:
    name = path.rpartition("/")[2]
    return name if len(name) <= limit else f"{name[: limit - 9]}…{name[-8:]}"


def _enlarged(overlay: Overlay) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    height, width = overlay.rgb.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    rgb = cv2.resize(overlay.rgb, size, interpolation=smooth)
    prediction, truth = (
        cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in (overlay.prediction, overlay.truth)
    )
    return np.asarray(rgb, np.uint8), np.asarray(prediction, np.uint8), np.asarray(truth, np.uint8)


def _gain(rgb: NDArray[np.uint8]) -> float:
    """How much brighter a dark image is shown: fluorescence often ends at a level of 60."""
    top = float(np.quantile(rgb.max(axis=2), 0.995))
    return min(6.0, 220 / max(top, 1.0)) if top < 150 else 1.0


def _faded(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey and half as contrasted, so that red is the only colour."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.repeat((grey // 2 + 40).astype(np.uint8)[..., None], 3, axis=2)


def _outline(picture: NDArray[np.uint8], mask: NDArray[np.uint8], colour: str, thickness: int = 2) -> None:
    """Draw the outline of each class into (H, W, 3) uint8, in place."""
    for index in np.unique(mask[mask > 0]):
        inside = (mask == index).astype(np.uint8)
        contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, _levels(colour), thickness, cv2.LINE_AA)


def _levels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)

"""The best, the median and the worst image of a split: what was found, what is there, and where they differ.

drawn = overlays(predictor, LabelledImages(validation), dice_by_path)
overlay_sheet(drawn).savefig("overlays.png")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pipelines.data.labelled import LabelledImages
from pipelines.version.canvas import canvas
from pipelines.version.outlines import brighter, draw_outline, enlarged, faded, gain
from resunet.palette import INK, ORANGE, SKY, levels
from serving.predictor import Predictor

_RED: Final = "#dc1414"


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
        factor = gain(overlay.rgb)
        rgb, (prediction, truth) = enlarged(overlay.rgb, (overlay.prediction, overlay.truth))
        rgb = brighter(rgb, factor)
        wrong = prediction != truth
        outlined, errors = rgb.copy(), faded(rgb)
        # The truth's line is the wider one: where the two agree, it shows on both sides.
        draw_outline(outlined, truth, SKY, thickness=5)
        draw_outline(outlined, prediction, ORANGE, thickness=2)
        errors[wrong] = levels(_RED)
        draw_outline(errors, truth, "#ffffff", thickness=1)
        share = float((overlay.prediction != overlay.truth).mean())
        titles = (
            f"{overlay.label}: {_short(overlay.path)}" + (" (shown brighter)" if factor > 1 else ""),
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

"""The labelled images with the lowest Dice: the image where it is kept, the mask that was answered, and the score.

    shown = worst_of(rows, stores, limit=12)
    draw_sheet(shown, title="…", path=folder / WORST_FILE)

Pixels of clients go to a folder that a person names, never to MLflow or a database: there, neither retention nor
`records forget` would find them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monitoring.performance.labelled import LabelledAnswer
from records.labels import from_stored
from records.stores import Stores
from resunet.errors import ResunetError
from resunet.images import decode_image
from resunet.palette import CLASS_COLOURS, INK, SKY, levels

WORST_FILE: Final = "worst.png"
_SIDE: Final = 480
_ACROSS: Final = 4
_GROUND: Final = 40
# A fluorescence image may end at a level of 60: it is shown brighter.
_DARK: Final = 150.0
_BRIGHT: Final = 220.0
_MOST: Final = 6.0


@dataclass(frozen=True)
class Shown:
    """An image of the sheet; (h, w, 3) uint8, None where neither image nor mask is kept any more."""

    row: LabelledAnswer
    picture: NDArray[np.uint8] | None
    image_kept: bool


def worst_of(rows: Sequence[LabelledAnswer], stores: Stores, limit: int = 12) -> list[Shown]:
    """Draw the labelled images with the lowest Dice, the lowest first; what cannot be read is as if not kept."""
    lowest = sorted(rows, key=lambda row: (row.dice, row.answer_id))[:limit]
    return [_show(row, stores) for row in lowest]


def _show(row: LabelledAnswer, stores: Stores) -> Shown:
    try:
        stored = stores.masks.get(row.answer_id, row.event_time)
        mask = None if stored is None else from_stored(stored).astype(np.uint8)
    except ResunetError:
        mask = None
    try:
        truth_rle = stores.truths.get(row.answer_id, row.source, row.event_time)
        truth = None if truth_rle is None else from_stored(truth_rle).astype(np.uint8)
    except ResunetError:
        truth = None
    try:
        kept = stores.images.get(row.answer_id, row.event_time)
        rgb = None if kept is None else decode_image(kept)
    except ResunetError:
        rgb = None
    if rgb is None and mask is None:
        return Shown(row, None, False)
    if rgb is not None and mask is not None and rgb.shape[:2] != mask.shape:
        mask = None
    if rgb is not None and truth is not None and rgb.shape[:2] != truth.shape:
        truth = None
    return Shown(row, _picture(rgb, mask, truth), rgb is not None)


def _picture(
    rgb: NDArray[np.uint8] | None, mask: NDArray[np.uint8] | None, truth: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Outlines of mask and truth over the image, or the mask alone."""
    height, width = mask.shape if mask is not None else rgb.shape[:2]  # type: ignore[union-attr]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if rgb is None:
        out = np.full((size[1], size[0], 3), _GROUND, np.uint8)
    else:
        out = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))
        top = float(np.quantile(out.max(axis=2), 0.995))
        out = np.clip(out * (min(_MOST, _BRIGHT / max(top, 1.0)) if top < _DARK else 1.0), 0, 255).astype(np.uint8)
    if truth is not None and rgb is not None:
        # Wider: where the two agree, it shows on both sides.
        small = cv2.resize((truth > 0).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, contours, -1, levels(SKY), 5, cv2.LINE_AA)
    if mask is not None:
        small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        for index in np.unique(small[small > 0]):
            colour = levels(CLASS_COLOURS[(int(index) - 1) % len(CLASS_COLOURS)])
            inside = (small == index).astype(np.uint8)
            if rgb is None:
                out[inside > 0] = colour
            else:
                contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(out, contours, -1, colour, 2, cv2.LINE_AA)
    return np.asarray(out, np.uint8)


def draw_sheet(shown: Sequence[Shown], *, title: str, path: Path) -> None:
    """Draw the images side by side as a PNG: Dice, confidence and request id above each."""
    down = math.ceil(len(shown) / _ACROSS)
    figure = Figure(figsize=(3.2 * _ACROSS, 3.6 * down + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, _ACROSS, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, one in zip(panels, shown, strict=False):
        if one.picture is not None:
            panel.imshow(one.picture)
        else:
            panel.text(0.5, 0.5, "no longer kept", ha="center", va="center", color=INK, transform=panel.transAxes)
        panel.set_title(caption(one), fontsize=8, color=INK, loc="left", parse_math=False)
    figure.suptitle(title, fontsize=11, color=INK, parse_math=False)
    figure.savefig(path, dpi=110)


def caption(one: Shown) -> str:
    """Dice, what was expected, and the request."""
    row = one.row
    expected = "" if row.confidence is None else f", expected {row.confidence:.2f}"
    name = row.request_id if len(row.request_id) <= 36 else f"{row.request_id[:33]}…"
    alone = ", image not kept" if one.picture is not None and not one.image_kept else ""
    return f"Dice {row.dice:.3f}{expected}\nversion {row.model_version}, {row.source}{alone}\n{name}"

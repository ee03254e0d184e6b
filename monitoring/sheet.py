"""A sheet of images: each that is far from the reference beside the training image it comes nearest to.

draw_sheet(far_images, images, data, title="resunet version 3, …", path=folder / SHEET_FILE)

Live images are shown where they are kept (`RESUNET_KEEP_IMAGES`), training images where the data set is at hand.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monitoring.furthest import FarImage
from resunet.errors import ImageError, RecordsError
from resunet.images import decode_image, read_image

SHEET_FILE: Final = "furthest.png"
SHOWN: Final = 8
_ACROSS: Final = 2
_SIDE: Final = 256
_INK: Final = "#333a44"

Rgb = NDArray[np.uint8]
# An answer's image as it was sent; None where it is not kept.
Kept = Callable[[str], bytes | None]


def draw_sheet(far: Sequence[FarImage], kept: Kept, data: Path | None, *, title: str, path: Path) -> bool:
    """Draw pairs as a PNG, and return whether there was anything to show.

    Args:
        far: the images, the furthest first.
        kept: where live images are.
        data: folder of the data set that the version was trained on; None: its images are named, not shown.
        title: above all.
        path: of the PNG.
    """
    there = ((one, live) for one in far if (live := _live(kept, one.answer)) is not None)
    pairs = list(islice(there, SHOWN))
    if not pairs:
        return False
    down = -(-len(pairs) // _ACROSS)
    # Not pyplot: it keeps every figure of the process and is not for threads.
    figure = Figure(figsize=(6.6 * _ACROSS, 3.4 * down + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, 2 * _ACROSS, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for place, (one, live) in enumerate(pairs):
        far_as = f"{one.distance / one.usual:.1f} × as far as usual" if one.usual > 0 else "far from the reference"
        _show(panels[2 * place], live, f"{far_as}\n{one.answer[:24]}")
        _show(panels[2 * place + 1], _trained(data, one.nearest), f"nearest training image\n{one.nearest[-40:]}")
    figure.suptitle(title, fontsize=11, color=_INK, parse_math=False)
    figure.savefig(path, dpi=100)
    return True


def _live(kept: Kept, answer: str) -> Rgb | None:
    try:
        stored = kept(answer)
        return None if stored is None else _shrunk(decode_image(stored))
    except (ImageError, RecordsError):  # damaged, or sealed with a key that is not here
        return None


def _trained(data: Path | None, file: str) -> Rgb | None:
    if data is None or not file:
        return None
    # The manifest's name of a file; one that leads out of the data set is not believed.
    path = (data / "images" / Path(file).name).resolve()
    try:
        return _shrunk(read_image(path)) if path.is_relative_to(data.resolve()) else None
    except ImageError:
        return None


def _shrunk(rgb: Rgb) -> Rgb:
    scale = min(1.0, _SIDE / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _show(panel: Axes, rgb: Rgb | None, caption: str) -> None:
    if rgb is None:
        panel.text(
            0.5, 0.5, "not at hand: give --data", ha="center", va="center", color=_INK, transform=panel.transAxes
        )
    else:
        panel.imshow(rgb)
    panel.set_title(caption, fontsize=8, color=_INK, loc="left", parse_math=False)

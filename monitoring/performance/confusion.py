"""Pixels of labelled images by true and predicted class: which class is taken for which.

table = pixel_table(rows, weights)
draw_confusion(table, title="…", path=folder / CONFUSION_FILE.format(version))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monitoring.performance.labelled import LabelledAnswer
from resunet.palette import INK

# Of a version.
CONFUSION_FILE: Final = "confusion_{}.png"
# With more classes the numbers cannot be read.
_NUMBERED: Final = 14


@dataclass(frozen=True)
class PixelTable:
    """A confusion matrix of pixels.

    Attributes:
        counts: (n, n), rows are true classes, columns predicted ones, the background first; n is at least 2. Where
            images are weighted, of the population that they were chosen from.
        images: how many are in it; of others only scores are known.
    """

    counts: NDArray[np.float64]
    images: int

    @property
    def shares(self) -> NDArray[np.float64]:
        """(n, n): of the pixels of a true class, the share predicted as each; 0 where there is none."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(self.counts, totals, out=np.zeros_like(self.counts), where=totals > 0))


def pixel_table(rows: Sequence[LabelledAnswer], probabilities: Sequence[float] | None = None) -> PixelTable | None:
    """Add up the pixels of labels; None where none tells them.

    Args:
        rows: labels.
        probabilities: of their images having been chosen: each counts with the inverse.
    """
    chances = probabilities if probabilities is not None else [1.0] * len(rows)
    known = [(row.pixels, chance) for row, chance in zip(rows, chances, strict=True) if row.pixels is not None]
    if not known:
        return None
    classes = max(2, 1 + max((index for pixels, _ in known for pair in pixels for index in pair), default=0))
    counts = np.zeros((classes, classes))
    for pixels, chance in known:
        for pair, count in pixels.items():
            counts[pair] += count / chance
    return PixelTable(counts, len(known))


def draw_confusion(table: PixelTable, *, title: str, path: Path) -> None:
    """Draw the share of each true class that is predicted as each class, as a PNG."""
    count = len(table.counts)
    names = ["background", "foreground"] if count == 2 else ["background", *(f"class {i}" for i in range(1, count))]
    side = min(16.0, 2.8 + 1.1 * count)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    image = panel.imshow(table.shares, cmap="Blues", vmin=0, vmax=1)
    if count <= _NUMBERED:
        for (true, predicted), share in np.ndenumerate(table.shares):
            text = f"{share:.1%}\n{_pixels(float(table.counts[true, predicted]))}"
            colour = "white" if share > 0.55 else INK
            panel.text(predicted, true, text, ha="center", va="center", fontsize=10 if count < 7 else 7, color=colour)
    panel.set_xticks(range(count), names, rotation=0 if count <= 4 else 60)
    panel.set_yticks(range(count), names)
    panel.set_xlabel("predicted class")
    panel.set_ylabel("true class")
    panel.set_title(title, fontsize=10, color=INK)
    figure.colorbar(image, ax=panel, fraction=0.045, format=lambda value, _: f"{value:.0%}")
    figure.savefig(path, dpi=110)


def _pixels(count: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}px"
    return f"{count:.0f} px"

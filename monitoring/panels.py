"""Small multiples: the pictures of a report and of a trend have a panel a descriptor, three side by side.

figure, panels = small_multiples(6, "resunet version 3, …")
label_panel(panels[0], "brightness   +1.2 SD", moved=True, below="brightness (grey levels)", beside="% of images")
time_axis(panels[0])                        # where it shows moments: panel.plot(days(*ends), means)
figure.savefig(path, dpi=DPI)
"""

import math
from datetime import datetime
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

REFERENCE: Final = "#9aa5b1"
LIVE: Final = "#0b6bcb"
INK: Final = "#333a44"
MOVED: Final = "#c2410c"
DPI: Final = 130
_ACROSS: Final = 3


def small_multiples(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, one at least; what is left of its last row is empty."""
    across = min(_ACROSS, max(count, 1))
    down = max(math.ceil(count / across), 1)
    # Not pyplot: it keeps every figure of the process and is not for threads.
    figure = Figure(figsize=(4.0 * across, 2.5 * down + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(down, across, squeeze=False).ravel())
    for panel in panels[count:]:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=11, color=INK, parse_math=False)
    return figure, panels[: max(count, 1)]


def label_panel(panel: Axes, title: str, *, moved: bool, below: str, beside: str) -> None:
    """Say what a panel shows; what moved stands out."""
    panel.set_title(
        title, fontsize=9.5, loc="left", color=MOVED if moved else INK, fontweight="bold" if moved else "normal"
    )
    panel.set_xlabel(below, fontsize=8, color=INK)
    panel.set_ylabel(beside, fontsize=8, color=INK)
    panel.tick_params(labelsize=8, colors=INK)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.02)


def time_axis(panel: Axes, maxticks: int = 5) -> None:
    """Have a panel's horizontal axis show days and hours; its values are those of `days`."""
    locator = AutoDateLocator(maxticks=maxticks)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    panel.xaxis.get_offset_text().set_fontsize(8)


def days(*moments: datetime) -> list[float]:
    """As Matplotlib counts them: days since 1970, in UTC."""
    return [moment.timestamp() / 86_400 for moment in moments]

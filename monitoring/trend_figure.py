"""The picture of a trend: the means of the windows, one after the other, of the descriptors that changed most.

draw_trend(answer, title="resunet version 3, …", path=folder / "trend.png")
"""

from pathlib import Path
from typing import Final

from matplotlib.axes import Axes

from monitoring.panels import DPI, LIVE, MOVED, days, label_panel, small_multiples, time_axis
from monitoring.trend import Changed, TrendAnswer
from monitoring.words import label

PANELS: Final = 6


def draw_trend(answer: TrendAnswer, *, title: str, path: Path) -> None:
    """Draw small multiples of the descriptors that changed most, at most six, as a PNG."""
    shown = answer.columns[:PANELS]
    figure, panels = small_multiples(len(shown), title)
    for panel, one in zip(panels, shown, strict=False):
        _panel(panel, answer, one)
    figure.savefig(path, dpi=DPI)


def _panel(panel: Axes, answer: TrendAnswer, one: Changed) -> None:
    ends, turned = days(*answer.ends), days(one.turned)[0]
    panel.plot(ends, one.means, color=LIVE, marker="o", markersize=3, linewidth=1.2)
    if one.alarm:
        panel.axvline(turned, color=MOVED, linewidth=1.2, linestyle="--")
        panel.annotate(
            "most since", (turned, 1.0), (3, -3), xycoords=panel.get_xaxis_transform(), textcoords="offset points",
            fontsize=7, color=MOVED, va="top",
        )  # fmt: skip
    title = f"{one.column}   {'trend ' if one.alarm else ''}{one.deviations:+.2f} SD"
    label_panel(panel, title, moved=one.alarm, below="end of window, UTC", beside=label(one.column))
    time_axis(panel)

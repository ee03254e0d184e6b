"""The picture of a trend: the means of the windows, one after the other, of the descriptors that changed most.

draw_trend(answer, title="resunet version 3, …", path=folder / "trend.png")
"""

from datetime import datetime
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from monitoring.panels import DPI, LIVE, MOVED, label_panel, small_multiples
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
    ends, turned = _days(*answer.ends), _days(one.turned)[0]
    panel.plot(ends, one.means, color=LIVE, marker="o", markersize=3, linewidth=1.2)
    if one.alarm:
        panel.axvline(turned, color=MOVED, linewidth=1.2, linestyle="--")
        panel.annotate(
            "most since", (turned, 1.0), (3, -3), xycoords=panel.get_xaxis_transform(), textcoords="offset points",
            fontsize=7, color=MOVED, va="top",
        )  # fmt: skip
    locator = AutoDateLocator(maxticks=5)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    title = f"{one.column}   {'trend ' if one.alarm else ''}{one.deviations:+.2f} SD"
    label_panel(panel, title, moved=one.alarm, below="end of window, UTC", beside=label(one.column))
    panel.xaxis.get_offset_text().set_fontsize(8)


def _days(*moments: datetime) -> list[float]:
    """As Matplotlib counts them: days since 1970, in UTC."""
    return [moment.timestamp() / 86_400 for moment in moments]

"""The picture of measured Dice: a version's labels, day by day or in longer bits, with the 95 % interval of each mean.

draw_dice(read_dice(engine, "resunet", start, end), "7", below=0.8, title="…", path=folder / DICE_PICTURE)
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monitoring.panels import DPI, INK, LIVE, MOVED, REFERENCE, days, time_axis
from records.watch.measured import Dice, MeasuredDice

# Intervals of a version beside that of another one's same days.
_ASIDE: Final = 0.12


def draw_dice(found: Dice, version: str, *, below: float, title: str, path: Path) -> None:
    """Draw the means of a version, and those of others in grey, as a PNG.

    Args:
        below: what the Dice must not be below, as a line.
    """
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    others = sorted({one.version for one in found.course} - {version})
    for place, other in enumerate(others):
        aside = _ASIDE * (1 + place // 2) * (-1) ** place
        _means(panel, [one for one in found.course if one.version == other], REFERENCE, f"version {other}", aside)
    mine = [one for one in found.course if one.version == version]
    _means(panel, mine, LIVE, f"version {version}", 0.0)
    for one in mine:
        panel.annotate(
            f"{one.images}", (_middle(one), one.high), (0, 3), textcoords="offset points",
            fontsize=7, color=INK, ha="center",
        )  # fmt: skip
    panel.axhline(below, color=MOVED, linewidth=1.2, linestyle="--", label=f"must not be below {below:g}")
    panel.set_ylim(max(0.0, min([below, *(one.low for one in found.course)]) - 0.05), 1.06)
    panel.set_title(title, fontsize=10, color=INK, parse_math=False)
    panel.set_ylabel("mean Dice, 95 % interval; above it: labelled images", fontsize=8, color=INK)
    panel.set_xlabel("answered, UTC", fontsize=8, color=INK)
    panel.tick_params(labelsize=8, colors=INK)
    panel.spines[["top", "right"]].set_visible(False)
    time_axis(panel, maxticks=8)
    panel.legend(fontsize=8, frameon=False, loc="best")
    figure.savefig(path, dpi=DPI)


def _means(panel: Axes, some: Sequence[MeasuredDice], colour: str, label: str, aside: float) -> None:
    """Args: aside: in shares of a bit, so that intervals of the same days do not lie on one another."""
    if not some:
        return
    means = [one.mean for one in some]
    errors = [[one.mean - one.low for one in some], [one.high - one.mean for one in some]]
    at = [_middle(one, aside) for one in some]
    panel.errorbar(
        at, means, yerr=errors, color=colour, marker="o", markersize=4, linewidth=1.0, capsize=3, label=label
    )


def _middle(one: MeasuredDice, aside: float = 0.0) -> float:
    length: timedelta = one.end - one.start
    return days(one.start + length * (0.5 + aside))[0]

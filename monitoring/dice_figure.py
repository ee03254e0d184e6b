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
from matplotlib.lines import Line2D

from monitoring.panels import DPI, INK, LIVE, MOVED, REFERENCE, days, time_axis
from records.watch.measured import Dice, MeasuredDice

# Of other versions those with most labels: more of them would hide the one that it is about.
_OTHERS: Final = 4
# Their intervals stand beside that of the same days, by so much of a bit each.
_ASIDE: Final = 0.12


def draw_dice(found: Dice, version: str, *, below: float, title: str, path: Path) -> None:
    """Draw the means of a version, and those of a few others in grey, as a PNG.

    Args:
        below: what the Dice must not be below, as a line.
    """
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    others = [one.version for one in found.versions if one.version != version]
    for place, other in enumerate(others[:_OTHERS]):
        aside = _ASIDE * (1 + place // 2) * (-1) ** place
        _means(panel, [one for one in found.course if one.version == other], REFERENCE, aside)
    mine = [one for one in found.course if one.version == version]
    _means(panel, mine, LIVE, 0.0)
    for one in mine:
        panel.annotate(
            f"{one.images}", (_middle(one), one.high), (0, 3), textcoords="offset points",
            fontsize=7, color=INK, ha="center",
        )  # fmt: skip
    panel.axhline(below, color=MOVED, linewidth=1.2, linestyle="--")
    panel.set_ylim(max(0.0, min([below, *(one.low for one in found.course)]) - 0.05), 1.06)
    panel.set_title(title, fontsize=10, color=INK, parse_math=False)
    panel.set_ylabel("mean Dice, 95 % interval; above it: labelled images", fontsize=8, color=INK)
    panel.set_xlabel("answered, UTC", fontsize=8, color=INK)
    panel.tick_params(labelsize=8, colors=INK)
    panel.spines[["top", "right"]].set_visible(False)
    time_axis(panel, maxticks=8)
    _legend(figure, version, others, below)
    figure.savefig(path, dpi=DPI)


def _means(panel: Axes, some: Sequence[MeasuredDice], colour: str, aside: float) -> None:
    """Args: aside: in shares of a bit, so that intervals of the same days do not lie on one another."""
    means = [one.mean for one in some]
    # An interval of values that are all alike may miss their mean by what rounding makes of it.
    errors = [[max(0.0, one.mean - one.low) for one in some], [max(0.0, one.high - one.mean) for one in some]]
    at = [_middle(one, aside) for one in some]
    panel.errorbar(at, means, yerr=errors, color=colour, marker="o", markersize=4, linewidth=1.0, capsize=3)


def _legend(figure: Figure, version: str, others: Sequence[str], below: float) -> None:
    rest = f" and {len(others) - _OTHERS} more that are not shown" if len(others) > _OTHERS else ""
    named = {f"version {version}": Line2D([], [], color=LIVE, marker="o")}
    if others:
        named[f"other versions: {', '.join(others[:_OTHERS])}{rest}"] = Line2D([], [], color=REFERENCE, marker="o")
    named[f"must not be below {below:g}"] = Line2D([], [], color=MOVED, linestyle="--")
    legend = figure.legend(
        list(named.values()), list(named), fontsize=8, frameon=False, loc="outside lower left", ncols=len(named)
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # what a version is called is nobody's formula


def _middle(one: MeasuredDice, aside: float = 0.0) -> float:
    length: timedelta = one.end - one.start
    return days(one.start + length * (0.5 + aside))[0]

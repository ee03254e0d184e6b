"""The picture of a report: reference and live values of the descriptors that moved most, side by side.

draw(values, drift, title="resunet version 3, …", path=folder / "drift.png")
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monitoring.drift import ColumnDrift, Drift, Values
from monitoring.statistics.relabelling import Floats
from monitoring.words import label, shift_text

PICTURE_FILE = "drift.png"
PANELS = 9
_ACROSS = 3
_BINS = 20
_REFERENCE, _LIVE, _MOVED, _INK = "#9aa5b1", "#0b6bcb", "#c2410c", "#333a44"


def draw(values: Mapping[str, Values], drift: Drift, *, title: str, path: Path) -> None:
    """Draw small multiples of the top descriptors, at most nine, as a PNG."""
    shown = drift.columns[:PANELS]
    across = min(_ACROSS, max(len(shown), 1))
    down = max(math.ceil(len(shown) / across), 1)
    # Not pyplot: it keeps every figure of the process and is not for threads.
    figure = Figure(figsize=(4.0 * across, 2.5 * down + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel, column in zip(panels, shown, strict=False):
        _panel(panel, values[column.column], column)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=11, color=_INK, parse_math=False)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def _panel(panel: Axes, both: Values, column: ColumnDrift) -> None:
    edges = _edges(both)
    # What lies beyond the last edge is counted in the last bar, so both areas stay 100 %.
    reference, live = (np.clip(values, edges[0], edges[-1]) for values in both)
    panel.hist(reference, edges.tolist(), weights=_percent(reference), label="reference", color=_REFERENCE, alpha=0.6)
    panel.hist(
        live,
        edges.tolist(),
        weights=_percent(live),
        label="live",
        color=_LIVE,
        histtype="step",
        linewidth=1.6,
    )
    panel.set_title(
        f"{column.column}   {'moved ' if column.moved else ''}{shift_text(column.shift)}".rstrip(),
        fontsize=9.5,
        loc="left",
        color=_MOVED if column.moved else _INK,
        fontweight="bold" if column.moved else "normal",
    )
    panel.set_xlabel(label(column.column), fontsize=8, color=_INK)
    panel.set_ylabel("% of images", fontsize=8, color=_INK)
    panel.tick_params(labelsize=8, colors=_INK)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.02)


def _percent(values: Floats) -> Floats:
    return np.full(values.size, 100 / values.size)


def _edges(both: Values) -> Floats:
    """Shared bin edges over the middle 99 % of each side: one outlier must not flatten the rest."""
    ends = [np.quantile(values, [0.005, 0.995]) for values in both]
    low, high = float(min(end[0] for end in ends)), float(max(end[1] for end in ends))
    if low == high:
        margin = max(abs(low) * 0.05, 0.5)
        low, high = low - margin, high + margin
    return np.linspace(low, high, _BINS + 1)

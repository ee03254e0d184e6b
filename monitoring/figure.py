"""The picture of a report: reference and live values of the descriptors that moved most, side by side.

draw(values, drift, title="resunet version 3, …", path=folder / "drift.png")
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from monitoring.drift import ColumnDrift, Drift, Values
from monitoring.panels import DPI, LIVE, REFERENCE, label_panel, small_multiples
from monitoring.statistics.relabelling import Floats
from monitoring.words import label, shift_text

PANELS: Final = 9
_BINS: Final = 20


def draw(values: Mapping[str, Values], drift: Drift, *, title: str, path: Path) -> None:
    """Draw small multiples of the top descriptors, at most nine, as a PNG."""
    shown = drift.columns[:PANELS]
    figure, panels = small_multiples(len(shown), title)
    for panel, column in zip(panels, shown, strict=False):
        _panel(panel, values[column.column], column)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=DPI)


def _panel(panel: Axes, both: Values, column: ColumnDrift) -> None:
    edges = _edges(both)
    # What lies beyond the last edge is counted in the last bar, so both areas stay 100 %.
    reference, live = (np.clip(values, edges[0], edges[-1]) for values in both)
    panel.hist(reference, edges.tolist(), weights=_percent(reference), label="reference", color=REFERENCE, alpha=0.6)
    panel.hist(
        live,
        edges.tolist(),
        weights=_percent(live),
        label="live",
        color=LIVE,
        histtype="step",
        linewidth=1.6,
    )
    title = f"{column.column}   {'moved ' if column.moved else ''}{shift_text(column.shift)}".rstrip()
    label_panel(panel, title, moved=column.moved, below=label(column.column), beside="% of images")


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

"""What figures are drawn on."""

from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI: Final = 110


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches. Not pyplot's: that keeps every figure of the process and is not for threads."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure

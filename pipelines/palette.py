"""Colours and canvas of the pictures.

The colours are of Okabe and Ito's palette, which colour-blind readers can tell apart.
"""

from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
INK: Final = "#333a44"
_DPI: Final = 110


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches. Not pyplot's: that keeps every figure of the process and is not for threads."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure

"""Where the bins of a sketch begin and end: fixed for each column, whatever is in the log.

    EDGES["brightness"]         # 0, 2, …, 254
    bin_of = numpy.searchsorted(EDGES[name], values, side="left")

Bin 0 holds what is at most the first edge, bin i what is above edge i - 1 and at most edge i, and the last bin what is
above the last edge: cumulated, the counts are the empirical distribution function at the edges. Where 0 is the first
edge, it has a bin of its own, since no descriptor is below it.

Sketches of several releases lie in one table. Who changes a column or an edge raises FORMAT: sketches of another format
are passed over, and what they counted is counted again from the rows.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from records.schema import DESCRIPTORS

Floats = NDArray[np.float64]

FORMAT: Final = 1
COLUMNS: Final[tuple[str, ...]] = ("latency_ms", *DESCRIPTORS)
EDGE_COUNT: Final = 128
BIN_COUNT: Final = EDGE_COUNT + 1

_STEPS: Final = np.arange(EDGE_COUNT) / (EDGE_COUNT - 1)
# Powers differ in their last digit between processors: edges must not.
_DIGITS: Final = 9


def _linear(high: float) -> Floats:
    """From 0 to `high`."""
    return _rounded(high * _STEPS)


def _logarithmic(low: float, high: float) -> Floats:
    return _rounded(low * (high / low) ** _STEPS)


def _towards_one() -> Floats:
    """From 0 to 1, ever finer: what is sure of itself differs in the third digit."""
    return _rounded(1 - (1 - _STEPS) ** 2)


def _rounded(edges: Floats) -> Floats:
    return np.array([float(f"{edge:.{_DIGITS}g}") for edge in edges])


_SIDE = _logarithmic(1, 100_000)  # pixels
_LEVEL = _linear(254)  # of 0 to 255, two by two
_SPREAD = _linear(127)  # standard deviations of levels: at most 127.5
_FRACTION = _linear(1)
_CLIPPED = _logarithmic(1e-6, 1)  # fractions of pixels that are mostly a few of many

EDGES: Final[dict[str, Floats]] = {
    "latency_ms": _logarithmic(0.1, 1e6),
    "width": _SIDE,
    "height": _SIDE,
    "aspect": _logarithmic(0.01, 100),
    "brightness": _LEVEL,
    "contrast": _SPREAD,
    "mean_r": _LEVEL,
    "mean_g": _LEVEL,
    "mean_b": _LEVEL,
    "std_r": _SPREAD,
    "std_g": _SPREAD,
    "std_b": _SPREAD,
    "saturation": _FRACTION,
    "hue_spread": _FRACTION,
    "entropy": _linear(8),
    "sharpness": _logarithmic(0.01, 1e6),
    "noise": _logarithmic(0.01, 255),
    "clipped_low": _CLIPPED,
    "clipped_high": _CLIPPED,
    "foreground_fraction": _FRACTION,
    "component_count": _logarithmic(0.5, 100_000),
    "confidence": _towards_one(),
    "boundary_uncertainty": _FRACTION,
}

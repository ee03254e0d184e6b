"""Input quality of a window: images that are refused, copies, blank, overexposed, or of a size that is far off.

for finding in [refusals(3, len(live), min_rows=20), *findings(reference, live)]:
    finding.words, finding.alarm

These are rules, not tests. Their limits lie so far beyond what the reference holds that windows like it never reach
them, so they add nothing to the stated rate of false alarms.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.statistics.relabelling import Floats

_FEWEST: Final = 2
_REFUSED, _COPIES, _ODD = 0.2, 0.5, 0.05
_BLANK_LEVELS: Final = 1.0
_CLIPPED: Final = 0.5
_BY_FAR: Final = 2.0


@dataclass(frozen=True)
class Finding:
    """One rule's count.

    Attributes:
        name: of the rule.
        images: of the window that it counts.
        of: how many there are.
        limit: share of them from which on it is an alarm, if it is more than one image.
        words: what is the case, for a person.
        rows_needed: of fewer images it is no alarm.
    """

    name: str
    images: int
    of: int
    limit: float
    words: str
    rows_needed: int = 0

    @property
    def alarm(self) -> bool:
        return self.of >= self.rows_needed and self.images >= max(_FEWEST, self.limit * self.of)


def findings(reference: pd.DataFrame, live: pd.DataFrame, copies: tuple[int, int] | None = None) -> list[Finding]:
    """Count what is wrong with the images of a window, what is nowhere the case left out.

    Args:
        reference: a row a training image: descriptors.
        live: a row an image: descriptors, and `image_digest` where it is known.
        copies: where `live` is a sample, how many copies its window holds, and of how many images: of an image that was
            sent twice a sample seldom holds both.
    """
    count, what = len(live), "images" if copies is None else "sampled images"
    sides, own = (_values(rows, "width", "height") for rows in (reference, live))
    sides = sides[np.isfinite(sides)]
    small, large = (sides.min(), sides.max()) if sides.size else (0.0, np.inf)
    flattest = np.nanmin([_BLANK_LEVELS, *_values(reference, "contrast").ravel()])
    clipped = max(_CLIPPED, _BY_FAR * np.nanmax([0.0, *_values(reference, "clipped_high").ravel()]))
    found = [
        _finding("copies", *(copies or (int(_copies(live).sum()), count)), _COPIES, "images are copies of another"),
        *(
            _finding(name, int(which.any(axis=1).sum()), count, _ODD, f"{what} {told}")
            for name, which, told in (
                ("blank", _values(live, "contrast") < flattest, "are blank"),
                ("overexposed", _values(live, "clipped_high") > clipped, "are overexposed"),
                ("tiny", own < small / _BY_FAR, "have a side below half the smallest trained on"),
                ("huge", own > large * _BY_FAR, "have a side above twice the largest trained on"),
            )
        ),
    ]
    return [one for one in found if one.images]


def refusals(refused: int, others: int, min_rows: int) -> Finding:
    """How many images could not be read, beside how many others.

    Args:
        min_rows: of fewer, both together, it is no alarm: two bad uploads in a quiet night say nothing.
    """
    of = refused + others
    return Finding("refused", refused, of, _REFUSED, f"{refused:,} of {of:,} images were refused", min_rows)


def _finding(name: str, images: int, of: int, limit: float, words: str) -> Finding:
    return Finding(name, images, of, limit, f"{images:,} of {of:,} {words}")


def _copies(live: pd.DataFrame) -> NDArray[np.bool_]:
    if "image_digest" not in live:
        return np.zeros(len(live), np.bool_)
    digests = live["image_digest"]
    return (digests.duplicated() & digests.notna()).to_numpy(np.bool_)


def _values(rows: pd.DataFrame, *columns: str) -> Floats:
    """(N, columns) of those that are there; what is no number is neither small nor large."""
    return rows[[name for name in columns if name in rows]].to_numpy("float64")

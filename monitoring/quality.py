"""Input quality of a window: images that are refused, copies, blank, badly exposed, or of a size that is far off.

for finding in [refusals(3, len(live), min_rows=20), *findings(reference, live)]:
    finding.words, finding.alarm

These are rules, not tests. Their limits lie so far beyond what the reference holds that windows like it never reach
them, so they add nothing to the stated rate of false alarms. Where some of the reference are at fault themselves, a
window may hold as many as chance makes of so many: no single image of the reference switches a rule off.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta, binom

from monitoring.statistics.relabelling import Floats

_REFUSED, _COPIES, _ODD = 0.2, 0.5, 0.05
_BLANK_LEVELS, _FLATTEST_LEVELS = 1.0, 0.1
_MOST_CLIPPED: Final = 0.95
_BY_FAR: Final = 2.0
# Limits are taken from the bulk of the reference, and not from the worst image that somebody trained on.
_BULK: Final = 0.95
# Twice this, for the reference's error and the window's, is a fiftieth of alpha's default.
_CHANCE: Final = 1e-4


@dataclass(frozen=True)
class Finding:
    """One rule's count.

    Attributes:
        name: of the rule.
        images: of the window that it counts.
        of: how many there are.
        limit: share of them from which on it is an alarm.
        words: what is the case, for a person.
        rows_needed: of fewer images it is no alarm.
        by_chance: so many images are no alarm, whatever their share; one may be in any window.
    """

    name: str
    images: int
    of: int
    limit: float
    words: str
    rows_needed: int = 0
    by_chance: int = 1

    @property
    def alarm(self) -> bool:
        enough = self.of >= self.rows_needed and self.images > self.by_chance
        return enough and self.images >= self.limit * self.of


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
    found = [
        _finding("copies", *(copies or (int(_copies(live).sum()), count)), _COPIES, "images are copies of another"),
        _blank(_values(reference, "contrast"), _values(live, "contrast"), f"{what} are blank"),
        *(
            _clipped(name, _values(reference, column), _values(live, column), f"{what} are {name}")
            for name, column in (("overexposed", "clipped_high"), ("underexposed", "clipped_low"))
        ),
        *(
            _finding(name, int(which.any(axis=1).sum()), count, _ODD, f"{what} have a side {told}")
            for name, which, told in (
                ("tiny", own < small / _BY_FAR, "below half the smallest trained on"),
                ("huge", own > large * _BY_FAR, "above twice the largest trained on"),
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


def _finding(name: str, images: int, of: int, limit: float, words: str, by_chance: int = 1) -> Finding:
    return Finding(name, images, of, limit, f"{images:,} of {of:,} {words}", by_chance=by_chance)


def _clipped(name: str, reference: Floats, live: Floats, words: str) -> Finding:
    """More than half of those pixels are clipped that the bulk of the reference leaves unclipped."""
    held = reference[np.isfinite(reference)]
    bulk = float(np.quantile(held, _BULK)) if held.size else 0.0
    limit = min((1 + bulk) / 2, _MOST_CLIPPED)
    return _beyond(name, held, live, limit, limit / _BY_FAR, words)


def _blank(reference: Floats, live: Floats, words: str) -> Finding:
    """Of less than one level of contrast, or less than half of what the bulk of the reference has."""
    held = reference[np.isfinite(reference)]
    bulk = float(np.quantile(held, 1 - _BULK)) if held.size else np.inf
    limit = max(min(_BLANK_LEVELS, bulk / _BY_FAR), _FLATTEST_LEVELS)
    return _beyond("blank", -held, -live, -limit, -limit * _BY_FAR, words)


def _beyond(name: str, reference: Floats, live: Floats, limit: float, near: float, words: str) -> Finding:
    """Count the images above a limit; where the reference comes near it, beside how many chance may make of its own.

    Of a reference's images the share above the limit is known but for an error, hence its upper end (Clopper & Pearson
    1934); of a window's images as many may be above it as a binomial number of that share seldom exceeds.
    """
    above, by_chance = int((live > limit).any(axis=1).sum()), 1
    if (reference > near).any():
        theirs = int((reference > limit).sum())
        share = beta.isf(_CHANCE, theirs + 1, reference.size - theirs) if theirs < reference.size else 1.0
        by_chance = max(by_chance, int(binom.isf(_CHANCE, len(live), share)))
    return _finding(name, above, len(live), _ODD, words, by_chance)


def _copies(live: pd.DataFrame) -> NDArray[np.bool_]:
    if "image_digest" not in live:
        return np.zeros(len(live), np.bool_)
    digests = live["image_digest"]
    return (digests.duplicated() & digests.notna()).to_numpy(np.bool_)


def _values(rows: pd.DataFrame, *columns: str) -> Floats:
    """(N, columns) of those that are there; what is no number is neither small nor large."""
    return rows[[name for name in columns if name in rows]].to_numpy("float64")

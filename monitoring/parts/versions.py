"""Other versions that answered in the same window: do they see other images, or see the same ones otherwise?

    for other in beside(ours, theirs, pairs, …):
        other.images, other.predictions, other.same_images

A shift of predictions that comes with the images is in every version's answers; one that is the version's own is not in
those of another version on the same images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from monitoring.parts.distributions import by_chance
from monitoring.parts.pairs import MINE
from monitoring.parts.slices import FEWEST
from monitoring.statistics.relabelling import Floats
from monitoring.summary import ColumnSummary, Summary
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

MOST_VERSIONS: Final = 5
# Standard errors of a mean difference, of four descriptors in as many versions: chance exceeds it in 5 % of tables.
_CLEAR: Final = 3.2
_EXACT: Final = 1e-9


@dataclass(frozen=True)
class Beside:
    """A descriptor of two versions: the watched one, and another.

    Attributes:
        watched, other: means.
        effect: the largest gap between the two cumulative distributions; of the same images None.
        differs: whether it is more than chance makes of it, and worth an alarm.
    """

    column: str
    watched: float
    other: float
    effect: float | None
    differs: bool


@dataclass(frozen=True)
class OtherVersion:
    """Another version in the window.

    Attributes:
        version: its number; rows: its answers in the window.
        same_images: how many of the images that were looked at both versions have answered.
        images: descriptors of its images that are not like those of the watched version's, the furthest first.
        predictions: how it sees: the same images where there are enough of those, else all of its own.
        enough: whether there are enough rows to compare.
    """

    version: str
    rows: int
    same_images: int
    images: tuple[Beside, ...]
    predictions: tuple[Beside, ...]
    enough: bool


def beside(
    watched: Summary, others: Mapping[str, Summary], pairs: pd.DataFrame, *, min_rows: int, min_effect: float
) -> tuple[OtherVersion, ...]:
    """Compare other versions with the watched one, at most `MOST_VERSIONS`, those with most rows first.

    Args:
        watched: the rows that the report compares.
        others: rows of other versions, by their number.
        pairs: a row an image that two versions answered: `model_version` of the other one, its prediction descriptors,
            and those of the watched version with the suffix `_mine`.
        min_rows: fewest rows, or pairs, that are compared.
        min_effect: smallest gap that is told.
    """
    ranked = sorted((item for item in others.items() if item[1].rows), key=lambda item: (-item[1].rows, item[0]))
    chosen = ranked[:MOST_VERSIONS]
    looks = len(chosen) * len(IMAGE_DESCRIPTORS)
    found = []
    for number, summary in chosen:
        same = pairs[pairs["model_version"] == number] if len(pairs) else pairs
        enough = min(summary.rows, watched.rows) >= max(min_rows, FEWEST)
        images = _apart(watched, summary, IMAGE_DESCRIPTORS, looks, min_effect) if enough else []
        if len(same) >= min_rows:
            both = [_on_the_same(same, name) for name in PREDICTION_DESCRIPTORS]
            predictions = [one for one in both if one is not None]
        else:
            predictions = _apart(watched, summary, PREDICTION_DESCRIPTORS, looks, min_effect) if enough else []
        different = sorted((one for one in images if one.differs), key=lambda one: -(one.effect or 0.0))
        found.append(OtherVersion(number, summary.rows, len(same), tuple(different), tuple(predictions), enough))
    return tuple(found)


def _apart(watched: Summary, other: Summary, columns: Sequence[str], looks: int, min_effect: float) -> list[Beside]:
    found = []
    for name in columns:
        mine, theirs = watched[name], other[name]
        if mine.count and theirs.count:
            effect = _gap(mine, theirs)
            differs = effect >= max(min_effect, by_chance(mine.count, theirs.count, looks))
            found.append(Beside(name, mine.mean, theirs.mean, effect, differs))
    return found


def _gap(one: ColumnSummary, other: ColumnSummary) -> float:
    ours, theirs = (np.cumsum(each.counts) / each.count for each in (one, other))
    return float(np.abs(ours - theirs).max())


def _on_the_same(pairs: pd.DataFrame, name: str) -> Beside | None:
    both: Floats = pairs[[name + MINE, name]].to_numpy("float64")
    both = both[np.isfinite(both).all(axis=1)]
    if not len(both):
        return None
    difference = both[:, 1] - both[:, 0]
    error = float(difference.std(ddof=1)) / np.sqrt(len(both)) if len(both) > 1 else np.inf
    mean = float(difference.mean())
    differs = abs(mean) > max(_CLEAR * error, _EXACT * (1 + abs(float(both[:, 0].mean()))))
    return Beside(name, float(both[:, 0].mean()), float(both[:, 1].mean()), None, differs)

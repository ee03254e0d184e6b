"""Which slices of a window bear its drift, and what each looks like beside the reference.

    found = break_down(parts, whole, drift, reference)
    found.shown[0].part, found.shown[0].moves

At any value the gap between the cumulative distributions of a window and its reference is the sum over slices of (share
of the images) × (the slice's own gap). So the sum of squares of the gap, all along the values (the criterion of Cramér
and von Mises), falls into a *part* for each slice: (share) × (its gap) × (the window's gap); the parts add up to 1. At
the largest gap alone the rest would seem to bear too much, since chance is largest there. Nothing here is a verdict:
that is the window's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from monitoring.drift import Drift, Side
from monitoring.families import CLUSTER, MIN_REFERENCE
from monitoring.parts.distributions import Part, Values, by_chance
from monitoring.statistics.relabelling import Floats
from resunet.descriptors import IMAGE_DESCRIPTORS

SLICES: Final = "slices"
MOST_SHOWN: Final = 8
# Smaller ones are counted and not named: of so few images nothing is known, and a name may be a person's.
FEWEST: Final = 5
MOST_MOVES: Final = 3
# Where no descriptor moved by itself but all together did, those that came nearest to it.
_NEAREST: Final = 4


@dataclass(frozen=True)
class Move:
    """How far a descriptor of a part of the window is from the reference.

    Attributes:
        effect: the largest gap between the cumulative distributions.
        chance: what chance alone exceeds in 5 % of such tables at most.
        shift: in standard deviations of the reference; None where that is 0.
    """

    column: str
    side: Side
    effect: float
    chance: float
    reference_mean: float
    live_mean: float
    shift: float | None


@dataclass(frozen=True)
class SliceDrift:
    """One slice of the window.

    Attributes:
        name: as the client gave it; None: of images without one.
        share: of the window's images.
        reference_share: of the training images, where their manifest knows the slice.
        part: of the drift, mean over the descriptors; None where nothing drifted. Below 0: it is off the other way.
        enough: whether there are enough rows to compare them by themselves.
        moves: what is beyond chance and worth an alarm, the largest first.
        own: whether it was compared with the reference's images of the same slice, not with all of them.
    """

    name: str | None
    rows: int
    share: float
    reference_share: float | None
    part: float | None
    enough: bool
    moves: tuple[Move, ...]
    own: bool


@dataclass(frozen=True)
class Slices:
    """The slices of a window, those that bear most of a drift first, else the largest.

    Attributes:
        shown: at most `MOST_SHOWN`.
        more, more_rows: how many others there are, and their rows.
        small: how many of those have fewer than `FEWEST` rows.
        columns: the descriptors whose gaps were divided into parts.
    """

    shown: tuple[SliceDrift, ...] = ()
    more: int = 0
    more_rows: int = 0
    small: int = 0
    columns: tuple[str, ...] = ()


def break_down(
    parts: Mapping[str | None, Part], whole: Part, drift: Drift, reference: pd.DataFrame, *, min_rows: int
) -> Slices:
    """Divide a window by slices.

    Args:
        parts: the rows of each slice.
        whole: all of them.
        drift: the verdict on the window.
        reference: a row an image: `split`, descriptors, and where known `cluster` and `slices` (names).
        min_rows: fewest rows that are compared by themselves.
    """
    columns = _columns(drift)
    named = {name: part for name, part in parts.items() if part.rows >= FEWEST}
    borne = _parts_of(named, whole, columns, reference)
    ranked = sorted(named, key=lambda name: (-borne.get(name, 0.0), -named[name].rows, name or ""))
    chosen = ranked[:MOST_SHOWN]
    rows = {name: part.rows for name, part in parts.items()}
    return Slices(
        tuple(
            replace(_look(name, named[name], whole, drift, reference, min_rows, len(chosen)), part=borne.get(name))
            for name in chosen
        ),
        more=len(rows) - len(chosen),
        more_rows=sum(rows.values()) - sum(rows[name] for name in chosen),
        small=len(rows) - len(named),
        columns=columns,
    )


def _columns(drift: Drift) -> tuple[str, ...]:
    """Whose gaps are divided: of what moved; where only all together did, of what came nearest."""
    if drift.moved:
        return tuple(column.column for column in drift.moved)
    sides = {test.side for test in drift.alarms}
    return tuple(column.column for column in drift.columns if column.side in sides)[:_NEAREST]


def _parts_of(
    parts: Mapping[str | None, Part], whole: Part, columns: Sequence[str], reference: pd.DataFrame
) -> dict[str | None, float]:
    borne: dict[str | None, list[float]] = {name: [] for name in parts}
    for column in columns:
        known, everything = values_of(reference, column), whole[column]
        if not (known.size and everything.count):
            continue
        places, weights = everything.grid(known)
        theirs = Values(np.sort(known)).below(places)
        gap = everything.below(places) - theirs
        total = float(np.sum(weights * gap * gap))
        if total == 0:
            continue
        for name, part in parts.items():
            mine = part[column]
            own = (mine.count / everything.count) * (mine.below(places) - theirs) if mine.count else np.zeros_like(gap)
            borne[name].append(float(np.sum(weights * gap * own)) / total)
    return {name: float(np.mean(each)) for name, each in borne.items() if each}


def _look(
    name: str | None, part: Part, whole: Part, drift: Drift, reference: pd.DataFrame, min_rows: int, slices: int
) -> SliceDrift:
    mine, train = in_slice(reference, name), reference["split"] == "train"
    known = bool(mine.any())
    own = int((mine & train).sum()) >= MIN_REFERENCE
    enough = part.rows >= min_rows
    looks = slices * max(len(drift.columns), 1)
    moves = _moves(part, drift, reference[mine] if own else reference, looks) if enough else []
    return SliceDrift(
        name=name,
        rows=part.rows,
        share=part.rows / whole.rows,
        reference_share=float(mine[train].mean()) if known and train.any() else None,
        part=None,
        enough=enough,
        moves=tuple(moves[:MOST_MOVES]),
        own=own,
    )


def _moves(part: Part, drift: Drift, reference: pd.DataFrame, looks: int) -> list[Move]:
    found = []
    for column in drift.columns:
        known, live = values_of(reference, column.column), part[column.column]
        if known.size < MIN_REFERENCE or not live.count:
            continue
        chance = by_chance(live.count, _units(reference, column.column), looks)
        gap = live.gap(known)
        if gap.effect < max(chance, drift.rule.min_effect):
            continue
        spread = 0.0 if np.ptp(known) == 0 else float(known.std())
        mean, now = float(known.mean()), live.mean
        shift = (now - mean) / spread if spread > 0 else None
        found.append(Move(column.column, column.side, gap.effect, chance, mean, now, shift))
    return sorted(found, key=lambda move: (-move.effect, -abs(move.shift or np.inf)))


def values_of(reference: pd.DataFrame, column: str) -> Floats:
    """(R,) finite values of a descriptor: of training images, of predictions those of held-out ones."""
    train = reference["split"] == "train"
    values = reference.loc[train if column in IMAGE_DESCRIPTORS else ~train, column].to_numpy("float64")
    known: Floats = values[np.isfinite(values)]
    return known


def in_slice(reference: pd.DataFrame, name: str | None) -> pd.Series:
    """Which images of the reference are of a slice."""
    if name is None or SLICES not in reference:
        return pd.Series(False, reference.index)
    return reference[SLICES].map(lambda names: name in names).astype(bool)


def _units(reference: pd.DataFrame, column: str) -> int:
    """Images of the reference that have a descriptor; those of one patient, slide or scene count as one."""
    there = reference[np.isfinite(reference[column].to_numpy("float64"))]
    if CLUSTER not in there:
        return max(len(there), 1)
    return max(int(there[CLUSTER].nunique() + there[CLUSTER].isna().sum()), 1)

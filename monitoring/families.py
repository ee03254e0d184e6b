"""From rows of a reference and of a window to what can be compared, and what cannot, with the reason.

families, left_out = make_families(reference, live, min_live=20)

Rows are compared whole, since some questions are about all descriptors together: a descriptor that many rows lack is
left out, and then a row that lacks one of the others.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.drift import Family, LeftOut, Side
from monitoring.statistics.relabelling import Floats
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

# With ten images on one side and twenty on the other a difference can still be told at p = 1e-7.
MIN_REFERENCE: Final = 10
MOST_MISSING: Final = 0.05
EMBEDDING, CLUSTER = "embedding", "cluster"
FILE, ANSWER = "path", "answer_id"


def make_families(
    reference: pd.DataFrame, live: pd.DataFrame, *, min_live: int, min_reference: int = MIN_REFERENCE
) -> tuple[list[Family], list[LeftOut]]:
    """Divide what is known of the images into an input and a prediction family.

    Args:
        reference: a row an image: `split`, descriptors, and where known `embedding` and `cluster` (numbers).
        live: a row an image: descriptors, and where known `embedding` ((E,) arrays) and `cluster`.
        min_live, min_reference: fewest rows.

    Returns:
        the families that hold enough, and the descriptors that are in none.
    """
    train = reference["split"] == "train"
    asked: tuple[tuple[Side, tuple[str, ...], pd.DataFrame], ...] = (
        ("input", IMAGE_DESCRIPTORS, reference[train]),
        ("prediction", PREDICTION_DESCRIPTORS, reference[~train]),
    )
    families, left_out = [], []
    for side, names, rows in asked:
        family, without = _family(side, names, rows, live, min_live, min_reference)
        families += [family] if family is not None else []
        left_out += without
    return families, left_out


def _family(
    side: Side, names: Sequence[str], reference: pd.DataFrame, live: pd.DataFrame, min_live: int, min_reference: int
) -> tuple[Family | None, list[LeftOut]]:
    sides = (("reference", reference, min_reference), ("window", live, min_live))
    left_out = [LeftOut(name, why) for name in names if (why := _why_not(name, sides))]
    columns = [name for name in names if name not in {left.column for left in left_out}]
    if not columns:
        return None, left_out
    whole, whole_live = (
        rows.loc[pd.Series(_finite(rows, columns).all(axis=1), rows.index)] for rows in (reference, live)
    )
    for (side_name, _, needed), rows in zip(sides, (whole, whole_live), strict=True):
        if len(rows) < needed:
            reason = f"the {side_name} holds {len(rows)} rows with all of them, {needed} are needed"
            return None, left_out + [LeftOut(name, reason) for name in columns]
    of_reference, of_live = (rows[columns].to_numpy("float64") for rows in (whole, whole_live))
    points = _points(whole, whole_live) if side == "prediction" else None
    clusters, found_by = _clusters(whole, whole_live), _names(whole, whole_live)
    return Family(side, tuple(columns), of_reference, of_live, points, clusters, found_by), left_out


def _why_not(name: str, sides: Sequence[tuple[str, pd.DataFrame, int]]) -> str:
    reasons = []
    for side, rows, needed in sides:
        there = int(_finite(rows, [name]).sum())
        if there < needed:
            reasons.append(f"the {side} holds {there} values, {needed} are needed")
        elif there < (1 - MOST_MISSING) * len(rows):
            reasons.append(f"{len(rows) - there} of {len(rows)} rows of the {side} lack it")
    return " and ".join(reasons)


def _finite(rows: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = np.isfinite(rows.reindex(columns=list(columns)).to_numpy("float64"))
    return there


def _complete(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return rows.loc[pd.Series(_finite(rows, columns).all(axis=1), rows.index)]


def _points(reference: pd.DataFrame, live: pd.DataFrame) -> tuple[Floats, Floats] | None:
    """Embeddings of both sides, where every row has one of the same length."""
    both = [_stacked(rows) for rows in (reference, live)]
    if both[0] is None or both[1] is None or both[0].shape[1] != both[1].shape[1]:
        return None
    return both[0], both[1]


def _stacked(rows: pd.DataFrame) -> Floats | None:
    if EMBEDDING not in rows or rows[EMBEDDING].isna().any():
        return None
    points = [np.asarray(point, dtype=np.float64) for point in rows[EMBEDDING]]
    if len({point.shape for point in points}) != 1 or not np.isfinite(points).all():
        return None
    return np.stack(points)


def _names(reference: pd.DataFrame, live: pd.DataFrame) -> tuple[Any, Any] | None:
    if FILE not in reference or ANSWER not in live:
        return None
    return reference[FILE].to_numpy(str), live[ANSWER].to_numpy(str)


def _clusters(reference: pd.DataFrame, live: pd.DataFrame) -> tuple[Any, Any] | None:
    """Numbers of clusters that are on one side each; None where every image stands alone."""
    numbers, offset = [], 0
    for rows in (reference, live):
        names = rows[CLUSTER] if CLUSTER in rows else pd.Series(np.nan, index=rows.index)
        alone = pd.Series(np.arange(len(rows)), index=rows.index).map(lambda place: f"image {place}")
        codes, found = pd.factorize(names.map(lambda name: f"cluster {name}", na_action="ignore").fillna(alone))
        numbers.append(codes.astype(np.int64) + offset)
        offset += len(found)
    alone_everywhere = offset == len(reference) + len(live)
    return None if alone_everywhere else (numbers[0], numbers[1])

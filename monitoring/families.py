"""From rows of a reference and of a window to what can be compared, and what cannot, with the reason.

families, left_out = make_families(reference, live, min_live=20)

Rows are compared whole, since some questions are about all descriptors together: a descriptor that many rows lack is
left out, and then a row that lacks one of the others.
"""

from collections import Counter
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
WINDOW_SHORT: Final = "the window holds"
EMBEDDING, CLUSTER, DIGEST = "embedding", "cluster", "image_digest"
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
    live, train = once(live), reference["split"] == "train"
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


def once(live: pd.DataFrame) -> pd.DataFrame:
    """Of copies of one image the first: a flood of them is a fault of its own, and no sample of anything."""
    if DIGEST not in live:
        return live
    return live[~live[DIGEST].duplicated() | live[DIGEST].isna()]


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
    points = None
    if side == "prediction":
        known, seen = _stacked(whole), _stacked(whole_live)
        if known is not None and seen is not None and known.shape[1] == seen.shape[1]:
            whole, whole_live = _with(whole, known), _with(whole_live, seen)
            points = known[np.isfinite(known).all(axis=1)], seen[np.isfinite(seen).all(axis=1)]
        else:
            left_out.append(LeftOut(EMBEDDING, "too many images of a side lack it, or it is of another length"))
    of_reference, of_live = (rows[columns].to_numpy("float64") for rows in (whole, whole_live))
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


def _with(rows: pd.DataFrame, points: Floats) -> pd.DataFrame:
    return rows.loc[pd.Series(np.isfinite(points).all(axis=1), rows.index)]


def _stacked(rows: pd.DataFrame) -> Floats | None:
    """(N, E) embeddings, nan where one is missing or of another length; None where most are."""
    if EMBEDDING not in rows:
        return None
    found = [None if one is None or np.ndim(one) != 1 else np.asarray(one, np.float64) for one in rows[EMBEDDING]]
    lengths = Counter(one.size for one in found if one is not None)
    if not lengths:
        return None
    length = lengths.most_common(1)[0][0]
    nothing = np.full(length, np.nan)
    points = np.stack([nothing if one is None or one.size != length else one for one in found])
    return points if np.isfinite(points).all(axis=1).mean() >= 1 - MOST_MISSING else None


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

"""The estimated Dice of a report's window: from the rows that it looks at and the version's own files.

found = estimate(version, live, drifted=drift.verdict == "drift", folder=inbox, tracking_uri=client.tracking_uri)
found.dice, found.low, found.high                # or found.declined
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from monitoring.performance.distance import SIZE, ReferenceSpace
from monitoring.performance.estimated import Estimate, estimate_window
from monitoring.performance.version_files import held_out_scores, reference_space
from monitoring.tracking import WatchedVersion
from resunet.errors import VersionError


def estimate(
    version: WatchedVersion, live: pd.DataFrame, *, drifted: bool, folder: Path, tracking_uri: str | None, seed: int = 0
) -> Estimate:
    """Estimate the mean Dice of the images in a window, or say why not.

    Args:
        live: a row an image: `confidence`, and `embedding` ((64,) arrays, None where there is none).
        drifted: the verdict on the window.
        folder: to download the version's files to.
        seed: of the draws.
    """
    try:
        scores = held_out_scores(version, folder, tracking_uri)
        space = reference_space(version, folder, tracking_uri)
    except VersionError as error:
        return Estimate(math.nan, math.nan, math.nan, len(live), declined=str(error))
    return estimate_window(live["confidence"], scores, drifted=drifted, far_share=far_share(live, space), seed=seed)


def far_share(live: pd.DataFrame, space: ReferenceSpace | None) -> float | None:
    """The share of images further from the reference than 99 % of its own; None where no embedding is known."""
    known = [one for one in live["embedding"] if one is not None and len(one) == SIZE]
    if space is None or not known:
        return None
    embeddings = np.asarray(known, np.float32)
    embeddings = embeddings[np.isfinite(embeddings).all(axis=1)]
    return float((space.distances(embeddings) > space.radius).mean()) if len(embeddings) else None

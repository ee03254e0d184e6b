"""What an estimate needs of a window: the confidence of its images, and how many are unlike the reference.

seen = live_confidence(engine, version, window, routes=LIVE_ROUTES, space=reference_space(version, folder))
estimate_window(seen.confidence, scores, drifted=verdict == "drift", far_share=seen.far_share)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from monitoring.live import LIVE_ROUTES
from monitoring.performance.distance import ReferenceSpace, from_bytes
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.window import read_window


@dataclass(frozen=True)
class LiveConfidence:
    """A window's images.

    Attributes:
        confidence: (n,) expected Dice of each.
        far_share: of them, farther from the reference than 99 % of its own images; None where no embedding is known.
    """

    confidence: NDArray[np.float64]
    far_share: float | None


def live_confidence(
    engine: Engine,
    version: WatchedVersion,
    window: Window,
    *,
    routes: Sequence[str] = LIVE_ROUTES,
    space: ReferenceSpace | None = None,
) -> LiveConfidence:
    """Read a window in chunks; embeddings are not kept, and not read without `space`.

    Raises:
        RecordsError: the database does not answer.
    """
    columns = ["route", "model_digest", "confidence", *(["embedding"] if space is not None else [])]
    parts, far, known = [], 0, 0
    for chunk in read_window(
        engine, window.start, window.end, version.name, version.version, columns=columns, status="ok"
    ):
        mine = chunk["route"].isin(list(routes))
        if version.digest:
            mine &= chunk["model_digest"].isin([version.digest, ""])
        parts.append(chunk.loc[mine, "confidence"].dropna().to_numpy(np.float64))
        if space is not None:
            embeddings = from_bytes(chunk.loc[mine, "embedding"])
            embeddings = embeddings[np.isfinite(embeddings).all(axis=1)]
            far += int((space.distances(embeddings) > space.radius).sum())
            known += len(embeddings)
    confidence = np.concatenate(parts) if parts else np.empty(0)
    return LiveConfidence(confidence, far / known if known else None)

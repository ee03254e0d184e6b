"""What performance reads of a version besides its reference descriptors: embeddings, and scores of test images.

space = reference_space(version, folder, client.tracking_uri)         # None: it has no embeddings
scored = held_out_scores(version, folder, client.tracking_uri)
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from monitoring.performance.distance import ReferenceSpace, from_lists
from monitoring.tracking import REFERENCE_PATH, WatchedVersion, fetch
from resunet.errors import DataError, VersionError

EVALUATION_PATH: Final = "artifacts/version/evaluation.json"


@dataclass(frozen=True)
class HeldOutScores:
    """A version's test images, which neither its training nor its calibration has seen.

    Attributes:
        confidence, dice: (n,) expected and true Dice.
        groups: what an image has in common with others (patient, slide); None: it stands alone.
    """

    confidence: NDArray[np.float64]
    dice: NDArray[np.float64]
    groups: tuple[str | None, ...]


def reference_space(version: WatchedVersion, folder: Path, tracking_uri: str | None = None) -> ReferenceSpace | None:
    """Read the embeddings of a version's held-out images; None where it has too few.

    Raises:
        VersionError: the version has no reference, or not the one it was registered with.
    """
    path = fetch(version, REFERENCE_PATH, folder, tracking_uri)
    try:
        if "embedding" not in pq.read_schema(path).names:
            return None
        embeddings = from_lists(pq.read_table(path, columns=["embedding"])["embedding"].to_pylist())
        return ReferenceSpace(embeddings)
    except DataError:
        return None
    except (OSError, ValueError) as error:
        raise VersionError(f"the reference of {version} cannot be read: {error}; train it anew") from error


def held_out_scores(version: WatchedVersion, folder: Path, tracking_uri: str | None = None) -> HeldOutScores:
    """Read how a version's test images were scored.

    Raises:
        VersionError: the version was not evaluated, or this release does not understand how.
    """
    path = fetch(version, EVALUATION_PATH, folder, tracking_uri)
    try:
        images = json.loads(path.read_text("utf-8"))["per_image"]
        confidence = np.array([one["confidence"] for one in images], np.float64)
        dice = np.array([one["dice"] for one in images], np.float64)
        groups = tuple(one.get("group") for one in images)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VersionError(
            f"evaluation.json of {version} is not understood ({type(error).__name__}): train it anew"
        ) from error
    return HeldOutScores(confidence, dice, groups)

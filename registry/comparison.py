"""Which test images two versions share, and how much better one does on them.

pairs = compared(candidate.evaluation, champion.evaluation)
if pairs.enough: pairs.differences.mean(), pairs.told

On one and the same test split all images are compared. A test split that grew still holds the old images: then those
are compared. An image is the same where its bytes and its mask's are, whatever its name. Fewer than nine in ten of the
champion's images decide nothing: who leaves images out can choose which.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from registry.evidence import Evaluation, ImageScore

MIN_SHARED: Final = 0.9


@dataclass(frozen=True)
class Compared:
    """The images that two versions were both tested on.

    Attributes:
        differences: (images,) Dice of the candidate minus that of the champion.
        groups: of each image, None where it stands alone.
        enough: whether these images may decide.
        told: how many they are, of how many.
    """

    differences: NDArray[np.float64]
    groups: list[str | None]
    enough: bool
    told: str


def compared(candidate: Evaluation, champion: Evaluation) -> Compared:
    """Pair the images of two evaluations."""
    ours, theirs = _by_path(candidate), _by_path(champion)
    whole = candidate.fingerprint == champion.fingerprint and ours.keys() == theirs.keys()
    if not whole:
        ours, theirs = _by_content(candidate), _by_content(champion)
    shared = [key for key in theirs if key in ours]
    if whole:
        told = f"{len(shared)} test images"
    else:
        told = (
            f"{len(shared)} test images: those in common of the {champion.images} of the live version and the "
            f"{candidate.images} of this one; at least {MIN_SHARED:.0%} of the live version's are needed"
        )
    return Compared(
        np.array([ours[key].dice - theirs[key].dice for key in shared]),
        [ours[key].group for key in shared],
        enough=whole or (bool(shared) and len(shared) >= MIN_SHARED * len(theirs)),
        told=told,
    )


def evaluation_on(fingerprint: str, known: Iterable[Evaluation | None]) -> Evaluation | None:
    """The evaluation on the test split of this fingerprint, else the first there is."""
    found = [evaluation for evaluation in known if evaluation is not None]
    return next((one for one in found if one.fingerprint == fingerprint), found[0] if found else None)


def _by_path(evaluation: Evaluation) -> Mapping[str, ImageScore]:
    return {score.path: score for score in evaluation.per_image}


def _by_content(evaluation: Evaluation) -> Mapping[str, ImageScore]:
    """By the bytes of image and mask; an image whose digests were not kept can only be itself."""
    return {
        f"{score.sha256} {score.mask_sha256}" if score.sha256 else f"path {id(evaluation)} {score.path}": score
        for score in evaluation.per_image
    }

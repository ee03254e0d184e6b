"""Which test images two versions share, and how much better one does on them.

pairs = compared(candidate.evaluation, champion.evaluation)
if pairs.enough: pairs.differences.mean(), pairs.told

On one and the same test split all images are compared. A test split that grew still holds the old images: then those
are compared. An image is the same where its bytes and its mask's are, whatever its name. Fewer than nine in ten of the
champion's images decide nothing: who leaves images out can choose which.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from registry.evidence import Evaluation, ImageScore

MIN_SHARED: Final = 0.9


@dataclass(frozen=True)
class Compared:
    """The images that two versions were both scored on.

    Attributes:
        images: their paths in the candidate's evaluation.
        differences: (images,) Dice of the candidate minus that of the champion.
        groups: of each image, None where it stands alone.
        enough: whether these images may decide.
        told: how many they are, of how many.
    """

    images: list[str]
    differences: NDArray[np.float64]
    groups: list[str | None]
    enough: bool
    told: str

    def only(self, paths: Collection[str]) -> "Compared":
        """Those of the images that are among some paths."""
        chosen = [place for place, path in enumerate(self.images) if path in paths]
        return Compared(
            [self.images[place] for place in chosen],
            self.differences[chosen],
            [self.groups[place] for place in chosen],
            self.enough,
            f"{len(chosen)} test images, which the live version was tested on by itself",
        )


@dataclass(frozen=True)
class Shared:
    """The images that two versions were both tested on, each with its score in the one and in the other.

    Attributes:
        pairs: candidate's score and champion's, in the champion's order.
        whole: both were tested on one and the same split.
        enough: these images may decide.
    """

    pairs: list[tuple[ImageScore, ImageScore]]
    whole: bool
    enough: bool


def compared(candidate: Evaluation, champion: Evaluation) -> Compared:
    """Pair the images of two evaluations."""
    shared = shared_images(candidate, champion)
    if shared.whole:
        told = f"{len(shared.pairs)} test images"
    else:
        told = (
            f"{len(shared.pairs)} test images: those in common of the {champion.images} of the live version and the "
            f"{candidate.images} of this one; at least {MIN_SHARED:.0%} of the live version's are needed"
        )
    return Compared(
        [ours.path for ours, _ in shared.pairs],
        np.array([ours.dice - theirs.dice for ours, theirs in shared.pairs]),
        [ours.group for ours, _ in shared.pairs],
        enough=shared.enough,
        told=told,
    )


def shared_images(candidate: Evaluation, champion: Evaluation) -> Shared:
    """Find the images that both were tested on."""
    ours, theirs = _by_path(candidate), _by_path(champion)
    whole = candidate.fingerprint == champion.fingerprint and ours.keys() == theirs.keys()
    if not whole:
        ours, theirs = _by_content(candidate), _by_content(champion)
    pairs = [(ours[key], score) for key, score in theirs.items() if key in ours]
    return Shared(pairs, whole, enough=whole or (bool(pairs) and len(pairs) >= MIN_SHARED * len(theirs)))


def _by_path(evaluation: Evaluation) -> Mapping[str, ImageScore]:
    return {score.path: score for score in evaluation.per_image}


def _by_content(evaluation: Evaluation) -> Mapping[str, ImageScore]:
    """By the bytes of image and mask; an image whose digests were not kept can only be itself."""
    return {
        f"{score.sha256} {score.mask_sha256}" if score.sha256 else f"path {id(evaluation)} {score.path}": score
        for score in evaluation.per_image
    }

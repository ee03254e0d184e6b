"""The images of a window that are furthest from the reference, and what each comes nearest to.

for far in furthest(family, count=12):
    far.answer, far.distance, far.usual, far.nearest
"""

from dataclasses import dataclass

import numpy as np

from monitoring.drift import Family
from monitoring.judge import FAR, sampled
from monitoring.statistics.strangers import Strangers


@dataclass(frozen=True)
class FarImage:
    """An image of the window.

    Attributes:
        answer: its answer id.
        distance: to the second nearest reference image, in the space of `monitoring.statistics.strangers`.
        usual: the distance that all but 1 % of the reference itself keep to.
        nearest: file of the nearest reference image.
    """

    answer: str
    distance: float
    usual: float
    nearest: str


def furthest(family: Family, count: int, seed: int = 0) -> list[FarImage]:
    """The furthest images of those that are looked at, the furthest first; none where images have no names.

    Args:
        family: of images.
        count: how many at most.
        seed: of the sample, as of the rule.
    """
    small = sampled(family, np.random.default_rng(seed))
    if small.names is None:
        return []
    files, answers = small.names
    live = np.arange(len(files) + len(answers)) >= len(files)
    strangers = Strangers(np.concatenate([small.reference, small.live]), len(files))
    distances, nearest = strangers.distances(live[None])[0], strangers.nearest(live)
    usual = float(np.quantile(distances[~live], FAR))
    order = np.argsort(-distances[live], kind="stable")[:count]
    return [
        FarImage(
            answer=str(answers[place]),
            distance=float(distances[live][place]),
            usual=usual,
            nearest=str(files[nearest[live][place]]),
        )
        for place in order
    ]

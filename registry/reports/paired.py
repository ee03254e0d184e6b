"""Two evaluations side by side: each metric with its interval, and what differs on the images that both were tested on.

paired = pair(evaluations_of_first, evaluations_of_second)
paired.metrics["dice"].difference      # second minus first: mean [95 % interval]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from registry.comparison import shared_images
from registry.evidence import Evaluation, ImageScore, Interval, Metric, SliceResult
from registry.noninferiority import noninferiority
from resunet.metrics import bootstrap_interval

METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
_Pair = tuple[ImageScore, ImageScore]


@dataclass(frozen=True)
class Row:
    """One metric of two versions.

    Attributes:
        first, second: of each version's own test images; None where it has no value.
        difference: second minus first, on the images that both were tested on.
        images: how many these are.
    """

    first: Interval | None
    second: Interval | None
    difference: Interval | None
    images: int


@dataclass(frozen=True)
class SliceRow(Row):
    """Dice of a slice; `first_images` and `second_images` are those of each version's own test split."""

    first_images: int = 0
    second_images: int = 0


@dataclass(frozen=True)
class ImagePair:
    """One image that both versions were tested on: Dice of each."""

    path: str
    slices: Sequence[str]
    first: float
    second: float


@dataclass(frozen=True)
class Bound:
    """What the paired differences of Dice show of their mean: one-sided bounds of 95 % each, as the gate has them."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two versions on the same images.

    Attributes:
        whole: both were tested on one and the same split.
        enough: so many of the first version's images are shared that a gate would compare.
        first_images, second_images: of each version's own test split.
        bound: None where there are too few images.
        images: worst loss of the second version first.
    """

    whole: bool
    enough: bool
    fingerprint: str
    first_images: int
    second_images: int
    metrics: Mapping[Metric, Row]
    slices: Mapping[str, SliceRow]
    bound: Bound | None
    images: Sequence[ImagePair]


def pair(first: Sequence[Evaluation], second: Sequence[Evaluation]) -> Paired | None:
    """Compare the two evaluations that share most: the same split before one that grew; of equals the earliest named.

    Args:
        first, second: of each version, its own evaluation before those on other versions' test splits.

    Returns:
        None where one of the two was never evaluated.
    """
    best: tuple[tuple[bool, int], Evaluation, Evaluation] | None = None
    for theirs in first:
        for ours in second:
            shared = shared_images(ours, theirs)
            key = (shared.whole, len(shared.pairs))
            if best is None or key > best[0]:
                best = (key, theirs, ours)
    return None if best is None else compare_evaluations(best[1], best[2])


def compare_evaluations(first: Evaluation, second: Evaluation) -> Paired:
    """Put two evaluations side by side."""
    found = shared_images(second, first)
    shared = [(theirs, ours) for ours, theirs in found.pairs]
    differences = [ours.dice - theirs.dice for theirs, ours in shared]
    shown = noninferiority(differences, 0.0, [ours.group for _, ours in shared])
    known = shown.low > -1e9
    images = [ImagePair(ours.path, ours.slices, theirs.dice, ours.dice) for theirs, ours in shared]
    return Paired(
        whole=found.whole,
        enough=found.enough,
        fingerprint=second.fingerprint,
        first_images=first.images,
        second_images=second.images,
        metrics={
            metric: Row(first.overall.get(metric), second.overall.get(metric), *_difference(shared, metric))
            for metric in METRICS
            if metric in first.overall or metric in second.overall
        },
        slices=_slices(first, second, shared),
        bound=Bound(shown.mean, shown.low, shown.high) if known else None,
        images=sorted(images, key=lambda one: (one.second - one.first, one.path)),
    )


def _slices(first: Evaluation, second: Evaluation, shared: Sequence[_Pair]) -> dict[str, SliceRow]:
    found = {}
    for name in sorted({*first.slices, *second.slices}):
        theirs, ours = first.slices.get(name), second.slices.get(name)
        members = [one for one in shared if name in one[1].slices]
        difference, images = _difference(members, "dice")
        found[name] = SliceRow(
            _dice(theirs),
            _dice(ours),
            difference,
            images,
            theirs.images if theirs else 0,
            ours.images if ours else 0,
        )
    return found


def _dice(part: SliceResult | None) -> Interval | None:
    return part.metrics.get("dice") if part else None


def _difference(shared: Sequence[_Pair], metric: Metric) -> tuple[Interval | None, int]:
    """Mean of second minus first with its 95 % interval, whole groups drawn; and of how many images."""
    values, groups = [], []
    for theirs, ours in shared:
        old, new = getattr(theirs, metric), getattr(ours, metric)
        if old is not None and new is not None:
            values.append(new - old)
            groups.append(ours.group)
    if not values:
        return None, 0
    mean, low, high = bootstrap_interval(values, groups)
    alone = len({group if group is not None else place for place, group in enumerate(groups)}) < 2
    if alone:
        low, high = -1.0, 1.0  # one image or one group says nothing of the next
    return Interval(mean=mean, low=low, high=high), len(values)

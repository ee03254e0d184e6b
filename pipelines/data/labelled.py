"""The labelled images of a split, decoded one at a time, in any order that is asked for.

for image in LabelledImages(data.split("test")):
    image.rgb, image.mask
LabelledImages(over_slices(data.split("validation")))    # a part from the front shows every slice
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.data.dataset import Sample, load
from records.batch import LIVE_PREFIX


class LabelledImage(NamedTuple):
    """An image and its truth.

    Attributes:
        path: its name in the data set.
        group: what it has in common with others (patient, slide); None if it stands alone.
        slices: value of each slice column in which it has one.
        rgb: (H, W, 3) uint8.
        mask: (H, W) uint8 class index.
    """

    path: str
    group: str | None
    slices: Mapping[str, str]
    rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class LabelledSet(Protocol):
    """Labelled images that can be gone through more than once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[LabelledImage]: ...


class LabelledImages:
    """Samples of a data set, decoded one at a time each time they are gone through."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[LabelledImage]:
        for sample in self._samples:
            yield LabelledImage(sample.file, sample.group, sample.slices, *load(sample))

    def only(self, paths: Iterable[str]) -> "LabelledImages":
        """Those of the images that are named, in the order of the names."""
        by_path = {sample.file: sample for sample in self._samples}
        return LabelledImages([by_path[path] for path in paths])


def centre_square(array: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The centre square of an image (H, W, 3) or a mask (H, W), `side` pixels; a smaller one is mirrored to size."""
    height, width = array.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    part = array[top : top + side, left : left + side]
    below, right = side - part.shape[0], side - part.shape[1]
    return np.asarray(cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8)


def showable(samples: Iterable[Sample]) -> list[Sample]:
    """Those that may be kept as pictures in a version or a run: there, `records forget` would not find a client's."""
    return [sample for sample in samples if not sample.image.name.startswith(LIVE_PREFIX)]


def over_slices(samples: Iterable[Sample], seed: int = 0) -> list[Sample]:
    """All samples in an order of which every beginning holds as many images of one slice as of another.

    Who can look at some images only takes the first ones. Images with the same values in all slice columns make one
    slice here; within it, and from slice to slice, the order is drawn.

    Args:
        samples: in any order, which does not matter.
        seed: of the draws.
    """
    slices: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.file):
        slices.setdefault(tuple(sorted(sample.slices.items())), []).append(sample)
    rng = np.random.default_rng(seed)
    shuffled = [[members[place] for place in rng.permutation(len(members))] for _, members in sorted(slices.items())]
    turns = [shuffled[place] for place in rng.permutation(len(shuffled))]
    return [sample for sample in chain.from_iterable(zip_longest(*turns)) if sample is not None]

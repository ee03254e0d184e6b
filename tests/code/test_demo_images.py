"""The demo's live images: forty that differ, of however small a data set."""

from pathlib import Path

import numpy as np
import pytest
from dataset_factory import make

from pipelines.demo import LIVE_IMAGES, _live_images


@pytest.mark.parametrize("count", [12, LIVE_IMAGES + 5])
def test_no_two_of_the_images_that_it_posts_are_the_same(tmp_path: Path, count: int) -> None:
    root = make(tmp_path / "data", count)
    for shifted in (False, True):
        pixels = [np.asarray(picture) for picture in _live_images(root, shifted=shifted)]
        assert len(pixels) == len({(each.shape, each.tobytes()) for each in pixels}) == LIVE_IMAGES


def test_shifted_images_are_those_that_are_as_they_are_but_brighter(tmp_path: Path) -> None:
    root = make(tmp_path / "data", 12)
    normal, shifted = (list(_live_images(root, shifted=shifted)) for shifted in (False, True))
    for one, other in zip(normal, shifted, strict=True):
        assert one.size == other.size and np.asarray(other).mean() > np.asarray(one).mean()

"""The interval of the calibration error: of images, or of groups of them."""

import numpy as np
import pytest

from pipelines.evidence.behaviour import BINS, _band
from registry.noninferiority import FEWEST_CLUSTERS


def tables(images: int, error: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Each image has 100 pixels in one bin, of which it says as many too much."""
    found = np.zeros((images, 3, BINS))
    found[:, 0, 7], found[:, 1, 7], found[:, 2, 7] = 100, 100 * (0.5 + error), 50
    return found


@pytest.mark.parametrize(("groups", "known"), [(FEWEST_CLUSTERS - 1, False), (FEWEST_CLUSTERS, True)])
def test_many_images_of_few_groups_have_no_interval(groups: int, known: bool) -> None:
    band = _band(tables(100, 0.05), [f"patient {place % groups}" for place in range(100)])
    assert band.error == pytest.approx(0.05)
    assert ((band.low, band.high) == (0.0, 1.0)) != known
    if known:
        assert (band.low, band.high) == (pytest.approx(0.05), pytest.approx(0.05))


def test_images_without_a_group_stand_alone() -> None:
    band = _band(tables(FEWEST_CLUSTERS, 0.05), [None] * FEWEST_CLUSTERS)
    assert band.high == pytest.approx(0.05)

"""Which test images two versions share."""

import numpy as np
import pytest
from gate_evidence import scores

from registry.comparison import compared, shared_images

HALF = 20


def test_on_one_split_all_images_are_compared_each_with_itself() -> None:
    pairs = compared(scores([0.9, 0.5, 0.7]), scores([0.8, 0.6, 0.7]))
    assert pairs.enough
    assert pairs.images == ["images/0.png", "images/1.png", "images/2.png"]
    np.testing.assert_allclose(pairs.differences, [0.1, -0.1, 0.0])
    assert pairs.told == "3 test images"


def test_the_order_of_the_images_does_not_matter() -> None:
    theirs = scores([0.8, 0.6, 0.7])
    turned = theirs.model_copy(update={"per_image": theirs.per_image[::-1]})
    np.testing.assert_allclose(compared(scores([0.9, 0.6, 0.7]), turned).differences, [0.0, 0.0, 0.1], atol=1e-12)


def test_images_keep_the_groups_of_the_candidate() -> None:
    pairs = compared(scores([0.9, 0.5], groups=["a", None]), scores([0.8, 0.6], groups=["b", "b"]))
    assert pairs.groups == ["a", None]


def test_a_split_that_grew_is_compared_on_the_images_it_had_whatever_their_names() -> None:
    ours = scores([0.9] * HALF + [0.1] * 10, fingerprint="sha256:grown", prefix="moved/")
    pairs = compared(ours, scores([0.8] * HALF))
    assert pairs.enough
    np.testing.assert_allclose(pairs.differences, [0.1] * HALF)
    assert pairs.told == (
        "20 test images: those in common of the 20 of the live version and the 30 of this one; "
        "at least 90% of the live version's are needed"
    )


@pytest.mark.parametrize(("left_out", "enough"), [(2, True), (3, False), (HALF, False)])
def test_nine_in_ten_of_the_live_versions_images_are_needed(left_out: int, enough: bool) -> None:
    """Who leaves images out can choose which."""
    theirs = scores([0.8] * HALF)
    ours = scores([0.9] * (HALF + 10), fingerprint="sha256:other")
    kept = ours.per_image[left_out:]
    part = ours.model_copy(update={"per_image": kept, "images": len(kept)})
    found = shared_images(part, theirs)
    assert (len(found.pairs), found.enough, found.whole) == (HALF - left_out, enough, False)
    assert compared(part, theirs).enough == enough


def test_an_image_with_another_mask_is_another_image() -> None:
    theirs = scores([0.8] * HALF)
    relabelled = [image.model_copy(update={"mask_sha256": "other"}) for image in theirs.per_image]
    ours = scores([0.9] * HALF, fingerprint="sha256:other")
    assert not shared_images(ours, theirs.model_copy(update={"per_image": relabelled})).pairs


def test_on_two_splits_images_of_one_name_whose_digests_nobody_kept_are_not_the_same() -> None:
    ours = scores([0.9] * HALF, fingerprint="sha256:other", digests=False)
    found = compared(ours, scores([0.8] * HALF, digests=False))
    assert (found.images, found.enough) == ([], False)


def test_one_fingerprint_with_other_names_is_not_taken_for_one_split() -> None:
    found = shared_images(scores([0.9] * HALF, prefix="other/", digests=False), scores([0.8] * HALF, digests=False))
    assert (found.whole, found.enough) == (False, False)

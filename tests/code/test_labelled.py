"""The order in which images are drawn shows every slice early, and is the same every time."""

from collections import Counter
from pathlib import Path

import numpy as np

from pipelines.data.dataset import Sample
from pipelines.data.labelled import over_slices


def samples(**counts: int) -> list[Sample]:
    """So many samples of each stain, in the order of their names."""
    names = [(stain, number) for stain in sorted(counts) for number in range(counts[stain])]
    return [
        Sample(f"images/{stain}-{number:03d}.png", Path(stain), None, None, {"stain": stain}) for stain, number in names
    ]


def test_every_beginning_holds_as_many_of_one_slice_as_of_another() -> None:
    ordered = over_slices(samples(a=90, b=30, c=3))
    assert Counter(sample.slices["stain"] for sample in ordered) == {"a": 90, "b": 30, "c": 3}
    assert Counter(sample.slices["stain"] for sample in ordered[:9]) == {"a": 3, "b": 3, "c": 3}
    assert Counter(sample.slices["stain"] for sample in ordered[:43]) == {"a": 20, "b": 20, "c": 3}


def test_the_order_within_a_slice_is_drawn_and_repeats_itself() -> None:
    given = samples(a=50)
    once = over_slices(given)
    shuffled = [given[place] for place in np.random.default_rng(9).permutation(50)]
    assert once == over_slices(shuffled)
    assert once != given and sorted(once, key=lambda sample: sample.file) == given
    assert once != over_slices(given, seed=1)


def test_images_without_a_slice_are_a_slice_too() -> None:
    bare = [Sample(f"images/{number}.png", Path("x"), None) for number in range(5)]
    assert {bool(sample.slices) for sample in over_slices([*samples(a=50), *bare])[:2]} == {True, False}
    assert over_slices([]) == []

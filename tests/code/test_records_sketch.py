"""A sketch says of many rows what the rows say, and merges in any order."""

import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from records.schema import DESCRIPTORS
from records.sketch import Sketch
from records.sketch_bins import BIN_COUNT, COLUMNS, EDGES, FORMAT
from resunet.errors import RecordsError

RNG = np.random.default_rng(3)
MOMENTS = ("mean", "squares", "minimum", "maximum")


def rows(count: int, scale: float = 100.0) -> NDArray[np.float64]:
    """Values of every size, some of which are missing."""
    values = scale * RNG.lognormal(0, 2, (count, len(COLUMNS)))
    values[RNG.random(values.shape) < 0.1] = np.nan
    return values


def assert_same(left: Sketch, right: Sketch) -> None:
    assert left.rows == right.rows
    assert (left.counts == right.counts).all()
    for name in MOMENTS:
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=1e-9, atol=1e-300)


def test_every_column_has_its_edges_and_they_are_those_of_the_format() -> None:
    assert tuple(EDGES) == COLUMNS == ("latency_ms", *DESCRIPTORS)
    for edges in EDGES.values():
        assert len(edges) == BIN_COUNT - 1 and (np.diff(edges) > 0).all()
    digest = hashlib.sha256(repr([(name, list(map(float, edges))) for name, edges in EDGES.items()]).encode())
    # Another digest is another FORMAT: raise it, and note both here.
    assert (FORMAT, digest.hexdigest()[:16]) == (1, "7a79768701e258ea")


def test_it_says_of_rows_what_they_say() -> None:
    values = rows(1000)
    sketch = Sketch.of(values)
    assert sketch.rows == 1000
    for place, name in enumerate(COLUMNS):
        known = values[np.isfinite(values[:, place]), place]
        assert sketch.values[place] == len(known)
        np.testing.assert_allclose(sketch.mean[place], known.mean(), rtol=1e-12)
        np.testing.assert_allclose(sketch.squares[place] / len(known), known.var(), rtol=1e-9)
        assert (sketch.minimum[place], sketch.maximum[place]) == (known.min(), known.max())
        below = [(known <= edge).sum() for edge in EDGES[name]]
        assert (np.cumsum(sketch.counts[place])[:-1] == below).all()


def test_what_is_zero_is_not_among_what_is_small() -> None:
    values = np.zeros((3, len(COLUMNS)))
    values[2] = 1e-9
    counts = Sketch.of(values).counts
    assert (counts[COLUMNS.index("saturation"), :2] == [2, 1]).all()
    assert (counts[COLUMNS.index("brightness"), :2] == [2, 1]).all()


def test_a_number_that_is_none_is_no_value() -> None:
    values = np.full((4, len(COLUMNS)), 5.0)
    values[1:] = [[np.nan], [np.inf], [-np.inf]]
    assert_same(Sketch.of(values).merge(Sketch.empty()), Sketch.of(values))
    assert (Sketch.of(values).values == 1).all() and (Sketch.of(values).maximum == 5).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_merging_is_the_same_in_any_order_and_grouping(sizes: list[int], random: object) -> None:
    parts = [rows(size) for size in sizes]
    whole = Sketch.of(np.concatenate(parts))
    sketches = [Sketch.of(part) for part in parts]
    assert_same(Sketch.merged(sketches), whole)
    random.shuffle(sketches)  # type: ignore[attr-defined]
    while len(sketches) > 1:
        left, right = sketches.pop(random.randrange(len(sketches))), sketches.pop()  # type: ignore[attr-defined]
        sketches.append(left.merge(right))
    assert_same(sketches[0], whole)


def test_equal_values_have_no_spread_however_they_came() -> None:
    sketch = Sketch.merged(Sketch.of(np.full((size, len(COLUMNS)), 0.1)) for size in (3, 7, 1, 400))
    assert (sketch.squares == 0).all() and (sketch.mean == 0.1).all()


def test_bytes_give_the_same_sketch_and_other_bytes_are_refused() -> None:
    sketch = Sketch.of(rows(50))
    assert_same(Sketch.from_bytes(sketch.to_bytes()), sketch)
    assert Sketch.from_bytes(b"").rows == 0
    assert len(Sketch.of(rows(1)).to_bytes()) < 1000
    for content in (b"x", sketch.to_bytes()[:-9], zlib.compress(b"short")):
        with pytest.raises(RecordsError, match="damaged"):
            Sketch.from_bytes(content)

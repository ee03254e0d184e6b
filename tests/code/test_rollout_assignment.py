"""Who gets which version: drawn evenly, the same for the same caller, and never moved back."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rollout.assignment import Assigned, Assignment, Epoch, candidate_cells, place, unit
from serving.rollout.cells import CELLS

keys = st.text(st.characters(), max_size=40)
shares = st.integers(0, CELLS).map(lambda cells: cells / CELLS)


def assignment(canary: float = 0.0, shadow: float = 0.0, rollout: str = "r", number: int = 1) -> Assignment:
    return Assignment(Epoch(rollout, number), canary, shadow, "client")


def places(rollout: str = "r", count: int = 20_000) -> np.ndarray:
    return np.array([place(rollout, f"caller {number}") for number in range(count)])


@given(keys, keys)
def test_a_place_is_in_the_unit_interval_without_its_end(rollout: str, key: str) -> None:
    assert 0 <= place(rollout, key) < 1


def test_not_even_the_last_digest_is_rounded_up_to_one() -> None:
    assert unit(b"\xff" * 8) < 1
    assert int(unit(b"\xff" * 8) * CELLS) == CELLS - 1
    assert unit(bytes(8)) == 0


def test_places_are_spread_evenly() -> None:
    counts, _ = np.histogram(places(), bins=100, range=(0, 1))
    # Chi square of 99 degrees of freedom: more than 150 in one of a thousand.
    assert ((counts - 200) ** 2 / 200).sum() < 150


def test_places_in_two_rollouts_have_nothing_to_do_with_one_another() -> None:
    first, second = places("one"), places("two")
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.025
    assert np.mean((first < 0.1) & (second < 0.1)) == pytest.approx(0.01, abs=0.003)


def test_whom_the_shadow_takes_has_nothing_to_do_with_whom_the_canary_takes() -> None:
    assigned = [assignment(0.5, 0.5).of(f"request {number}") for number in range(20_000)]
    rest = [one for one in assigned if one.route == "production"]
    assert len(rest) == pytest.approx(10_000, abs=300)
    assert np.mean([one.shadowed for one in rest]) == pytest.approx(0.5, abs=0.02)


@given(keys, shares, st.lists(st.text(min_size=1), min_size=2, max_size=5))
def test_a_caller_stays_with_one_version_whatever_the_request(key: str, share: float, requests: list[str]) -> None:
    if key:
        assert len({assignment(share).of(request, key)[:3] for request in requests}) == 1


@given(keys, shares, shares)
def test_a_growing_share_takes_no_caller_back(key: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    before, after = assignment(smaller).of("1", key), assignment(larger, number=2).of("2", key or "1")
    assert before.route == "production" or after.route == "canary"
    assert before.cell == after.cell


@given(keys)
def test_no_share_is_nobody_and_a_whole_share_is_everybody(key: str) -> None:
    assert assignment(0.0).of("1", key) == Assigned(Epoch("r", 1), "production", assignment().of("1", key).cell, False)
    assert assignment(1.0).of("1", key).route == "canary"
    assert not assignment(0.0, 0.0).of("1", key).shadowed
    assert assignment(0.0, 1.0).of("1", key).shadowed


@pytest.mark.parametrize("share", [0.005, 0.01, 0.0505, 0.5])
def test_a_share_is_that_share_of_the_callers_and_whole_cells(share: float) -> None:
    assigned = [assignment(share).of("1", f"caller {number}") for number in range(20_000)]
    ours = {one.cell for one in assigned if one.route == "canary"}
    assert np.mean([one.route == "canary" for one in assigned]) == pytest.approx(share, abs=4 * (share / 20_000) ** 0.5)
    assert max(ours) < candidate_cells(share) <= min({one.cell for one in assigned} - ours)
    assert candidate_cells(share) == round(share * CELLS)


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_the_request_decides(key: str | None) -> None:
    assigned = [assignment(0.5).of(f"request {number}", key) for number in range(1000)]
    assert np.mean([one.route == "canary" for one in assigned]) == pytest.approx(0.5, abs=0.06)
    assert assignment(0.5).of("request 7", key) == assignment(0.5).of("other", "request 7")


@pytest.mark.parametrize(
    ("sticky", "key"),
    [("client", "key 7"), ("request", None), ("header:X-Session", "s1"), ("header:X-Other", None)],
)
def test_the_policy_says_what_callers_are_told_apart_by(sticky: str, key: str | None) -> None:
    told = Assignment(Epoch("r", 1), 0.1, 0.0, sticky).caller("key 7", {"X-Session": "s1"})
    assert told == key


def test_another_process_draws_the_same_places() -> None:
    code = "from serving.rollout.assignment import place; print(place('r', 'caller ä 1'), place('r', 'x', b'shadow'))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert printed.stdout.split() == [str(place("r", "caller ä 1")), str(place("r", "x", b"shadow"))]
    # A release that draws otherwise would move every caller of a rollout that is going on.
    assert assignment().of("request 1").cell == 1184

"""Token buckets: what a caller gets, when it is told to come back, and that memory stays bounded."""

import pytest
from access_scene import HandClock
from hypothesis import given, settings
from hypothesis import strategies as st

from resunet.errors import SettingsError
from serving.access.limits import FASTEST, SLOWEST, Buckets, Limits, Rate
from serving.access.stores import OwnStores
from serving.gateway.settings import GatewaySettings

RATES = st.builds(Rate, st.floats(0.01, 1000), st.floats(1, 1000))
PAUSES = st.floats(0, 100)
COSTS = st.floats(0, 5000)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(RATES, st.lists(st.tuples(PAUSES, COSTS), max_size=30))
def test_no_caller_gets_more_than_burst_rate_and_one_cost_above_a_unit(
    rate: Rate, asked: list[tuple[float, float]]
) -> None:
    clock = HandClock()
    buckets = Buckets(rate, clock)
    taken = []
    for pause, cost in asked:
        clock.seconds += pause
        if not buckets.take("caller", cost):
            taken.append((clock.seconds, cost))
    for first, (began, _) in enumerate(taken):
        for last in range(first, len(taken)):
            over = max(0.0, taken[last][1] - 1)
            got = sum(cost for _, cost in taken[first : last + 1])
            assert got <= rate.burst + rate.per_second * (taken[last][0] - began) + over + 1e-3


@settings(max_examples=300, deadline=None, derandomize=True)
@given(RATES, st.lists(st.tuples(PAUSES, COSTS), max_size=20), COSTS)
def test_who_waits_as_long_as_told_is_let_in_whatever_the_cost(
    rate: Rate, before: list[tuple[float, float]], cost: float
) -> None:
    clock = HandClock()
    buckets = Buckets(rate, clock)
    for pause, earlier in before:
        clock.seconds += pause
        buckets.take("caller", earlier)
    wait = buckets.wait("caller")
    assert wait >= 0
    clock.seconds += wait / 2
    # Below that, half of it is within what rounding is forgiven.
    if wait * rate.per_second > 1e-3:
        assert buckets.take("caller", cost) > 0
    clock.seconds += wait / 2
    assert buckets.take("caller", cost) == 0


@settings(max_examples=300, deadline=None, derandomize=True)
@given(RATES, st.lists(st.tuples(PAUSES, COSTS), max_size=20))
def test_a_refusal_takes_nothing(rate: Rate, asked: list[tuple[float, float]]) -> None:
    clock = HandClock()
    asking, patient = Buckets(rate, clock), Buckets(rate, clock)
    for pause, cost in asked:
        clock.seconds += pause
        if not patient.wait("caller"):
            patient.take("caller", cost)
        refused = asking.take("caller", cost)
        if refused:
            asking.take("caller", cost)
        assert asking.wait("caller") == pytest.approx(patient.wait("caller"), abs=1e-6)


def test_requests_are_a_burst_and_then_the_rate(clock: HandClock) -> None:
    buckets = Buckets(Rate(2, burst=5), clock)
    assert [buckets.take("caller") for _ in range(7)] == [0, 0, 0, 0, 0, 0.5, 0.5]
    clock.seconds += 0.5
    assert [buckets.take("caller") for _ in range(2)] == [0, 0.5]
    clock.seconds += 3600
    assert [buckets.take("caller") for _ in range(6)] == [0, 0, 0, 0, 0, 0.5]
    assert buckets.take("another") == 0


def test_a_cost_above_the_burst_is_let_in_and_paid_for_in_full(clock: HandClock) -> None:
    buckets = Buckets(Rate(10, burst=50), clock)
    assert buckets.take("caller", 400) == 0
    # 350 are owed, and one unit has to be in store.
    assert buckets.take("caller", 0.01) == pytest.approx(35.1)
    clock.seconds += 35.1
    assert buckets.take("caller", 400) == 0


def test_small_costs_cannot_keep_a_large_one_out(clock: HandClock) -> None:
    """One caller has small images always at the door, more than its rate, and a large one that it tries in between."""
    buckets = Buckets(Rate(1, burst=10), clock)
    let_in = 0
    for turn in range(4000):
        clock.seconds += 0.1
        if turn % 2:
            buckets.take("caller", 0.5)
        else:
            let_in += not buckets.take("caller", 50)
    assert let_in >= 7


def test_memory_is_bounded_and_who_keeps_asking_is_not_forgotten(clock: HandClock) -> None:
    stores = OwnStores(100)
    buckets = Buckets(Rate(0.001, burst=1), clock, stores)
    assert buckets.take("busy") == 0
    for number in range(10_000):
        buckets.take(f"caller {number}")
        assert buckets.take("busy") > 0
        assert stores.remembered <= 100
    assert buckets.take("caller 9999") > 0 and buckets.take("caller 0") == 0


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_a_cost_that_is_none_is_a_defect(clock: HandClock, cost: float) -> None:
    with pytest.raises(ValueError, match="cost"):
        Buckets(Rate(1, 1), clock).take("caller", cost)


@pytest.mark.parametrize(
    ("per_second", "burst"), [(0, 1), (-1, 1), (1, 0.5), (float("nan"), 1), (1, float("nan")), (float("inf"), 1)]
)
def test_a_rate_that_lets_nothing_in_is_refused(per_second: float, burst: float) -> None:
    with pytest.raises(SettingsError, match="change the limit"):
        Rate(per_second, burst)


def test_a_debt_of_megapixels_holds_the_next_request_back_before_its_body_is_read(clock: HandClock) -> None:
    limits = Limits(Rate(1, burst=10), Rate(10, burst=50), clock=clock)
    assert limits.request("caller") == 0 and limits.pixels("caller", 100_000_000) == 0
    assert limits.request("caller") == pytest.approx(5.1)
    assert limits.pixels("caller", 1) == pytest.approx(5.1)
    assert limits.request("another") == 0
    clock.seconds += 5.1
    # The refused ones took nothing of the requests: the first had taken one, and 5.1 seconds have filled that up.
    assert sum(limits.request("caller") == 0 for _ in range(11)) == 10


def test_without_rates_nothing_is_counted_but_failures(clock: HandClock) -> None:
    limits = Limits(failures=Rate(1, burst=3), clock=clock)
    assert {limits.request("caller") for _ in range(1000)} == {0} == {limits.pixels("caller", 10**9) for _ in range(9)}
    assert [limits.failure("address") > 0 for _ in range(5)] == [False, False, False, True, True]


@pytest.mark.parametrize("name", ["REQUESTS_PER_SECOND", "MEGAPIXELS_PER_SECOND"])
@pytest.mark.parametrize("value", ["1e-12", "1e10", "inf", "nan", "0"])
def test_a_gateway_does_not_start_its_processes_with_a_rate_that_none_could_hold(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RESUNET_GATEWAY_{name}", value)
    with pytest.raises(SettingsError, match=f"RESUNET_GATEWAY_{name} is not usable"):
        GatewaySettings.load()


@pytest.mark.parametrize("per_second", [SLOWEST, FASTEST])
def test_every_rate_that_may_be_set_holds(clock: HandClock, per_second: float) -> None:
    buckets = Buckets(Rate(per_second, burst=1), clock)
    assert buckets.take("caller") == 0
    clock.seconds += buckets.take("caller") or buckets.wait("caller")
    assert buckets.take("caller") == 0

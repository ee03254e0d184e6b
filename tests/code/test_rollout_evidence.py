"""What is counted of a rollout: added up in any order, of one epoch only, in little memory, and as JSON."""

import json
import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rollout.assignment import Assigned, Epoch
from serving.rollout.cells import CELLS, METRICS, Answer, Cells
from serving.rollout.evidence import Evidence
from serving.rollout.sketch import Sketch

EPOCH = Epoch("r", 2)
OK = Answer(True, 40.0, 0.9)
FAILED = Answer(False)


def production(cell: int, epoch: Epoch = EPOCH) -> Assigned:
    return Assigned(epoch, "production", cell, False)


def canary(cell: int) -> Assigned:
    return Assigned(EPOCH, "canary", cell, False)


def drawn(seed: int, requests: int = 200) -> Evidence:
    rng = np.random.default_rng(seed)
    evidence = Evidence(EPOCH)
    for _ in range(requests):
        answer = Answer(bool(rng.random() < 0.9), float(rng.lognormal(4, 1)), float(rng.random()))
        evidence.record(Assigned(EPOCH, "canary" if rng.random() < 0.3 else "production", 7, False), answer)
        evidence.record_shadow(production(int(rng.integers(CELLS))), OK, answer, float(rng.random()))
    return evidence


def test_sums_of_a_cell_are_of_the_requests_that_fell_into_it() -> None:
    cells = Cells()
    cells.add(3, OK)
    cells.add(3, Answer(True, 80.0, 0.5))
    cells.add(3, FAILED)
    cells.add(4, OK)
    errors, latency, confidence = (cells.of(metric) for metric in METRICS)
    assert (errors.answers[3], errors.sums[3], errors.answers[4]) == (3, 1, 1)
    # A failed request has neither latency nor confidence.
    assert (latency.answers[3], confidence.answers[3]) == (2, 2)
    assert latency.sums[3] == pytest.approx(math.log(40) + math.log(80), abs=1e-6)
    assert confidence.sums[3] == pytest.approx(0.1 + 0.5)
    assert cells.requests == 4


def test_latencies_and_confidences_out_of_range_count_as_its_end() -> None:
    cells = Cells()
    for cell, latency in enumerate([0.0, -1.0, math.inf]):
        cells.add(cell, Answer(True, latency, 1.5))
    sums = cells.of("latency").sums
    assert sums[:3] == pytest.approx([math.log(0.1), math.log(0.1), math.log(600_000)], abs=1e-6)
    assert not cells.of("confidence").sums.any()


@pytest.mark.parametrize("answer", [Answer(True), Answer(True, 40.0), Answer(True, math.nan, 0.5)])
def test_a_good_answer_without_numbers_is_a_mistake_of_the_caller(answer: Answer) -> None:
    cells = Cells()
    with pytest.raises(ValueError, match="not a number"):
        cells.add(0, answer)
    assert cells.requests == 0
    with pytest.raises(ValueError, match="no cell"):
        cells.add(CELLS, OK)


def test_workers_are_added_up_in_any_order() -> None:
    texts = [json.dumps(drawn(seed).to_json()) for seed in range(3)]
    totals = [Evidence.total(EPOCH, [json.loads(text) for text in order]) for order in permutations(texts)]
    assert all(total == totals[0] for total in totals)
    assert totals[0].cells.requests == 600
    assert totals[0].routes["canary"].requests + totals[0].routes["production"].requests == 600
    assert totals[0].agreement.count == 600


def test_millions_of_additions_do_not_drift() -> None:
    cells = Cells()
    cells.add(0, Answer(True, 0.1001, 0.9999997))
    for _ in range(30):  # doubles: 2 ** 30 requests
        cells.merge(Cells(cells.counts.copy()))
    answers, sums = cells.of("latency")
    assert answers[0] == 2**30
    assert sums[0] / answers[0] == pytest.approx(math.log(0.1001), abs=1e-6)


def test_what_is_written_is_read_back() -> None:
    evidence = drawn(1)
    following = evidence.following(Epoch("r", 3))
    for one in (evidence, following, Evidence(EPOCH)):
        assert Evidence.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False))) == one


def test_a_mature_rollout_is_written_in_some_hundred_kilobytes() -> None:
    evidence = Evidence(EPOCH)
    evidence.cells.counts[:] = np.array([[50_000], [500], [49_500], [200_000_000_000], [7_000_000_000]])
    assert len(json.dumps(evidence.to_json())) < 150_000


@pytest.mark.parametrize("name", ["-1", str(CELLS), "x"])
def test_cells_that_do_not_exist_are_not_read(name: str) -> None:
    with pytest.raises(ValueError):
        Cells.from_json({name: [1, 0, 1, 0, 0]})
    with pytest.raises(ValueError):
        Cells.from_json({"1": [1, 0]})


def test_evidence_of_a_newer_format_is_not_read() -> None:
    with pytest.raises(ValueError, match="format 2"):
        Evidence.from_json({**drawn(1).to_json(), "format": 2})


def test_what_was_assigned_in_another_epoch_does_not_count() -> None:
    evidence = Evidence(EPOCH)
    for epoch in (Epoch("r", 1), Epoch("other", 2)):
        evidence.record(production(1, epoch), OK)
        evidence.record_shadow(production(1, epoch), OK, OK, 0.9)
    assert evidence == Evidence(EPOCH)
    evidence.record(production(1), OK)
    assert evidence.cells.requests == 1


def test_workers_that_are_late_are_left_out_and_never_mixed() -> None:
    late = Evidence(Epoch("r", 1))
    late.record(production(1, Epoch("r", 1)), OK)
    assert Evidence.total(EPOCH, [late.to_json(), drawn(1).to_json()]) == drawn(1)
    with pytest.raises(ValueError, match="says nothing"):
        late.merge(drawn(1))


def test_both_versions_of_a_shadowed_request_are_kept_side_by_side() -> None:
    evidence = Evidence(EPOCH)
    evidence.record_shadow(production(5), OK, Answer(True, 60.0, 0.8), 0.95)
    evidence.record_shadow(production(5), OK, FAILED, None)
    evidence.record_shadow(production(5), FAILED, OK, None)
    candidate, champion = evidence.twice
    assert (candidate.of("errors").sums[5], champion.of("errors").sums[5]) == (1, 1)
    # Only the pair of which both are good can be compared.
    assert (candidate.of("confidence").answers[5], champion.of("confidence").answers[5]) == (1, 1)
    assert candidate.of("confidence").sums[5] == pytest.approx(0.2)
    assert (evidence.routes["shadow"].requests, evidence.routes["shadow"].errors) == (3, 1)
    assert (evidence.agreement.count, evidence.agreement.mean) == (1, pytest.approx(0.95))
    assert evidence.cells.requests == 0


def test_habits_are_what_callers_sent_while_the_champion_alone_answered() -> None:
    shadow = Evidence(Epoch("r", 1))
    shadow.record(production(3, Epoch("r", 1)), OK)
    first = shadow.following(EPOCH)
    assert first.before == shadow.cells
    assert first.cells.requests == 0
    # A stage that began anew before the canary adds to them; the canary's own answers do not.
    first.record(production(3), OK)
    again = first.following(Epoch("r", 3))
    assert again.before is not None and again.before.requests == 2
    again.record(Assigned(Epoch("r", 3), "canary", 3, False), OK)
    later = again.following(Epoch("r", 4))
    assert later.before is not None and later.before.requests == 2


def test_another_rollout_draws_other_cells_and_so_knows_no_habits() -> None:
    shadow = Evidence(Epoch("r", 1))
    shadow.record(production(3, Epoch("r", 1)), OK)
    assert shadow.following(Epoch("other", 1)) == Evidence(Epoch("other", 1))


@given(st.lists(st.floats(0.1, 600_000), min_size=1, max_size=200), st.floats(0.01, 1))
def test_quantiles_of_latencies_are_within_one_percent(values: list[float], q: float) -> None:
    sketch = Sketch.of_latencies()
    for value in values:
        sketch.add(value)
    true = float(np.quantile(values, q, method="inverted_cdf"))
    assert sketch.quantile(q) == pytest.approx(true, rel=0.0102)
    assert sketch.mean == pytest.approx(np.mean(values), abs=1e-6, rel=1e-9)
    assert sketch.smallest == pytest.approx(min(values), abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=100), st.integers(0, 100))
def test_sketches_of_parts_add_up_to_that_of_the_whole(values: list[float], cut: int) -> None:
    whole, left, right = (Sketch.of_shares() for _ in range(3))
    for place, value in enumerate(values):
        whole.add(value)
        (left if place < cut else right).add(value)
    left.merge(right)
    assert left == whole == Sketch.from_json(json.loads(json.dumps(whole.to_json())))
    assert whole.quantile(0.5) == pytest.approx(np.quantile(values, 0.5, method="inverted_cdf"), abs=0.0051)


def test_a_sketch_of_nothing_has_no_value_and_refuses_what_is_none() -> None:
    sketch = Sketch.of_shares()
    assert all(math.isnan(number) for number in (sketch.mean, sketch.smallest, sketch.quantile(0.5)))
    with pytest.raises(ValueError, match="not a number"):
        sketch.add(math.nan)
    with pytest.raises(ValueError, match="cannot be added"):
        sketch.merge(Sketch.of_latencies())
    with pytest.raises(ValueError, match="no sketch"):
        Sketch.from_json({"kind": "weight"})


def test_a_million_values_need_few_bins() -> None:
    sketch = Sketch.of_latencies()
    for value in np.random.default_rng(0).lognormal(4, 1.5, 20_000):
        sketch.add(float(value))
    assert len(sketch.bins) < 800

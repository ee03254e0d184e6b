"""A rollout from start to end on simulated traffic, for `benchmarks.rollout`.

ended = roll_out(draw(rng, 100_000, callers=5000, harm=Harm(errors=0.02)), policy)
ended.phase, ended.requests, ended.answered
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np

from benchmarks.rollout_traffic import Ints, Requests, Traffic, Values
from serving.rollout.assignment import candidate_cells
from serving.rollout.cells import Cells, Floats
from serving.rollout.evidence import Evidence
from serving.rollout.policy import RolloutPolicy
from serving.rollout.state import Rollout, Version
from serving.rollout.transitions import advance, start

_CHAMPION, _CANDIDATE = Version("1", "sha256:1"), Version("2", "sha256:2")
_BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
_A_MINUTE: Final = 100


class Whole(NamedTuple):
    """How a rollout ended, after how many requests, and how many of them the candidate answered."""

    phase: str
    requests: int
    answered: int


def roll_out(drawn: Requests, policy: RolloutPolicy) -> Whole:
    """One rollout; time passes by requests."""
    rollout = start(None, _CHAMPION, _CANDIDATE, policy, _BEGINNING, "simulated").rollout
    evidence, answered = Evidence(rollout.assignment.epoch), 0
    for minute, at in enumerate(range(0, len(drawn.cells), _A_MINUTE), 1):
        part = Requests(drawn.cells[at : at + _A_MINUTE], *(_part(values, at) for values in drawn[1:]))
        answered += _record(evidence, rollout, part)
        now = _BEGINNING + timedelta(minutes=minute)
        moved = advance(rollout, evidence, policy, now, _CHAMPION, _CANDIDATE).rollout
        if moved.epoch != rollout.epoch:
            evidence = evidence.following(moved.assignment.epoch)
        rollout = moved
        if rollout.phase in ("finishing", "aborted"):
            return Whole(rollout.phase, at + _A_MINUTE, answered)
    return Whole("undecided", len(drawn.cells), answered)


def _part(values: Values, at: int) -> Values:
    return {metric: of_all[at : at + _A_MINUTE] for metric, of_all in values.items()}


def _record(evidence: Evidence, rollout: Rollout, part: Requests) -> int:
    """As `Evidence.record` and `record_shadow` do, many at a time; how many callers the candidate answered."""
    candidates = candidate_cells(rollout.canary)
    _count(evidence.cells, part.answered(candidates))
    answered = int((part.cells < candidates).sum())
    evidence.routes["canary"].requests += answered
    shadowed = slice(0, round(rollout.shadow * len(part.cells)))
    evidence.routes["shadow"].requests += len(part.cells[shadowed])
    for cells, values in zip(evidence.twice, (part.candidate, part.champion), strict=True):
        failed = np.maximum(part.candidate["errors"], part.champion["errors"])
        twice = Traffic(part.cells[shadowed], {metric: of_all[shadowed] for metric, of_all in values.items()})
        _count(cells, twice, failed[shadowed])
    return answered


def _count(cells: Cells, answered: Traffic, left_out: Floats | None = None) -> None:
    """Add requests; where one failed, or its pair did, latency and confidence are left out."""
    errors = answered.values["errors"].astype(np.int64)
    compared = 1 - (errors if left_out is None else left_out.astype(np.int64))
    millionths: list[Ints] = [
        (answered.values[metric] * 1e6).round().astype(np.int64) * compared for metric in ("latency", "confidence")
    ]
    for row, values in enumerate((np.ones_like(errors), errors, compared, *millionths)):
        np.add.at(cells.counts[row], answered.cells, values)

"""A rollout to move, and evidence to move it with."""

from datetime import UTC, datetime, timedelta

import numpy as np

from serving.rollout.assignment import candidate_cells
from serving.rollout.cells import CELLS
from serving.rollout.evidence import Evidence
from serving.rollout.policy import RolloutPolicy, parse_rollout_policy
from serving.rollout.state import Rollout, Version
from serving.rollout.transitions import advance, start

CHAMPION, CANDIDATE, OTHER = (Version(str(number), f"sha256:{number}") for number in (1, 2, 3))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXT = """\
format: 1
shadow: {share: 0.1, requests: 500, minutes: 10, rules_out: 10}
canary:
  - {share: 0.01, requests: 100, minutes: 10, rules_out: 10}
  - {share: 0.25, requests: 500, minutes: 20, rules_out: 2}
  - {share: 0.50, requests: 1000, minutes: 60}
limits: {error_rate: 0.01, latency_ratio: 1.2, confidence_drop: 0.02}
alpha: 0.01
finish: {promote: false, patience_hours: 48}
"""
POLICY = parse_rollout_policy(TEXT)
BY_ITSELF = parse_rollout_policy(TEXT.replace("promote: false", "promote: true"))


def later(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def begun(policy: RolloutPolicy = POLICY) -> Rollout:
    return start(None, CHAMPION, CANDIDATE, policy, NOON, "r1").rollout


def seen(
    rollout: Rollout, requests: int = 40_000, *, failing: float = 0.0, slower: float = 0.0, drop: float = 0.0
) -> Evidence:
    """Evidence of the rollout's epoch.

    Args:
        requests: answered by both versions together.
        failing, slower, drop: share of the candidate's requests that fail; what it adds to log latency; to confidence.
    """
    rng = np.random.default_rng(0)
    evidence = Evidence(rollout.assignment.epoch)
    candidates = candidate_cells(rollout.canary)
    count(evidence.cells.counts, rng, requests, candidates, failing, slower, drop)
    ours = int(evidence.cells.counts[0, :candidates].sum())
    evidence.routes["canary"].requests += ours
    evidence.routes["production"].requests += requests - ours
    if rollout.phase == "shadow":
        both = round(rollout.shadow * requests)
        evidence.routes["shadow"].requests += both
        at = rng.integers(0, CELLS, both)
        for cells, harm in zip(evidence.twice, ((failing, drop), (0.0, 0.0)), strict=True):
            failed = np.zeros(both, np.int64)
            failed[: round(harm[0] * both)] = 1
            lost = np.clip(rng.normal(150_000, 50_000, both), 0, None) + 1e6 * harm[1]
            for row, values in enumerate((failed * 0 + 1, failed, failed * 0 + 1, failed, lost.astype(np.int64))):
                np.add.at(cells.counts[row], at, values)
    return evidence


def count(
    counts: np.ndarray,
    rng: np.random.Generator,
    requests: int,
    candidates: int,
    failing: float,
    slower: float,
    drop: float,
) -> None:
    """Add requests to the cells of callers."""
    at = rng.integers(0, CELLS, requests)
    ours = at < candidates
    failed = (rng.random(requests) < np.where(ours, failing, 0.0)).astype(np.int64)
    latency = (1e6 * (4 + rng.normal(0, 0.3, requests) + slower * ours)).astype(np.int64)
    lost = (1e6 * (np.clip(rng.normal(0.15, 0.05, requests), 0, 1) + drop * ours)).astype(np.int64)
    good = 1 - failed
    for row, values in enumerate((failed * 0 + 1, failed, good, latency * good, lost * good)):
        np.add.at(counts[row], at, values)


def through(rollout: Rollout, policy: RolloutPolicy = POLICY) -> Rollout:
    """The rollout after its stage, of which nothing bad was seen."""
    return advance(rollout, seen(rollout), policy, rollout.since + timedelta(minutes=61), CHAMPION, CANDIDATE).rollout


def in_last_step(policy: RolloutPolicy = POLICY) -> Rollout:
    rollout = begun(policy)
    for _ in range(3):
        rollout = through(rollout, policy)
    return rollout

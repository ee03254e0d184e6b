"""Whether the tests of a rollout keep their word: false aborts and detections, by simulated traffic.

    python -m benchmarks.rollout                  # all tables of docs/rollout.md, about two hours on one core
    python -m benchmarks.rollout --only whole     # one of them: alarms, shadow, detections, clearances, whole
    python -m benchmarks.rollout --smoke

*alarms*: both versions are alike; how often is one of the three metrics ever taken for worse, looked at after each of
100,000 requests? Beside it what is done elsewhere: a z-test that is looked at as often, and the same always-valid test,
but as if requests were independent. *detections*: answers of the candidate until a harm is found. *clearances*: how
often a harm that is there is said to be ruled out, and answers until one that is not there is. *whole*: rollouts by
`serving.rollout.transitions` under the policy that comes with the platform, one hundred requests a minute.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from benchmarks.rollout_traffic import (
    NONE,
    Harm,
    Requests,
    Rng,
    Traffic,
    draw,
    log_wealth,
    log_wealth_alone,
    z_scores,
)
from benchmarks.rollout_whole import roll_out
from serving.rollout.assignment import candidate_cells
from serving.rollout.cells import CELLS, METRICS, Floats, Metric, Sums
from serving.rollout.policy import PolicyFile
from serving.rollout.sequential import habits, pairs, two_arms, upper_bound
from serving.rollout.verdict import REACH

Say = Callable[[str], None]

REQUESTS: Final = 100_000
# Before the canary, by the champion alone: what habits are learnt from.
BEFORE: Final = 20_000
ALPHA: Final = 0.01
POLICY: Final = PolicyFile(None).current()
# Of one metric in one stage of the policy that comes with the platform.
STAGE_ALPHA: Final = ALPHA / (POLICY.stages + 1) / len(METRICS)
SHARES: Final = tuple(step.share for step in POLICY.canary)


class Kind(NamedTuple):
    """A kind of traffic; `callers` as `draw` has it."""

    name: str
    callers: int
    habits: bool = True
    harm: Harm = NONE


KINDS: Final = (
    Kind("requests alone", 0),
    Kind("5,000 callers", 5000),
    Kind("300 callers", 300),
    Kind("5,000 callers, no shadow stage", 5000, habits=False),
    Kind("5,000 callers, candidate varies 1.5 ×", 5000, harm=Harm(spread=1.5)),
)
HARMS: Final[Mapping[str, tuple[Metric, Harm]]] = {
    "every request fails": ("errors", Harm(errors=1.0)),
    "a tenth fails": ("errors", Harm(errors=0.1)),
    "errors +2 %": ("errors", Harm(errors=0.02)),
    "errors +1 % (the limit)": ("errors", Harm(errors=0.01)),
    "latency × 3": ("latency", Harm(latency=math.log(3))),
    "latency × 1.2 (the limit)": ("latency", Harm(latency=math.log(1.2))),
    "confidence -0.1": ("confidence", Harm(confidence=0.1)),
    "confidence -0.02 (the limit)": ("confidence", Harm(confidence=0.02)),
}


class Canary(NamedTuple):
    """Traffic of one step, and the habits of its callers."""

    traffic: Traffic
    candidates: int
    before: Traffic | None

    def habit(self, metric: Metric) -> Floats | None:
        """Of the callers, where they were learnt."""
        return None if self.before is None else habits(self.before.sums(metric))

    def wealth(self, metric: Metric) -> Floats:
        """Logarithm of the evidence of harm after each request."""
        return log_wealth(self.traffic, metric, self.candidates, self.habit(metric))


def canary(rng: Rng, kind: Kind, share: float, harm: Harm, requests: int) -> Canary:
    """Draw one."""
    candidates = candidate_cells(share)
    drawn = draw(rng, BEFORE + requests, kind.callers, harm).answered(candidates, BEFORE)
    return Canary(drawn.part(BEFORE, BEFORE + requests), candidates, drawn.part(0, BEFORE) if kind.habits else None)


def alarms(runs: int, requests: int, seed: int, say: Say) -> bool:
    """Print how often versions that are alike are told apart; whether ours keeps its word."""
    say(
        f"\nfalse aborts: {runs:,} runs a row, one step, looked at after each of {requests:,} requests, three metrics\n"
    )
    say("| traffic | share | ours, alpha 1 % | ours, alpha 10 % | as if independent, 1 % | z-test, 1 % |")
    say("| --- | ---: | ---: | ---: | ---: | ---: |")
    z = NormalDist().inv_cdf(1 - ALPHA / len(METRICS))
    kept = True
    for kind in KINDS:
        for share in (min(SHARES), max(SHARES)):
            rng = np.random.default_rng([seed, kind.callers, candidate_cells(share)])
            found = np.array([_alarms(canary(rng, kind, share, kind.harm, requests)) for _ in range(runs)])
            ours, alone, looked = found.max(axis=1).T
            rates = [(ours >= _needed(alpha)).mean() for alpha in (ALPHA, 10 * ALPHA)]
            rates += [(alone >= _needed(ALPHA)).mean(), (looked >= z).mean()]
            kept = kept and bool(rates[0] <= ALPHA and rates[1] <= 10 * ALPHA)
            say(f"| {kind.name} | {share:.0%} | " + " | ".join(f"{rate:.1%}" for rate in rates) + " |")
    return kept


def shadow_alarms(runs: int, requests: int, seed: int, say: Say) -> bool:
    """The same of the shadow stage, in which both versions answer; a test that is not looked at as often."""
    say(f"\nfalse aborts of a shadow: {runs:,} runs a row, looked at whenever 2 % more of {requests:,} have come in\n")
    say("| traffic | alpha 1 % | alpha 10 % |")
    say("| --- | ---: | ---: |")
    kept = True
    for kind in KINDS[:3]:
        rng = np.random.default_rng([seed, kind.callers])
        found = np.array([_shadow_alarm(draw(rng, requests, kind.callers)) for _ in range(runs)])
        rates = [float((found >= -math.log(alpha / 2)).mean()) for alpha in (ALPHA, 10 * ALPHA)]
        kept = kept and rates[0] <= ALPHA and rates[1] <= 10 * ALPHA
        say(f"| {kind.name} | " + " | ".join(f"{rate:.1%}" for rate in rates) + " |")
    return kept


def _shadow_alarm(drawn: Requests) -> float:
    """Largest of all times and of both metrics."""
    both = Traffic(drawn.cells, drawn.candidate), Traffic(drawn.cells, drawn.champion)
    largest, at = -math.inf, 100
    while at < len(drawn.cells):
        at = min(len(drawn.cells), int(1.02 * at))
        for metric in ("errors", "confidence"):
            candidate, champion = (version.part(0, at).sums(metric) for version in both)
            largest = max(largest, pairs(candidate, champion).log_evidence)
    return largest


def _alarms(drawn: Canary) -> list[list[float]]:
    """Largest of all times of the three tests, for each metric."""
    return [
        [
            float(drawn.wealth(metric).max()),
            float(log_wealth_alone(drawn.traffic, metric, drawn.candidates).max()),
            float(z_scores(drawn.traffic, metric, drawn.candidates).max()),
        ]
        for metric in METRICS
    ]


def _needed(alpha: float) -> float:
    """Of the logarithm of the wealth, for one of the metrics."""
    return -math.log(alpha / len(METRICS))


def detections(runs: int, requests: int, seed: int, say: Say) -> None:
    """Print after how many answers of the candidate harms are found."""
    say(f"\ndetections: {runs:,} runs a cell, at most {requests:,} requests, alpha of one stage of the whole 1 %\n")
    say("Answers of the candidate until it is aborted: median (nine of ten need less), or the share that is found\n")
    say("| harm | traffic | " + " | ".join(f"share {share:.0%}" for share in SHARES) + " |")
    say("| --- | --- |" + " ---: |" * len(SHARES))
    for name, (metric, harm) in HARMS.items():
        for kind in KINDS[:2]:
            rng = np.random.default_rng([seed, kind.callers, len(name)])
            cells = []
            for share in SHARES:
                found = [_detected(canary(rng, kind, share, harm, requests), metric) for _ in range(runs)]
                cells.append(_told(found))
            say(f"| {name} | {kind.name} | " + " | ".join(cells) + " |")


def _detected(drawn: Canary, metric: Metric) -> float:
    """Answers of the candidate until then; infinite: never."""
    above = np.flatnonzero(drawn.wealth(metric) >= -math.log(STAGE_ALPHA))
    return float((drawn.traffic.cells[: above[0] + 1] < drawn.candidates).sum()) if above.size else math.inf


def _told(found: Sequence[float]) -> str:
    median, most = np.quantile(found, [0.5, 0.9], method="inverted_cdf")
    if math.isfinite(most):
        return f"{median:,.0f} ({most:,.0f})"
    share = f"{np.isfinite(found).mean():.0%} found"
    return f"{median:,.0f} ({share})" if math.isfinite(median) else share


def clearances(runs: int, requests: int, seed: int, say: Say) -> bool:
    """Print how often each step rules out what it should; whether a harm that is there is seldom ruled out."""
    say(f"\nclearances: {runs:,} runs a cell, looked at whenever 2 % more of {requests:,} requests have come in\n")
    say("| step | metric | traffic | harm is there: ruled out | no harm: answers of the candidate until ruled out |")
    say("| --- | --- | --- | ---: | ---: |")
    kept = True
    for step in POLICY.canary:
        for metric in METRICS:
            margin = step.rules_out * POLICY.limits.of(metric)
            harm = Harm(**{metric: margin})
            for kind in KINDS[:2]:
                rng = np.random.default_rng([seed, kind.callers, candidate_cells(step.share)])
                wrong, right = (
                    [_cleared(canary(rng, kind, step.share, one, requests), metric, margin) for _ in range(runs)]
                    for one in (harm, NONE)
                )
                rate = float(np.isfinite(wrong).mean())
                # Of a rate that is right, as many runs as these seldom show more.
                kept = kept and rate <= POLICY.doubt + 2.5 * math.sqrt(POLICY.doubt / runs)
                what = f"{step.share:.0%}, rules out {step.rules_out:g} × the limit"
                say(f"| {what} | {metric} | {kind.name} | {rate:.1%} | {_told(right)} |")
    return kept


def _cleared(drawn: Canary, metric: Metric, margin: float) -> float:
    """Answers of the candidate until a harm of the margin is ruled out; infinite: never."""
    n, sums, at = np.zeros(CELLS), np.zeros(CELLS), 0
    habit, requests = drawn.habit(metric), len(drawn.traffic.cells)
    while at < requests:
        end = min(requests, max(at + 100, int(1.02 * at)))
        more = drawn.traffic.part(at, end).sums(metric)
        n, sums, at = n + more.answers, sums + more.sums, end
        found = two_arms(Sums(n, sums), drawn.candidates, habit, own_spread=metric != "errors")
        if found.answers >= 100 and upper_bound(found, margin, REACH[metric], POLICY.doubt) < margin:
            return float(found.answers)
    return math.inf


def whole(runs: int, requests: int, seed: int, say: Say) -> bool:
    """Print how rollouts end; whether few are aborted where nothing is wrong."""
    say(f"\nwhole rollouts: {runs:,} runs a row, the policy as it comes, at most {requests:,} requests, 100 a minute\n")
    say("| candidate | traffic | through | aborted | undecided | requests | of them by the candidate, for callers |")
    say("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    kept = True
    equal: dict[str, tuple[Metric, Harm]] = {"as good as the champion": ("errors", NONE)}
    for name, (_, harm) in (equal | dict(HARMS)).items():
        for kind in KINDS[:2]:
            rng = np.random.default_rng([seed, kind.callers, len(name)])
            ends = [roll_out(draw(rng, requests, kind.callers, harm), POLICY) for _ in range(runs)]
            shares = [np.mean([end.phase == phase for end in ends]) for phase in ("finishing", "aborted", "undecided")]
            kept = kept and (harm != NONE or bool(shares[1] <= 2 * ALPHA))
            taken, answered = (np.median([end[column] for end in ends]) for column in (1, 2))
            told = " | ".join(f"{share:.0%}" for share in shares)
            say(f"| {name} | {kind.name} | {told} | {taken:,.0f} | {answered:,.0f} |")
    return kept


# Of each table: runs and requests of a whole measurement.
TABLES: Final[Mapping[str, tuple[Callable[[int, int, int, Say], bool | None], int, int]]] = {
    "alarms": (alarms, 500, REQUESTS),
    "shadow": (shadow_alarms, 500, 10_000),
    "detections": (detections, 50, REQUESTS),
    "clearances": (clearances, 100, 40_000),
    "whole": (whole, 50, REQUESTS),
}


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    parser.add_argument("--runs", type=int, help="of each row or cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="two short runs; proves nothing")
    options = parser.parse_args(given)
    fine = True
    _say(f"{datetime.now(UTC):%d %B %Y}, alpha {ALPHA:.0%}, doubt {POLICY.doubt:.0%}, seed {options.seed}")
    for name, (table, runs, requests) in TABLES.items():
        if options.only in (None, name):
            how_many = (2, 1000) if options.smoke else (options.runs or runs, requests)
            fine = table(*how_many, options.seed, _say) is not False and fine
    if not options.smoke:
        _say(f"\nas promised: {'✓' if fine else '✗'}")
    return 0 if fine or options.smoke else 1


def _say(line: str) -> None:
    """At once: a whole run takes long."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

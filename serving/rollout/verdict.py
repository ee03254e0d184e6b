"""What the evidence of a stage says about each metric: harm, ruled out, or neither yet.

    for finding in of_canary(evidence, share, step, policy, alpha):
        finding.harm, finding.ruled_out, finding.told

Three metrics share one stage's alpha; harm in any of them aborts. `doubt` is not shared: a stage goes on only where all
of them say that the harm is ruled out.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

from serving.rollout.assignment import candidate_cells
from serving.rollout.cells import METRICS, Metric
from serving.rollout.evidence import Evidence
from serving.rollout.policy import RolloutPolicy, Stage
from serving.rollout.sequential import Contrast, habits, pairs, two_arms, upper_bound

# In the shadow the candidate answers when nobody waits: how long it takes then says little.
_OF_SHADOW: Final[tuple[Metric, ...]] = ("errors", "confidence")
# What the most harmful request adds: it fails; it takes ten times as long; its confidence falls from 1 to 0.
REACH: Final[dict[Metric, float]] = {"errors": 1.0, "latency": math.log(10), "confidence": 1.0}
_MEANINGLESS: Final = 10.0


@dataclass(frozen=True)
class Finding:
    """What was found out about one metric, in its unit: share of requests, natural logarithm of a ratio, confidence.

    Attributes:
        answers: of the candidate.
        callers: cells of callers that they come from, which is what evidence comes from.
        difference: candidate minus champion; more is worse.
        at_most: bound of the difference.
        limit: smallest difference that matters.
        to_rule_out: what this stage has to exclude.
        chance: of so much evidence of harm at any time, if the versions were alike: at most this.
        harm: worse, and not shown to be worse by less than what matters.
    """

    metric: Metric
    answers: int
    callers: int
    difference: float
    at_most: float
    limit: float
    to_rule_out: float
    chance: float
    harm: bool

    @property
    def ruled_out(self) -> bool:
        """Whether the stage may go on, as far as this metric is concerned."""
        return self.at_most < self.to_rule_out

    @property
    def told(self) -> str:
        """In words."""
        if not self.answers:
            return f"{self.metric}: nothing yet to compare"
        difference, at_most, wanted = (
            _told(self.metric, number) for number in (self.difference, self.at_most, self.to_rule_out)
        )
        return f"{self.metric} {difference}, at worst {at_most}, to be ruled out {wanted}"

    def to_json(self) -> dict[str, Any]:
        """JSON-able; a bound that is infinite is None."""
        numbers = {name: getattr(self, name) for name in ("difference", "at_most", "limit", "to_rule_out", "chance")}
        finite = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        counts = {"metric": self.metric, "answers": self.answers, "callers": self.callers}
        return {**counts, **finite, "harm": self.harm, "ruled_out": self.ruled_out, "told": self.told}


def of_canary(
    evidence: Evidence, share: float, stage: Stage, policy: RolloutPolicy, alpha: float
) -> tuple[Finding, ...]:
    """Compare callers of the candidate with callers of the champion.

    Args:
        share: of the callers, that the candidate answers.
        alpha: of this stage.
    """
    findings = []
    for metric in METRICS:
        habit = None if evidence.before is None else habits(evidence.before.of(metric))
        data = evidence.cells.of(metric)
        found = two_arms(data, candidate_cells(share), habit, own_spread=metric != "errors")
        findings.append(_finding(metric, found, stage, policy, alpha / len(METRICS)))
    return tuple(findings)


def of_shadow(evidence: Evidence, stage: Stage, policy: RolloutPolicy, alpha: float) -> tuple[Finding, ...]:
    """Compare two answers to the same requests.

    Args:
        alpha: of this stage.
    """
    candidate, champion = evidence.twice
    return tuple(
        _finding(metric, pairs(candidate.of(metric), champion.of(metric)), stage, policy, alpha / len(_OF_SHADOW))
        for metric in _OF_SHADOW
    )


def _finding(metric: Metric, found: Contrast, stage: Stage, policy: RolloutPolicy, alpha: float) -> Finding:
    limit, reach = policy.limits.of(metric), REACH[metric]
    worse = found.log_evidence >= -math.log(alpha)
    return Finding(
        metric=metric,
        answers=found.answers,
        callers=found.callers,
        difference=found.difference,
        at_most=upper_bound(found, stage.rules_out * limit, reach, policy.doubt),
        limit=limit,
        to_rule_out=stage.rules_out * limit,
        chance=min(1.0, math.exp(-max(0.0, found.log_evidence))),
        harm=worse and upper_bound(found, limit, reach, policy.doubt) >= limit,
    )


def _told(metric: Metric, number: float) -> str:
    # Bounds of a handful of answers are of no meaning, and of any size.
    if number > _MEANINGLESS:
        return "unknown"
    if metric == "latency":
        return f"× {math.exp(number):.2f}"
    return f"{100 * number:+.2f} %" if metric == "errors" else f"{-number:+.3f}"

"""What `rollout status` tells, as JSON-able values.

told = status(rollout, evidence, policy_file, now)
told["phase"], told["waiting"], told["findings"], told["routes"]["canary"]["latency_ms"]["p95"]
"""

import math
from datetime import datetime
from typing import Any

from serving.rollout.evidence import Counters, Evidence
from serving.rollout.policy import PolicyFile
from serving.rollout.sketch import Sketch
from serving.rollout.state import Rollout
from serving.rollout.transitions import judge, waiting


def status(
    rollout: Rollout | None, evidence: Evidence | None, policy_file: PolicyFile, now: datetime
) -> dict[str, Any]:
    """Everything that a person wants to know before deciding.

    Args:
        rollout: None: idle.
        evidence: of its epoch; of another one, or None: nothing was seen yet.
    """
    policy = policy_file.current()
    told: dict[str, Any] = {"phase": "idle", "policy_error": policy_file.error}
    if rollout is None:
        return told
    told |= rollout.to_json()
    if not rollout.active:
        return told | _seen(evidence) if evidence and evidence.epoch.rollout == rollout.id else told
    if evidence is None or evidence.epoch != rollout.assignment.epoch:
        evidence = Evidence(rollout.assignment.epoch)
    told["minutes"] = (now - rollout.since).total_seconds() / 60
    told["waiting"] = [] if rollout.phase == "finishing" else list(waiting(rollout, evidence, policy, now))
    told["findings"] = [finding.to_json() for finding in judge(rollout, evidence, policy)]
    return told | _seen(evidence)


def _seen(evidence: Evidence) -> dict[str, Any]:
    agreement = _of_sketch(evidence.agreement) | {"smallest": _finite(evidence.agreement.smallest)}
    return {
        "routes": {route: _of_route(counters) for route, counters in evidence.routes.items()},
        "agreement": agreement,
    }


def _of_route(counters: Counters) -> dict[str, Any]:
    return {
        "requests": counters.requests,
        "errors": counters.errors,
        "latency_ms": _of_sketch(counters.latency),
        "confidence": _of_sketch(counters.confidence),
    }


def _of_sketch(sketch: Sketch) -> dict[str, Any]:
    quantiles = {f"p{round(100 * q)}": _finite(sketch.quantile(q)) for q in (0.05, 0.5, 0.95, 0.99)}
    return {"count": sketch.count, "mean": _finite(sketch.mean), **quantiles}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None

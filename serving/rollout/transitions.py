"""What becomes of a rollout: pure functions of what it is, what was seen, what the policy says, and the time.

    move = start(None, champion, candidate, policy, now, uuid4().hex)
    move = advance(move.rollout, evidence, policy, now, champion, candidate)     # every second or so
    move = abort(move.rollout, now, "by ada: the masks look odd")
    move = finish(move.rollout, now, "by ada")
    for effect in move.effects: …

Each change notes its reason in words. Nothing here touches a file, a clock or a server.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NoReturn

from serving.rollout.evidence import Evidence
from serving.rollout.policy import RolloutPolicy, Stage
from serving.rollout.state import (
    Alert,
    Ask,
    Direct,
    Effect,
    Event,
    Move,
    Phase,
    Promote,
    Rollout,
    RolloutError,
    Version,
)
from serving.rollout.verdict import Finding, of_canary, of_shadow

# Where a policy was given a smaller alpha than is already spent: of it, what is left to see disasters with.
_LEAST_ALPHA: Final = 0.01


def start(
    current: Rollout | None,
    champion: Version | None,
    candidate: Version | None,
    policy: RolloutPolicy,
    now: datetime,
    new_id: str,
    reason: str = "",
) -> Move:
    """Begin a rollout.

    Args:
        current: the one before it, if any.
        champion, candidate: what is in Production and in Staging.
        new_id: one that no rollout had yet.
        reason: who wants that, and why.

    Raises:
        RolloutError: one is going on, or there is nothing to roll out.
    """
    if current is not None and current.active:
        refuse_second(current)
    if champion is None or candidate is None:
        stage = "Staging" if candidate is None else "Production"
        raise RolloutError(f"no version is in {stage}, so there is nothing to compare: promote one there first")
    if champion.digest == candidate.digest:
        raise RolloutError(
            f"version {candidate.number} holds the same bytes as Production: there is nothing to roll out"
        )
    shadow = policy.shadow.share > 0
    first = Rollout(
        id=new_id,
        sticky=policy.sticky,
        champion=champion,
        candidate=candidate,
        phase="shadow" if shadow else "canary",
        step=0,
        canary=0.0,
        shadow=0.0,
        epoch=0,
        since=now,
        alpha=0.0,
        spent=0.0,
        promoting=False,
        refused=False,
        asked=False,
        events=(),
    )
    told = f"version {candidate.number} is rolled out beside version {champion.number}{reason and ', '}{reason}"
    return _enter(first, first.phase, 0, policy, now, told)


def refuse_second(current: Rollout) -> NoReturn:
    """Say that a rollout is going on.

    Raises:
        RolloutError: always.
    """
    raise RolloutError(
        f"version {current.candidate.number} is being rolled out ({current.phase}): "
        "end that with `rollout abort` or `rollout finish` first"
    )


def advance(
    rollout: Rollout,
    evidence: Evidence,
    policy: RolloutPolicy,
    now: datetime,
    champion: Version | None,
    candidate: Version | None,
) -> Move:
    """Look at everything, and change what has to be changed; at most one step at a time.

    Args:
        evidence: of all workers.
        champion, candidate: what is in Production and in Staging now.
    """
    if not rollout.active:
        return Move(rollout, ())
    ended = superseded(rollout, now, champion, candidate)
    if ended is not None:
        return ended
    if evidence.epoch != rollout.assignment.epoch:
        return Move(rollout, ())
    findings = judge(rollout, evidence, policy)
    harm = [finding.told for finding in findings if finding.harm]
    if harm:
        return _end(rollout, "aborted", now, f"version {rollout.candidate.number} does harm: {'; '.join(harm)}")
    if rollout.phase == "finishing":
        return _promote_by_itself(rollout, policy, now)
    if rollout.phase == "shadow" and policy.shadow.share == 0:
        return _enter(rollout, "canary", 0, policy, now, "the policy leaves the shadow out")
    if _changed_share(rollout, policy):
        told = "the policy gives this stage another share; what was seen before does not count for it"
        return _enter(rollout, rollout.phase, rollout.step, policy, now, told)
    waits = waiting(rollout, evidence, policy, now)
    if waits:
        return _ask_when_late(rollout, policy, now, waits)
    told = "; ".join(finding.told for finding in findings)
    if rollout.phase == "shadow":
        return _enter(rollout, "canary", 0, policy, now, f"{told}; {evidence.told_agreement}")
    if rollout.step + 1 < len(policy.canary):
        return _enter(rollout, "canary", rollout.step + 1, policy, now, told)
    finishing = replace(rollout, phase="finishing", asked=False)
    if policy.finish.promote:
        return _promote_by_itself(finishing, policy, now)
    return _ask(
        finishing, now, f"all stages are through ({told}): `rollout finish` promotes it, `rollout abort` does not"
    )


def abort(rollout: Rollout | None, now: datetime, reason: str) -> Move:
    """End a rollout: the champion answers everybody.

    Args:
        reason: who wants that, and why.

    Raises:
        RolloutError: none is going on.
    """
    return _end(_going_on(rollout), "aborted", now, reason)


def finish(rollout: Rollout | None, now: datetime, reason: str) -> Move:
    """Promote now, whatever evidence there is; the registry's gates still have their say, and the canary goes on.

    Raises:
        RolloutError: none is going on.
    """
    return _promote(replace(_going_on(rollout), phase="finishing"), now, reason)


def refused(rollout: Rollout, now: datetime, reason: str) -> Move:
    """The registry did not promote: the canary goes on, and a person is asked.

    Args:
        reason: what the registry said.
    """
    if not rollout.active:
        return Move(rollout, ())
    return _ask(replace(rollout, promoting=False, refused=True), now, f"the registry did not promote it: {reason}")


def crashed(rollout: Rollout, now: datetime, most: int) -> Move:
    """The gateway ended without saying so while the candidate answered callers; it may be the cause.

    Args:
        most: so often the candidate is taken to be it.
    """
    again = replace(rollout, crashes=rollout.crashes + 1)
    told = "the gateway ended without saying so while this version answered callers"
    if again.crashes >= most:
        return _end(again, "aborted", now, f"{told}, {again.crashes} times")
    return Move(replace(again, events=again.noted(now, f"{told}; it goes on")), ())


def resume(rollout: Rollout | None) -> tuple[Effect, ...]:
    """What has to be done, or done again, by a process that has just read the rollout from its file."""
    if rollout is None or not rollout.active:
        return ()
    promote = (Promote(rollout.candidate, rollout.reason),) if rollout.promoting else ()
    return (Direct(rollout.assignment), *promote)


def judge(rollout: Rollout, evidence: Evidence, policy: RolloutPolicy) -> tuple[Finding, ...]:
    """What the evidence of the stage says."""
    stage = _stage(rollout, policy)
    if rollout.phase == "shadow":
        return of_shadow(evidence, stage, policy, rollout.alpha)
    if rollout.canary == 0:  # finished by hand out of the shadow stage
        return ()
    return of_canary(evidence, rollout.canary, stage, policy, rollout.alpha)


def waiting(rollout: Rollout, evidence: Evidence, policy: RolloutPolicy, now: datetime) -> tuple[str, ...]:
    """What the stage still waits for, in words; empty: it is through."""
    stage = _stage(rollout, policy)
    answers = evidence.routes["shadow" if rollout.phase == "shadow" else "canary"].requests
    minutes = (now - rollout.since).total_seconds() / 60
    waits = []
    if answers < stage.requests:
        waits.append(f"{answers} of {stage.requests} answers of the candidate")
    if minutes < stage.minutes:
        waits.append(f"{minutes:.0f} of {stage.minutes:g} minutes")
    return (*waits, *(finding.told for finding in judge(rollout, evidence, policy) if not finding.ruled_out))


def _stage(rollout: Rollout, policy: RolloutPolicy) -> Stage:
    """The policy's words on where the rollout is; a policy that lost steps has its last one for those."""
    if rollout.phase == "shadow":
        return policy.shadow
    return policy.canary[min(rollout.step, len(policy.canary) - 1)]


def _changed_share(rollout: Rollout, policy: RolloutPolicy) -> bool:
    if rollout.phase == "shadow":
        return policy.shadow.share != rollout.shadow
    return policy.canary[min(rollout.step, len(policy.canary) - 1)].share != rollout.canary


def superseded(rollout: Rollout, now: datetime, champion: Version | None, candidate: Version | None) -> Move | None:
    """The end of a rollout that is no longer about what it was; evidence is never carried over to other bytes.

    Args:
        champion, candidate: what is in Production and in Staging now.

    Returns:
        None where it is what it was.
    """
    if champion is not None and champion.digest == rollout.candidate.digest:
        return _end(rollout, "finished", now, f"version {rollout.candidate.number} is in Production")
    for stage, was, is_now in (("Production", rollout.champion, champion), ("Staging", rollout.candidate, candidate)):
        if is_now is None:
            return _end(rollout, "superseded", now, f"version {was.number} is no longer in {stage}, and no other is")
        if is_now.digest != was.digest:
            told = f"version {is_now.number} is in {stage} instead of version {was.number}, or with other bytes"
            return _end(rollout, "superseded", now, f"{told}: what was seen says nothing about it")
    return None


def _enter(rollout: Rollout, phase: Phase, step: int, policy: RolloutPolicy, now: datetime, told: str) -> Move:
    """Begin a stage, without evidence and with its part of alpha."""
    step = min(step, len(policy.canary) - 1)
    canary = policy.canary[step].share if phase == "canary" else 0.0
    shadow = policy.shadow.share if phase == "shadow" else 0.0
    stages_left = policy.stages if phase == "shadow" else len(policy.canary) - step
    left = policy.alpha - rollout.spent
    # One part more than there are stages, so that a stage which begins anew has something left.
    alpha = (left if left > 0 else policy.alpha * _LEAST_ALPHA) / (stages_left + 1)
    entered = replace(
        rollout,
        phase=phase,
        step=step,
        canary=canary,
        shadow=shadow,
        epoch=rollout.epoch + 1,
        since=now,
        alpha=alpha,
        spent=rollout.spent + alpha,
        asked=False,
    )
    share = f"{canary or shadow:.2%}".replace("%", " %")
    what = f"of the callers, step {step + 1} of {len(policy.canary)}" if canary else "of the requests, for nobody"
    entered = replace(entered, events=entered.noted(now, f"{told}; it answers {share} {what}"))
    return Move(entered, (Direct(entered.assignment),))


def _end(rollout: Rollout, phase: Phase, now: datetime, reason: str) -> Move:
    """The champion answers everybody; who that is now is not for here to say."""
    ended = replace(
        rollout, phase=phase, canary=0.0, shadow=0.0, epoch=rollout.epoch + 1, since=now, promoting=False, asked=False
    )
    ended = replace(ended, events=(*rollout.events, Event(now, phase, reason)))
    return Move(
        ended, (Direct(ended.assignment), Alert(f"rollout of version {rollout.candidate.number} {phase}: {reason}"))
    )


def _promote_by_itself(rollout: Rollout, policy: RolloutPolicy, now: datetime) -> Move:
    """Once: what the registry refused is for a person."""
    if rollout.promoting or rollout.refused or not policy.finish.promote:
        return Move(rollout, ())
    return _promote(rollout, now, "all stages are through, and the policy says to promote")


def _promote(rollout: Rollout, now: datetime, reason: str) -> Move:
    moved = replace(rollout, promoting=True, refused=False, asked=False, events=rollout.noted(now, reason))
    return Move(moved, (Promote(moved.candidate, reason),))


def _ask_when_late(rollout: Rollout, policy: RolloutPolicy, now: datetime, waits: tuple[str, ...]) -> Move:
    if rollout.asked or now - rollout.since < timedelta(hours=policy.finish.patience_hours):
        return Move(rollout, ())
    return _ask(rollout, now, f"undecided for {policy.finish.patience_hours:g} hours: {'; '.join(waits)}")


def _ask(rollout: Rollout, now: datetime, reason: str) -> Move:
    asked = replace(rollout, asked=True, events=rollout.noted(now, reason))
    return Move(asked, (Ask(f"rollout of version {rollout.candidate.number}: {reason}"),))


def _going_on(rollout: Rollout | None) -> Rollout:
    if rollout is None or not rollout.active:
        raise RolloutError("no rollout is going on: `rollout start` begins one")
    return rollout

"""What becomes of a rollout: on, step by step, as evidence comes in, and back at once where it does harm."""

import json
import math
from dataclasses import replace
from datetime import timedelta

import pytest
from rollout_scene import (
    BY_ITSELF,
    CANDIDATE,
    CHAMPION,
    NOON,
    OTHER,
    POLICY,
    TEXT,
    begun,
    in_last_step,
    later,
    seen,
    through,
)

from serving.rollout.assignment import Epoch
from serving.rollout.evidence import Evidence
from serving.rollout.policy import RolloutPolicy, parse_rollout_policy
from serving.rollout.state import Alert, Ask, Direct, Move, Promote, Rollout, RolloutError, Version
from serving.rollout.transitions import abort, advance, finish, judge, refused, resume, start, waiting


def look(rollout: Rollout, evidence: Evidence, minutes: float = 61, policy: RolloutPolicy = POLICY) -> Move:
    return advance(rollout, evidence, policy, rollout.since + timedelta(minutes=minutes), CHAMPION, CANDIDATE)


def test_a_rollout_begins_in_the_shadow_and_tells_the_workers() -> None:
    move = start(None, CHAMPION, CANDIDATE, POLICY, NOON, "r1")
    assert (move.rollout.phase, move.rollout.shadow, move.rollout.canary) == ("shadow", 0.1, 0.0)
    assert move.effects == (Direct(move.rollout.assignment),)
    assert move.rollout.assignment.epoch == Epoch("r1", 1)
    assert (
        move.rollout.reason
        == "version 2 is rolled out beside version 1; it answers 10.00 % of the requests, for nobody"
    )


def test_without_a_shadow_it_begins_with_the_first_step() -> None:
    rollout = begun(parse_rollout_policy(TEXT.replace("share: 0.1,", "share: 0,")))
    assert (rollout.phase, rollout.canary, rollout.shadow) == ("canary", 0.01, 0.0)


def test_it_goes_through_every_stage_to_a_person() -> None:
    rollout, told = begun(), []
    for _ in range(4):
        told.append((rollout.phase, rollout.canary, rollout.epoch))
        move = look(rollout, seen(rollout))
        rollout = move.rollout
    assert rollout.phase == "finishing"
    assert told == [("shadow", 0.0, 1), ("canary", 0.01, 2), ("canary", 0.25, 3), ("canary", 0.5, 4)]
    # The canary goes on while a person thinks.
    assert (rollout.canary, rollout.epoch) == (0.5, 4)
    assert [type(effect) for effect in move.effects] == [Ask]
    assert "`rollout finish` promotes it" in rollout.reason
    assert len(rollout.events) == 5 and all(event.reason for event in rollout.events)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("missing", ["requests", "minutes", "evidence"])
def test_each_stage_waits_for_requests_and_minutes_and_evidence(stage: int, missing: str) -> None:
    rollout = begun()
    for _ in range(stage):
        rollout = through(rollout)
    evidence = seen(rollout, 40_000)
    if missing == "requests":
        route = "shadow" if rollout.phase == "shadow" else "canary"
        evidence.routes[route].requests = [500, 100, 500, 1000][stage] - 1
    elif missing == "evidence":
        evidence = replace(Evidence(rollout.assignment.epoch), routes=evidence.routes)
    minutes = [10, 10, 20, 60][stage] - (missing == "minutes")
    move = look(rollout, evidence, minutes)
    assert move == Move(rollout, ())
    now = rollout.since + timedelta(minutes=minutes)
    waits = " ".join(waiting(rollout, evidence, POLICY, now))
    assert {"requests": "answers of the candidate", "minutes": "minutes", "evidence": "errors"}[missing] in waits
    assert look(rollout, seen(rollout), [10, 10, 20, 60][stage]).rollout.epoch == rollout.epoch + (stage < 3)


HARMS = {"errors": {"failing": 0.2}, "latency": {"slower": 0.5}, "confidence": {"drop": 0.1}}


@pytest.mark.parametrize("metric", HARMS)
@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_harm_in_any_metric_and_any_step_aborts_at_once(metric: str, stage: int) -> None:
    rollout = begun()
    for _ in range(stage):
        rollout = through(rollout)
    move = look(rollout, seen(rollout, **HARMS[metric]), minutes=0.1)
    assert (move.rollout.phase, move.rollout.canary, move.rollout.shadow) == ("aborted", 0.0, 0.0)
    assert move.rollout.reason.startswith(f"version 2 does harm: {metric} ")
    direct, alert = move.effects
    assert direct == Direct(move.rollout.assignment) and move.rollout.epoch == rollout.epoch + 1
    assert isinstance(alert, Alert) and "rollout of version 2 aborted: " in alert.reason


@pytest.mark.parametrize("harm", [{"failing": 0.2}, {"drop": 0.1}], ids=["errors", "confidence"])
def test_harm_is_seen_in_the_shadow_where_nobody_is_harmed(harm: dict[str, float]) -> None:
    move = look(begun(), seen(begun(), 5000, **harm), minutes=0.1)
    assert move.rollout.phase == "aborted"
    assert all(event.phase != "canary" for event in move.rollout.events)


def test_worse_by_less_than_matters_is_no_reason_to_abort() -> None:
    """A hundredth slower: shown beyond doubt, and shown to be far from a fifth."""
    rollout = in_last_step()
    evidence = seen(rollout, 400_000, slower=0.02)
    (latency,) = [finding for finding in judge(rollout, evidence, POLICY) if finding.metric == "latency"]
    assert latency.chance < 1e-9 and not latency.harm and latency.at_most < math.log(1.05)
    assert look(rollout, evidence).rollout.phase == "finishing"


def test_evidence_of_other_shares_moves_nothing() -> None:
    earlier = through(begun())
    rollout = through(earlier)
    assert look(earlier, seen(earlier, failing=1.0)).rollout.phase == "aborted"
    assert look(rollout, seen(earlier, failing=1.0)) == look(rollout, seen(earlier)) == Move(rollout, ())


def test_alpha_is_shared_out_among_all_stages() -> None:
    rollout, spent = begun(), []
    for _ in range(4):
        spent.append(rollout.alpha)
        rollout = look(rollout, seen(rollout)).rollout
    assert spent == pytest.approx([0.002] * 4)
    assert rollout.spent == pytest.approx(sum(spent))
    assert rollout.spent < POLICY.alpha


def test_a_stage_that_begins_anew_again_and_again_never_spends_more_than_alpha() -> None:
    rollout = in_last_step()
    for share in [0.4, 0.5] * 20:
        policy = parse_rollout_policy(TEXT.replace("share: 0.50", f"share: {share}"))
        rollout = look(rollout, Evidence(rollout.assignment.epoch), policy=policy).rollout
        assert rollout.canary == share and rollout.alpha > 0
    assert rollout.spent < POLICY.alpha
    # A policy with less than is spent leaves just enough to see a disaster.
    policy = parse_rollout_policy(TEXT.replace("alpha: 0.01", "alpha: 0.001").replace("share: 0.50", "share: 0.6"))
    rollout = look(rollout, Evidence(rollout.assignment.epoch), policy=policy).rollout
    assert 0 < rollout.alpha < 1e-4
    assert look(rollout, seen(rollout, failing=1.0), policy=policy).rollout.phase == "aborted"


def test_a_share_that_the_policy_changes_holds_at_once_and_begins_without_evidence() -> None:
    rollout = through(begun())
    policy = parse_rollout_policy(TEXT.replace("share: 0.01", "share: 0.02"))
    move = look(rollout, seen(rollout), policy=policy)
    assert (move.rollout.canary, move.rollout.step, move.rollout.epoch) == (0.02, 0, rollout.epoch + 1)
    assert "the policy gives this stage another share" in move.rollout.reason
    assert move.effects == (Direct(move.rollout.assignment),)


def test_a_shadow_that_the_policy_leaves_out_ends_at_once() -> None:
    without = parse_rollout_policy(TEXT.replace("share: 0.1,", "share: 0,"))
    rollout = look(begun(), Evidence(begun().assignment.epoch), policy=without).rollout
    assert (rollout.phase, rollout.canary, rollout.shadow) == ("canary", 0.01, 0.0)
    more = parse_rollout_policy(TEXT.replace("share: 0.1,", "share: 0.2,"))
    rollout = look(begun(), seen(begun()), policy=more).rollout
    assert (rollout.phase, rollout.shadow, rollout.epoch) == ("shadow", 0.2, 2)


def test_a_policy_with_fewer_steps_ends_with_its_last_one() -> None:
    short = parse_rollout_policy(
        "\n".join(line for line in TEXT.splitlines() if "0.25" not in line and "0.50" not in line)
    )
    rollout = look(in_last_step(), Evidence(in_last_step().assignment.epoch), policy=short).rollout
    assert (rollout.canary, rollout.step) == (0.01, 0)
    assert look(rollout, seen(rollout), policy=short).rollout.phase == "finishing"


def test_other_limits_hold_for_what_was_already_seen() -> None:
    rollout = in_last_step()
    strict = parse_rollout_policy(TEXT.replace("latency_ratio: 1.2", "latency_ratio: 1.001"))
    evidence = seen(rollout, slower=0.02)
    assert look(rollout, evidence).rollout.phase == "finishing"
    assert look(rollout, evidence, policy=strict).rollout.phase == "aborted"


@pytest.mark.parametrize(
    ("champion", "candidate", "told"),
    [
        (OTHER, CANDIDATE, "version 3 is in Production instead of version 1"),
        (CHAMPION, OTHER, "version 3 is in Staging instead of version 2"),
        (CHAMPION, Version("2", "sha256:other"), "version 2 is in Staging instead of version 2, or with other bytes"),
        (CHAMPION, None, "version 2 is no longer in Staging"),
        (None, CANDIDATE, "version 1 is no longer in Production"),
    ],
)
@pytest.mark.parametrize("stage", [0, 2, 4])
def test_other_bytes_in_either_stage_end_it_as_superseded(
    champion: Version | None, candidate: Version | None, told: str, stage: int
) -> None:
    rollout = begun()
    for _ in range(stage):
        rollout = through(rollout)
    move = advance(rollout, seen(rollout), POLICY, later(500), champion, candidate)
    assert (move.rollout.phase, move.rollout.canary, move.rollout.shadow) == ("superseded", 0.0, 0.0)
    assert told in move.rollout.reason
    assert [type(effect) for effect in move.effects] == [Direct, Alert]


def test_evidence_does_not_outlive_what_it_is_about() -> None:
    rollout = in_last_step()
    evidence = seen(rollout)
    ended = advance(rollout, evidence, POLICY, later(500), CHAMPION, OTHER).rollout
    again = start(ended, CHAMPION, OTHER, POLICY, later(501), "r2").rollout
    carried = evidence.following(again.assignment.epoch)
    assert carried == Evidence(again.assignment.epoch)
    assert again.spent == pytest.approx(0.002) and again.epoch == 1


def test_promoted_by_whatever_way_it_is_finished() -> None:
    for rollout in (begun(), in_last_step(), through(in_last_step(BY_ITSELF), BY_ITSELF)):
        move = advance(rollout, seen(rollout), POLICY, later(500), CANDIDATE, None)
        assert (move.rollout.phase, move.rollout.canary) == ("finished", 0.0)
        assert move.rollout.reason == "version 2 is in Production"


def test_by_itself_it_is_promoted_once_and_only_where_the_policy_says_so() -> None:
    move = look(in_last_step(BY_ITSELF), seen(in_last_step(BY_ITSELF)), policy=BY_ITSELF)
    assert (move.rollout.phase, move.rollout.promoting) == ("finishing", True)
    assert [effect.version for effect in move.effects if isinstance(effect, Promote)] == [CANDIDATE]
    assert look(move.rollout, seen(move.rollout), policy=BY_ITSELF).effects == ()
    # A person was asked, and then the policy is changed.
    asked = through(in_last_step())
    assert look(asked, seen(asked)).effects == ()
    assert isinstance(look(asked, seen(asked), policy=BY_ITSELF).effects[0], Promote)


def test_what_the_registry_refuses_is_for_a_person_and_not_tried_again() -> None:
    promoting = through(in_last_step(BY_ITSELF), BY_ITSELF)
    move = refused(promoting, later(500), "gate slices: fail")
    assert (move.rollout.phase, move.rollout.canary, move.rollout.promoting) == ("finishing", 0.5, False)
    assert [type(effect) for effect in move.effects] == [Ask]
    assert "gate slices: fail" in move.effects[0].reason  # type: ignore[union-attr]
    assert look(move.rollout, seen(move.rollout), policy=BY_ITSELF).effects == ()
    # Until a person says so.
    assert isinstance(finish(move.rollout, later(501), "by ada").effects[0], Promote)


def test_while_it_waits_to_be_promoted_harm_still_aborts() -> None:
    waiting_for_a_person = through(in_last_step())
    assert waiting_for_a_person.phase == "finishing"
    move = look(waiting_for_a_person, seen(waiting_for_a_person, failing=0.2))
    assert move.rollout.phase == "aborted"


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_person_may_finish_or_abort_in_any_stage(stage: int) -> None:
    rollout = begun()
    for _ in range(stage):
        rollout = through(rollout)
    finishing = finish(rollout, later(500), "by ada: it is urgent")
    assert (finishing.rollout.phase, finishing.effects) == ("finishing", (Promote(CANDIDATE, "by ada: it is urgent"),))
    assert look(finishing.rollout, seen(finishing.rollout)).effects == ()
    aborted = abort(finishing.rollout, later(501), "by bob: it is not")
    assert (aborted.rollout.phase, aborted.rollout.reason) == ("aborted", "by bob: it is not")
    assert aborted.rollout.canary == 0 and isinstance(aborted.effects[0], Direct)


def test_what_is_undecided_for_too_long_asks_a_person_once() -> None:
    rollout = through(begun())
    few = seen(rollout, 1000)
    assert look(rollout, few, minutes=60 * 47).effects == ()
    move = look(rollout, few, minutes=60 * 48)
    assert isinstance(move.effects[0], Ask) and "undecided for 48 hours: 11 of 100 answers" in move.effects[0].reason
    assert look(move.rollout, few, minutes=60 * 49).effects == ()
    # And goes on by itself when there is something to see.
    assert look(move.rollout, seen(rollout), minutes=60 * 50).rollout.canary == 0.25


@pytest.mark.parametrize("requests", [0, 1, 150, 300, 450, 1000, 3000])
def test_however_little_was_seen_it_is_put_into_words(requests: int) -> None:
    """A bound of a handful of answers may be beyond what a ratio can be computed of."""
    rollout = through(begun())
    for finding in judge(rollout, seen(rollout, requests), POLICY):
        assert finding.told and not finding.harm
        assert json.dumps(finding.to_json(), allow_nan=False)
    enormous = replace(judge(rollout, seen(rollout), POLICY)[1], at_most=5000.0)
    assert enormous.metric == "latency" and "at worst unknown" in enormous.told


def test_only_one_rollout_goes_on_and_only_about_two_versions() -> None:
    with pytest.raises(RolloutError, match=r"version 2 is being rolled out \(shadow\): end that with `rollout abort`"):
        start(begun(), CHAMPION, OTHER, POLICY, NOON, "r2")
    with pytest.raises(RolloutError, match="no version is in Staging"):
        start(None, CHAMPION, None, POLICY, NOON, "r1")
    with pytest.raises(RolloutError, match="no version is in Production"):
        start(None, None, CANDIDATE, POLICY, NOON, "r1")
    with pytest.raises(RolloutError, match="version 5 holds the same bytes"):
        start(None, CHAMPION, Version("5", CHAMPION.digest), POLICY, NOON, "r1")
    ended = abort(begun(), NOON, "by ada").rollout
    assert start(ended, CHAMPION, CANDIDATE, POLICY, NOON, "r2").rollout.active
    for rollout in (None, ended):
        for end in (abort, finish):
            with pytest.raises(RolloutError, match="no rollout is going on"):
                end(rollout, NOON, "by ada")


def test_an_ended_rollout_stays_as_it_is() -> None:
    ended = abort(begun(), NOON, "by ada").rollout
    assert advance(ended, Evidence(ended.assignment.epoch), POLICY, later(1), OTHER, None) == Move(ended, ())
    assert refused(ended, NOON, "late") == Move(ended, ())
    assert resume(ended) == resume(None) == ()


def test_a_process_that_starts_again_does_what_the_one_before_it_was_to_do() -> None:
    promoting = through(in_last_step(BY_ITSELF), BY_ITSELF)
    assert resume(promoting) == (Direct(promoting.assignment), Promote(CANDIDATE, promoting.reason))
    assert resume(begun()) == (Direct(begun().assignment),)


def test_stickiness_is_that_of_the_beginning() -> None:
    """Else a change of the policy would move callers between versions."""
    moved = parse_rollout_policy(TEXT + "sticky: request\n")
    rollout = look(begun(), seen(begun()), policy=moved).rollout
    assert (rollout.phase, rollout.assignment.sticky) == ("canary", "client")
    assert begun(moved).assignment.sticky == "request"


@pytest.mark.parametrize("stage", range(5))
def test_a_rollout_is_written_and_read_back(stage: int) -> None:
    rollout = begun()
    for _ in range(stage):
        rollout = through(rollout)
    assert Rollout.from_json(json.loads(json.dumps(rollout.to_json()))) == rollout


def test_a_rollout_of_many_events_keeps_the_latest() -> None:
    rollout = begun()
    for number in range(300):
        rollout = refused(rollout, NOON, f"number {number}").rollout
    assert len(rollout.events) == 100 and rollout.reason.endswith("number 299")

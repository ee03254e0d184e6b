"""From the records and a policy to a judgement: what evidence counts, what blocks, and what is written down."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from gate_evidence import contract, dependencies, evidence, lineage, overlap, performance, scores, version
from sqlalchemy import Engine

from records import approvals, verdicts
from records.database import open_database
from records.evidence import Measured, keep
from registry.evidence import Document, Evaluation, Evidence, Performance
from registry.evidence.documents import SCORES
from registry.gates import Gate, GateSettings, Verdict
from registry.judgement import Judgement, judge, refusal, with_documents
from registry.judgement import keep as keep_judgement
from registry.policy import Policy, Rule, parse_policy

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NOISE = np.random.default_rng(0).normal(0, 0.02, 60)
NOISE -= NOISE.mean()
LIVE = scores([0.85] * 60)
OURS = scores(list(0.842 + NOISE))


@pytest.fixture
def records(tmp_path: Path) -> Engine:
    return open_database(f"sqlite:///{tmp_path / 'records.db'}")


def measure(
    records: Engine, number: str, document: Document | Evaluation, *, beside: str = "", by: str = "grace"
) -> None:
    """Keep a document of version `number`, whose digest is sha256:number."""
    measured = Measured(
        version_digest=f"sha256:{number}",
        kind=SCORES if isinstance(document, Evaluation) else document.kind,
        content=document.model_dump_json(),
        measured_by=by,
        measured_at=NOW,
        fingerprint=getattr(document, "fingerprint", ""),
        champion_digest=beside,
    )
    keep(records, measured)


def asked(champion: str = "5", stage: str = "Production", test: Evaluation = OURS) -> Evidence:
    """Version 7, tested on `test`'s images, before a stage; nothing of the records yet."""
    live = version(champion) if champion else None
    return replace(evidence(champion=live, stage=stage), candidate=version("7", evaluation=test))


def policy(*gates: str, more: str = "") -> Policy:
    lines = "".join(f"    {gate}\n" for gate in gates)
    return parse_policy(f"format: 1\nstages:\n  Production:\n{lines}{more}")


def outcomes(judgement: Judgement) -> dict[str, str]:
    return {one.gate: one.verdict.outcome for one in judgement.judged}


def test_what_the_records_hold_of_these_bytes_is_what_the_gates_see(records: Engine) -> None:
    measure(records, "7", OURS)
    measure(records, "7", lineage(test_images=60))
    measure(records, "7", overlap(OURS, LIVE), beside="sha256:5")
    measure(records, "5", LIVE)
    judgement = judge(policy("evaluated:", "floor:", "champion: {margin: 0.05}"), with_documents(records, asked()))
    assert outcomes(judgement) == {"evaluated": "pass", "floor": "pass", "champion": "pass"}
    assert (judgement.allowed, judgement.missing) == (True, [])


def test_other_bytes_have_no_evidence(records: Engine) -> None:
    measure(records, "8", OURS)
    found = with_documents(records, asked())
    assert found.candidate.documents == {}
    assert judge(policy("floor:"), found).missing == [SCORES]


def test_evidence_on_another_test_split_is_not_found(records: Engine) -> None:
    measure(records, "7", OURS.model_copy(update={"fingerprint": "sha256:other"}))
    measure(records, "7", lineage(fingerprint="sha256:other"))
    measure(records, "7", dependencies())  # of no images: it holds whatever the split is
    assert set(with_documents(records, asked()).candidate.documents) == {"dependencies"}


def test_the_live_version_counts_by_its_scores_on_the_candidates_split(records: Engine) -> None:
    old_split = scores([0.99] * 60, fingerprint="sha256:its own")
    measure(records, "7", OURS)
    measure(records, "5", old_split)
    measure(records, "7", overlap(OURS, LIVE), beside="sha256:5")
    gates = policy("champion: {margin: 0.05}")
    unmeasured = judge(gates, with_documents(records, asked()))
    assert (outcomes(unmeasured), unmeasured.missing) == ({"champion": "undecided"}, [SCORES])
    measure(records, "5", LIVE)
    assert outcomes(judge(gates, with_documents(records, asked()))) == {"champion": "pass"}


def test_scores_of_the_champion_of_then_do_not_count_for_the_champion_of_now(records: Engine) -> None:
    measure(records, "7", OURS)
    measure(records, "7", overlap(OURS, LIVE), beside="sha256:5")
    measure(records, "5", LIVE)
    gates = policy("champion: {margin: 0.05}")
    assert judge(gates, with_documents(records, asked("5"))).allowed
    other = judge(gates, with_documents(records, asked("6")))
    assert (other.allowed, other.missing) == (False, ["overlap", SCORES])
    assert "version 6, which is live" in other.judged[0].verdict.evidence


def test_what_was_measured_beside_champion_5_does_not_count_beside_champion_6(records: Engine) -> None:
    measure(records, "7", performance([100.0] * 7, [100.0] * 7), beside="sha256:5")
    gates = policy("performance:")
    assert outcomes(judge(gates, with_documents(records, asked("5")))) == {"performance": "pass"}
    for champion in ("6", ""):
        found = with_documents(records, asked(champion))
        assert found.candidate.get(Performance) is None
        assert judge(gates, found).missing == ["performance"]


def test_what_was_measured_beside_nobody_does_not_count_beside_a_champion(records: Engine) -> None:
    measure(records, "7", performance([100.0] * 7))
    assert with_documents(records, asked("5")).candidate.get(Performance) is None
    assert with_documents(records, asked("")).candidate.get(Performance) is not None
    measure(records, "7", performance([150.0] * 7, [100.0] * 7), beside="sha256:5")
    assert outcomes(judge(policy("performance:"), with_documents(records, asked("5")))) == {"performance": "fail"}


def test_undecided_blocks_production_and_says_about_how_many_images_more(records: Engine) -> None:
    measure(records, "7", OURS)
    measure(records, "7", overlap(OURS, LIVE), beside="sha256:5")
    measure(records, "5", LIVE)
    judgement = judge(policy("floor:", "champion: {margin: 0.01}"), with_documents(records, asked()))
    assert not judgement.allowed
    assert [one.gate for one in judgement.blocking] == ["champion"]
    told = refusal(judgement)
    assert told.startswith("version 7 of resunet may not go to Production:\n  • champion: undecided: Dice -0.0080 [")
    assert judgement.blocking[0].verdict.more_images in range(400, 800)
    assert "what to do: about " in told and "more test images would decide" in told


@pytest.mark.parametrize(("does", "allowed"), [("allow", True), ("warn", True), ("block", False)])
def test_the_policy_says_what_each_verdict_does(does: str, allowed: bool, records: Engine) -> None:
    judgement = judge(policy("floor:", more=f"outcomes: {{undecided: {does}}}\n"), with_documents(records, asked()))
    assert (judgement.judged[0].verdict.outcome, judgement.judged[0].action) == ("undecided", does)
    assert judgement.allowed == allowed


def broken(message: str) -> Rule:
    def night_shift(given: Evidence, settings: GateSettings) -> Verdict:
        raise KeyError(message)

    return Rule(Gate("night_shift", night_shift, GateSettings), GateSettings(), policy("intact:").outcomes)


def wordless() -> Rule:
    def night_shift(given: Evidence, settings: GateSettings) -> Verdict:
        return Verdict("fine", "")  # type: ignore[arg-type]

    return Rule(Gate("night_shift", night_shift, GateSettings), GateSettings(), policy("intact:").outcomes)


@pytest.mark.parametrize(
    ("rule", "told"), [(broken("stain"), "KeyError: 'stain'"), (wordless(), "TypeError: it has to answer a Verdict")]
)
def test_a_gate_that_breaks_blocks_whatever_undecided_does_and_hides_no_other(rule: Rule, told: str) -> None:
    lenient = policy("intact:", more="outcomes: {undecided: allow, fail: allow}\n")
    judgement = judge(replace(lenient, stages={"Production": [rule, *lenient.stages["Production"]]}), asked())
    assert [one.gate for one in judgement.blocking] == ["night_shift"]
    assert told in judgement.judged[0].verdict.evidence
    assert "take `night_shift` out of the policy" in refusal(judgement)
    assert judgement.judged[1].verdict.outcome == "pass"


def test_what_a_stage_has_no_gates_for_is_allowed(records: Engine) -> None:
    judgement = judge(policy("floor:"), with_documents(records, asked("", stage="Staging")))
    assert (judgement.judged, judgement.allowed, judgement.missing) == ([], True, [])


def test_missing_is_what_the_gates_read_and_nobody_measured_of_either_version(records: Engine) -> None:
    gates = policy("intact:", "evaluated:", "floor:", "signature:", "performance:")
    both = with_documents(records, asked())
    assert judge(gates, both).missing == ["lineage", "overlap", "performance", "scores", "signature"]
    measure(records, "7", contract())
    measure(records, "7", OURS)
    assert judge(gates, with_documents(records, asked())).missing == ["lineage", "overlap", "performance", "scores"]
    measure(records, "5", LIVE)
    measure(records, "7", overlap(OURS, LIVE), beside="sha256:5")
    assert judge(gates, with_documents(records, asked())).missing == ["lineage", "performance"]


def test_where_nothing_is_live_nothing_is_to_be_measured_beside_it(records: Engine) -> None:
    gates = policy("signature:", "performance:")
    assert judge(gates, with_documents(records, asked(""))).missing == ["performance", "signature"]


def test_a_version_whose_code_was_not_run_is_asked_again(records: Engine) -> None:
    measure(records, "7", contract(not_run="nobody is trusted here", refused={}))
    judgement = judge(policy("signature:"), with_documents(records, asked("")))
    assert (outcomes(judgement), judgement.missing) == ({"signature": "undecided"}, ["signature"])


def test_timings_that_disagree_are_to_be_measured_anew(records: Engine) -> None:
    measure(records, "7", performance([130.0] * 3 + [100.0] * 4, [100.0] * 7), beside="sha256:5")
    judgement = judge(policy("performance:"), with_documents(records, asked()))
    assert (outcomes(judgement), judgement.missing) == ({"performance": "undecided"}, ["performance"])


def test_nothing_is_to_be_measured_of_damaged_files(records: Engine) -> None:
    measure(records, "7", OURS)
    damaged = replace(asked(), candidate=version("7", damage="model.onnx was changed", evaluation=None))
    judgement = judge(policy("intact:", "floor:"), with_documents(records, damaged))
    assert (outcomes(judgement), judgement.missing) == ({"intact": "fail", "floor": "undecided"}, [])


@pytest.mark.parametrize("gates", [["champion:"], ["intact: {outcomes: {fail: allow}}", "champion:"]])
def test_damaged_files_block_whatever_the_policy_asks_and_allows(gates: list[str]) -> None:
    damaged = replace(asked(""), candidate=version("7", damage="model.onnx was changed", evaluation=None))
    judgement = judge(policy(*gates), damaged)
    assert [(one.gate, one.verdict.outcome) for one in judgement.blocking] == [("intact", "fail")]


@pytest.mark.parametrize("content", ["{", '{"format_version": 2}'])
def test_what_another_release_wrote_is_measured_anew(content: str, records: Engine) -> None:
    for kind, fingerprint in ((SCORES, OURS.fingerprint), ("dependencies", ""), ("smell", "")):
        old = Measured(
            version_digest="sha256:7",
            kind=kind,
            content=content,
            measured_by="grace",
            measured_at=NOW,
            fingerprint=fingerprint,
        )
        keep(records, old)
    judgement = judge(policy("floor:", "dependencies:"), with_documents(records, asked("")))
    assert judgement.missing == ["dependencies", SCORES]


def test_how_often_the_test_split_was_used_counts_this_version_once(records: Engine) -> None:
    assert with_documents(records, asked()).uses == 1
    measure(records, "3", LIVE)
    measure(records, "4", scores([0.5] * 60, fingerprint="sha256:other"))
    assert with_documents(records, asked()).uses == 2
    measure(records, "7", OURS)
    measure(records, "7", OURS)
    assert with_documents(records, asked()).uses == 2


def test_the_checker_is_whoever_had_the_dice_measured(records: Engine) -> None:
    assert with_documents(records, asked()).checker == ""
    measure(records, "7", lineage(), by="ada")
    measure(records, "7", OURS, by="mary")
    assert with_documents(records, asked()).checker == "mary"


def test_approvals_are_of_these_bytes_for_this_stage(records: Engine) -> None:
    for digest, stage, who in (
        ("sha256:7", "Production", "ada"),
        ("sha256:7", "Staging", "b"),
        ("sha256:6", "Production", "c"),
    ):
        approvals.approve(records, digest, stage, approvals.Approval(who, NOW, "looked at it"))
    assert [one.who for one in with_documents(records, asked()).approvals] == ["ada"]


def test_a_judgement_is_kept_with_all_that_it_holds_for(records: Engine) -> None:
    measure(records, "7", OURS)
    rules = policy("floor: {dice: 0.99}")
    judgement = judge(rules, with_documents(records, asked()))
    keep_judgement(records, judgement, "ada", NOW)
    kept = verdicts.latest(records, "resunet", "7", "Production")
    assert kept is not None
    assert (kept.version_digest, kept.champion_digest, kept.policy_digest, kept.fingerprint) == (
        "sha256:7",
        "sha256:5",
        rules.digest,
        OURS.fingerprint,
    )
    assert (kept.allowed, kept.asked_by) == (False, "ada")
    assert [(gate["gate"], gate["outcome"], gate["action"]) for gate in kept.gates] == [("floor", "fail", "block")]
    assert judgement.record()["verdicts"]["floor"]["outcome"] == "fail"


def told(lines: Sequence[str]) -> str:
    return "\n".join(lines)


def test_a_refusal_tells_gates_that_want_the_same_together(records: Engine) -> None:
    judgement = judge(policy("evaluated:", "floor:", "dependencies:"), with_documents(records, asked("")))
    assert refusal(judgement) == told(
        [
            "version 7 of resunet may not go to Production:",
            "  • not measured yet: evaluated, floor, dependencies",
            "    → what to do: measure it: python -m registry check resunet 7 --stage Production",
        ]
    )


def test_a_verdict_that_is_not_applicable_may_block_and_is_told_in_words() -> None:
    judgement = judge(policy("signed: {outcomes: {not_applicable: block}}"), asked())
    assert "signed: not applicable: no signer is trusted here" in refusal(judgement)

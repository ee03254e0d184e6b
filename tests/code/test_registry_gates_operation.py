"""The gates on running it: `performance`, `signature` and `dependencies`."""

import pytest
from gate_evidence import ask, contract, dependencies, evidence, performance, version

from registry.evidence import Vulnerability

CHECK = "python -m registry check resunet 7 --stage Production"
LIVE = [100.0] * 7


def rounds(*over: float, of: int = 7) -> list[float]:
    """Times of which these are as told and the others as the live version's."""
    return [*over, *[100.0] * (of - len(over))]


@pytest.mark.parametrize(
    ("times", "outcome"),
    [
        (rounds(), "pass"),
        (rounds(119.0, 119.0), "pass"),
        (rounds(300.0), "pass"),
        (rounds(130.0, 130.0), "undecided"),
        (rounds(130.0, 130.0, 130.0, 130.0, 130.0), "undecided"),
        (rounds(130.0, 130.0, 130.0, 130.0, 130.0, 130.0), "fail"),
        (rounds(*[121.0] * 7), "fail"),
    ],
)
def test_latency_is_decided_where_the_rounds_agree_but_for_one_in_seven(times: list[float], outcome: str) -> None:
    verdict = ask("performance", evidence(performance(times, LIVE), champion=[]), slower=1.2)
    assert verdict.outcome == outcome
    assert "the live version's, may be 1.2 ×" in verdict.evidence
    assert "(onnxruntime fp32, 256 px, some processor, 2 cores)" in verdict.evidence


@pytest.mark.parametrize(("over", "outcome"), [(0, "pass"), (1, "undecided"), (2, "undecided"), (3, "fail")])
def test_few_rounds_have_to_agree_all(over: int, outcome: str) -> None:
    given = performance(rounds(*[150.0] * over, of=3), [100.0] * 3)
    assert ask("performance", evidence(given, champion=[]), slower=1.2).outcome == outcome


def test_each_round_is_its_own_pair() -> None:
    """What else the machine does falls on both: the times themselves say little."""
    slow_moments = [100.0, 500.0, 100.0, 900.0, 100.0, 300.0, 100.0]
    given = performance([1.1 * time for time in slow_moments], slow_moments)
    verdict = ask("performance", evidence(given, champion=[]), slower=1.2)
    assert verdict.outcome == "pass"
    assert "p95 1.10 × (1.10 … 1.10) the live version's" in verdict.evidence


def test_rounds_that_disagree_are_measured_anew_by_the_next_check() -> None:
    verdict = ask("performance", evidence(performance(rounds(130.0, 130.0), LIVE), champion=[]))
    assert (verdict.outcome, verdict.again) == ("undecided", True)
    assert verdict.advice == f"measure it once more while the machine is quiet: {CHECK}"
    assert not ask("performance", evidence(performance(LIVE, LIVE), champion=[])).again


@pytest.mark.parametrize(("mb", "outcome"), [(480.0, "pass"), (481.0, "fail")])
def test_memory_is_relative_to_the_live_versions(mb: float, outcome: str) -> None:
    verdict = ask("performance", evidence(performance(LIVE, LIVE, mb=mb), champion=[]), larger=1.2)
    assert verdict.outcome == outcome
    assert f"{mb:.0f} MB" in verdict.evidence
    assert "memory 1.20 × the live version's, may be 1.2 ×" in verdict.evidence
    assert ("narrower" in verdict.advice) == (outcome == "fail")


@pytest.mark.parametrize(
    ("limits", "outcome", "told"),
    [
        ({"p95_ms": 100.0}, "pass", "p95 may be 100 ms"),
        ({"p95_ms": 99.0}, "fail", "p95 100.0 ms, 400 MB; p95 may be 99 ms"),
        ({"mb": 400.0}, "pass", "memory may be 400 MB"),
        ({"mb": 399.0}, "fail", "memory may be 399 MB"),
    ],
)
def test_absolute_limits_hold_where_nothing_is_live_too(limits: dict[str, float], outcome: str, told: str) -> None:
    for given in (evidence(performance(LIVE)), evidence(performance(LIVE, LIVE), champion=[])):
        verdict = ask("performance", given, **limits)
        assert verdict.outcome == outcome
        assert told in verdict.evidence


def test_performance_without_anything_to_compare_with_is_shown_and_not_applicable() -> None:
    verdict = ask("performance", evidence(performance(LIVE)))
    assert verdict.outcome == "not_applicable"
    assert verdict.evidence.startswith("p95 100.0 ms, 400 MB (onnxruntime fp32")
    assert verdict.evidence.endswith("there is no live version to compare with")


def test_performance_that_was_not_measured_matters_only_beside_a_live_version_or_a_limit() -> None:
    verdict = ask("performance", evidence(champion=[]))
    assert verdict.evidence == "not measured: its latency and memory beside version 5, which is live"
    assert (verdict.outcome, verdict.advice) == ("undecided", f"measure it: {CHECK}")
    assert ask("performance", evidence(), mb=400.0).outcome == "undecided"
    assert ask("performance", evidence()).outcome == "not_applicable"


def test_signature_passes_with_the_live_versions_schema_however_its_json_is_written() -> None:
    theirs = contract(inputs='[ {"name":  "image"} ]')
    verdict = ask("signature", evidence(contract(), champion=[theirs]))
    assert (verdict.outcome, verdict.evidence) == (
        "pass",
        "answers its example, refuses 2 bad inputs; same schema as version 5",
    )


@pytest.mark.parametrize("part", ["inputs", "outputs", "params"])
def test_another_schema_than_the_live_versions_fails_unless_the_policy_allows_a_break(part: str) -> None:
    given = evidence(contract(**{part: '[{"name": "other"}]'}), champion=[contract()])
    verdict = ask("signature", given)
    assert verdict.outcome == "fail"
    assert verdict.evidence == f"its schema of {part} is not that of version 5, which is live"
    assert "allow_break: true" in verdict.advice
    allowed = ask("signature", given, allow_break=True)
    assert (allowed.outcome, "which the policy allows" in allowed.evidence) == ("pass", True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"example": "it does not load: no such file"}, "it does not answer its own example: it does not load"),
        ({"refused": {"no bytes": "", "text": "no image"}}, "it answered where it had to refuse: no bytes"),
    ],
)
def test_a_version_that_answers_wrongly_fails_even_where_a_break_is_allowed(
    changes: dict[str, object], told: str
) -> None:
    verdict = ask("signature", evidence(contract(**changes)), allow_break=True)
    assert (verdict.outcome, verdict.advice) == ("fail", "train the version anew")
    assert verdict.evidence.startswith(told)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (evidence(), "what it takes and what it refuses"),
        (evidence(contract(refused={})), "what it refuses"),
        (evidence(contract(), champion=[]), "what version 5, which is live, takes and gives"),
    ],
)
def test_a_signature_that_was_not_measured_is_undecided(given: object, told: str) -> None:
    verdict = ask("signature", given)  # type: ignore[arg-type]
    assert (verdict.outcome, verdict.evidence, verdict.advice) == (
        "undecided",
        f"not measured: {told}",
        f"measure it: {CHECK}",
    )


def test_a_version_whose_code_nobody_ran_is_undecided_and_says_why() -> None:
    verdict = ask("signature", evidence(contract(not_run="its code is foreign (code/x.py)", refused={})))
    assert (verdict.outcome, verdict.again) == ("undecided", True)
    assert verdict.evidence == "it was not asked: its code is foreign (code/x.py)"
    assert "RESUNET_TRUSTED_KEY" in verdict.advice


def test_a_first_version_has_nobodys_schema_to_keep() -> None:
    verdict = ask("signature", evidence(contract()))
    assert (verdict.outcome, "there is no live version" in verdict.evidence) == ("pass", True)


def test_dependencies_pass_where_all_is_pinned_and_nothing_known() -> None:
    verdict = ask("dependencies", evidence(dependencies()))
    told = "2 requirements, all pinned; nothing pickled; no pin is known to be vulnerable"
    assert (verdict.outcome, verdict.evidence) == ("pass", told)


def test_where_nobody_could_look_for_vulnerabilities_the_rest_decides() -> None:
    given = dependencies(vulnerabilities=None, not_audited="pip-audit is not installed")
    verdict = ask("dependencies", evidence(given))
    assert verdict.outcome == "pass"
    assert verdict.evidence.endswith("vulnerabilities: not applicable (pip-audit is not installed)")


KNOWN = Vulnerability(package="pillow", version="9.0.0", id="PYSEC-1", fixed_in=["9.0.1", "10"])


@pytest.mark.parametrize(
    ("changes", "told", "advice"),
    [
        ({"unpinned": ["numpy>=2"]}, "not pinned: numpy>=2", "pin it"),
        ({"pickles": ["python_model.pkl"]}, "pickled, which runs code when it is loaded: python_model.pkl", "find out"),
        ({"pinned": []}, "it lists no requirement", "train anew"),
        (
            {"vulnerabilities": [KNOWN]},
            "known to be vulnerable: pillow 9.0.0 (PYSEC-1, fixed in 9.0.1)",
            "ignore: [PYSEC-1]",
        ),
    ],
)
def test_dependencies_fail_and_say_by_which(changes: dict[str, object], told: str, advice: str) -> None:
    verdict = ask("dependencies", evidence(dependencies(**changes)))
    assert verdict.outcome == "fail"
    assert told in verdict.evidence
    assert advice in verdict.advice


def test_a_vulnerability_that_somebody_accepted_does_not_count_and_is_said() -> None:
    given = evidence(dependencies(vulnerabilities=[KNOWN]))
    verdict = ask("dependencies", given, ignore=["PYSEC-1"])
    assert (verdict.outcome, verdict.evidence.endswith("but 1 that the policy accepts")) == ("pass", True)
    assert ask("dependencies", given, ignore=["PYSEC-2"]).outcome == "fail"


def test_dependencies_that_were_not_measured_are_undecided() -> None:
    verdict = ask("dependencies", evidence(champion=version("5", dependencies())))
    assert (verdict.outcome, verdict.evidence) == ("undecided", "not measured: its requirements")
    assert verdict.advice == f"measure it: {CHECK}"

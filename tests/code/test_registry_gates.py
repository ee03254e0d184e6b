from dataclasses import replace

import pytest
from small_versions import IMAGES, evaluation, scores

from registry.evidence import Evaluation
from registry.gates import Evidence, Limits, VersionEvidence, blocking, judge

LIMITS = Limits(dice_floor=0.7, champion_margin=0.01)
LISTING = {"MLmodel": "1", "artifacts/version/model.onnx": "2", "artifacts/version/evaluation.json": "3"}


def version(number: str, measured: Evaluation | None) -> VersionEvidence:
    return VersionEvidence(number, f"sha256:{number}", LISTING, measured)


def outcomes(stage: str, candidate: VersionEvidence, champion: VersionEvidence | None = None) -> dict[str, str]:
    return {v.gate: v.outcome for v in judge(stage, Evidence(candidate, champion), LIMITS)}


def test_production_asks_every_gate_and_staging_only_for_evidence() -> None:
    candidate = version("1", evaluation(scores(0.5)))
    assert outcomes("Staging", candidate) == {"intact": "pass", "evaluated": "pass"}
    assert outcomes("Production", candidate) == {
        "intact": "pass",
        "evaluated": "pass",
        "dice_floor": "fail",
        "not_worse": "not_applicable",
    }


def test_the_floor_itself_passes() -> None:
    # 0.75 is exact in binary, and so is its mean.
    evidence = Evidence(version("1", evaluation(scores(0.75, spread=0))), None)
    assert blocking(judge("Production", evidence, Limits(dice_floor=0.75, champion_margin=0))) == []


@pytest.mark.parametrize("missing", ["artifacts/version/model.onnx", "artifacts/version/evaluation.json"])
def test_an_evaluation_of_files_that_are_not_listed_does_not_count(missing: str) -> None:
    listing = {path: digest for path, digest in LISTING.items() if path != missing}
    candidate = replace(version("1", evaluation(scores(0.9))), listing=listing)
    assert outcomes("Staging", candidate)["evaluated"] == "fail"


def test_damaged_files_fail_whatever_they_claim() -> None:
    candidate = replace(version("1", evaluation(scores(0.9))), damage="a file was changed")
    assert outcomes("Staging", candidate)["intact"] == "fail"


def test_without_an_evaluation_nothing_is_guessed() -> None:
    champion = version("1", evaluation(scores(0.9)))
    assert outcomes("Production", version("2", None), champion) == {
        "intact": "pass",
        "evaluated": "fail",
        "dice_floor": "undecided",
        "not_worse": "undecided",
    }


@pytest.mark.parametrize(("dice", "outcome"), [(0.95, "pass"), (0.9, "pass"), (0.891, "pass"), (0.889, "fail")])
def test_a_version_may_lose_the_margin_and_no_more(dice: float, outcome: str) -> None:
    champion = version("1", evaluation(scores(0.9)))
    assert outcomes("Production", version("2", evaluation(scores(dice))), champion)["not_worse"] == outcome


def test_the_comparison_is_paired_and_shows_its_interval() -> None:
    """The same loss on every image has no spread, however far apart the images are."""
    champion = version("1", evaluation(scores(0.8, spread=0.2)))
    verdict = judge("Production", Evidence(version("2", evaluation(scores(0.75, spread=0.2))), champion), LIMITS)[-1]
    assert "Dice -0.0500 [-0.0500, -0.0500] against version 1 on the same 12 test images" in verdict.evidence


@pytest.mark.parametrize(
    "theirs",
    [
        evaluation(scores(0.8), "sha256:other"),
        evaluation(dict.fromkeys(IMAGES[:11], 0.8)),
        evaluation({path.replace("images", "other"): 0.8 for path in IMAGES}),
    ],
    ids=["fingerprint", "fewer images", "other images"],
)
def test_another_test_split_is_undecided(theirs: Evaluation) -> None:
    candidate = version("2", evaluation(scores(0.99, spread=0)))
    verdicts = judge("Production", Evidence(candidate, version("1", theirs)), LIMITS)
    assert [(v.gate, v.outcome) for v in blocking(verdicts)] == [("not_worse", "undecided")]
    assert "evaluate both" in verdicts[-1].advice


def test_a_live_version_without_an_evaluation_is_undecided_and_says_why() -> None:
    champion = replace(version("1", None), problem="evaluation.json is missing")
    verdicts = judge("Production", Evidence(version("2", evaluation(scores(0.9))), champion), LIMITS)
    assert verdicts[-1].outcome == "undecided"
    assert "evaluation.json is missing" in verdicts[-1].evidence


def test_every_verdict_that_blocks_says_what_to_do() -> None:
    damaged = replace(version("2", None), damage="changed", problem="none")
    verdicts = judge("Production", Evidence(damaged, version("1", None)), LIMITS)
    assert len(blocking(verdicts)) == 4
    assert all(verdict.advice for verdict in blocking(verdicts))

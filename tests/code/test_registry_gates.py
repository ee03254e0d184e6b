from dataclasses import replace

import pytest
from small_versions import IMAGES, evaluation, scores, with_digests

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
    assert "python -m pipelines evaluate --model models:/<model>/1" in verdicts[-1].advice


def grown(dice: dict[str, float], fingerprint: str = "sha256:grown", drop: int = 0) -> Evaluation:
    """A later test split: the same files under other names, less the first `drop`, and ten more images."""
    kept = {f"moved/{path}": value for path, value in list(dice.items())[drop:]}
    more = {f"new/{number}.png": 0.1 for number in range(10)}
    return with_digests(evaluation({**kept, **more}, fingerprint))


def test_a_test_split_that_grew_is_compared_on_the_images_it_had() -> None:
    champion = version("1", with_digests(evaluation(scores(0.9))))
    for dice, outcome in ((0.91, "pass"), (0.88, "fail")):
        candidate = version("2", grown(scores(dice)))
        verdict = judge("Production", Evidence(candidate, champion), LIMITS)[-1]
        assert verdict.outcome == outcome
        assert "12 test images: those in common of the 12 of the live version and the 22" in verdict.evidence
        assert f"Dice {dice - 0.9:+.4f}" in verdict.evidence


@pytest.mark.parametrize(("drop", "outcome"), [(1, "pass"), (2, "undecided")])
def test_nine_in_ten_of_the_live_versions_images_are_needed(drop: int, outcome: str) -> None:
    champion = version("1", with_digests(evaluation(scores(0.9))))
    candidate = version("2", grown(scores(0.95), drop=drop))
    assert outcomes("Production", candidate, champion)["not_worse"] == outcome


def test_an_image_with_another_mask_is_another_image() -> None:
    theirs = with_digests(evaluation(scores(0.9)))
    relabelled = [score.model_copy(update={"mask_sha256": "other"}) for score in theirs.per_image]
    champion = version("1", theirs.model_copy(update={"per_image": relabelled}))
    assert outcomes("Production", version("2", grown(scores(0.95))), champion)["not_worse"] == "undecided"


def test_a_live_version_measured_later_on_the_new_split_is_compared_on_all_of_it() -> None:
    later = evaluation(scores(0.8, spread=0), "sha256:new")
    candidate = version("2", evaluation(scores(0.82, spread=0), "sha256:new"))
    for own in (evaluation(scores(0.94), "sha256:old"), None):
        champion = replace(version("1", own), measured=(later,))
        verdict = judge("Production", Evidence(candidate, champion), LIMITS)[-1]
        assert (verdict.outcome, "Dice +0.0200" in verdict.evidence) == ("pass", True)


def test_images_of_one_group_widen_the_interval_that_is_shown() -> None:
    ours, theirs = evaluation(scores(0.9, spread=0.04)), evaluation(scores(0.9, spread=0))
    halves = [s.model_copy(update={"group": f"patient {s.dice > 0.9}"}) for s in ours.per_image]
    alone, grouped = (
        judge("Production", Evidence(version("2", one), version("1", theirs)), LIMITS)[-1].evidence
        for one in (ours, ours.model_copy(update={"per_image": halves}))
    )
    assert "[-0.0400, +0.0400]" in grouped
    assert "[-0.0400, +0.0400]" not in alone


@pytest.mark.parametrize("change", [{"damage": "changed"}, {"problem": "none"}, {}])
def test_no_advice_leaves_production_empty(change: dict[str, str]) -> None:
    measured = None if change else evaluation(scores(0.9), "sha256:other")
    champion = replace(version("1", measured), **change)
    candidate = version("2", evaluation(scores(0.9)))
    advice = judge("Production", Evidence(candidate, champion, "resunet"), LIMITS)[-1].advice
    assert "resunet" in advice
    assert "archive" not in advice


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

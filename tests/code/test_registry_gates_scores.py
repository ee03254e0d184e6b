"""The gates on Dice: `floor`, `champion` and `slices`."""

from dataclasses import replace

import numpy as np
import pytest
from gate_evidence import ask, evidence, overlap, scores, version

from registry.evidence import Overlap

CHECK = "python -m registry check resunet 7 --stage Production"
RNG = np.random.default_rng(0)
# Differences of 60 images, of mean 0 and standard deviation 0.02.
NOISE = RNG.normal(0, 0.02, 60)
NOISE = (NOISE - NOISE.mean()) / NOISE.std() * 0.02
LIVE = [0.85] * 60


def challenger(better: float, spread: float = 1.0) -> list[float]:
    return list(0.85 + better + spread * NOISE)


def test_floor_passes_at_the_floor_itself() -> None:
    verdict = ask("floor", evidence(scores([0.5, 1.0])), dice=0.75)
    assert verdict.outcome == "pass"
    assert verdict.evidence == "mean Dice 0.7500 ≥ 0.7500 [0.7300, 0.7700] on 2 test images"


def test_floor_fails_below_it_and_says_what_to_do() -> None:
    verdict = ask("floor", evidence(scores([0.5, 0.6])), dice=0.7)
    assert verdict.outcome == "fail"
    assert verdict.evidence == "mean Dice 0.5500 < 0.7000 [0.5300, 0.5700] on 2 test images"
    assert "train longer" in verdict.advice


@pytest.mark.parametrize("name", ["floor", "champion", "slices"])
def test_without_scores_nothing_is_said_and_the_command_is_named(name: str) -> None:
    """The version's own evaluation does not count: whoever made the version wrote it."""
    verdict = ask(name, evidence(champion=[scores(LIVE)]))
    assert verdict.outcome == "undecided"
    assert verdict.evidence.startswith("not measured: its Dice") or "the Dice of each" in verdict.evidence
    assert verdict.advice == f"measure it: {CHECK}"


@pytest.mark.parametrize(("better", "outcome"), [(0.0, "pass"), (-0.008, "undecided"), (-0.03, "fail")])
def test_champion_needs_the_bound_within_the_margin(better: float, outcome: str) -> None:
    verdict = ask("champion", evidence(scores(challenger(better)), champion=[scores(LIVE)]), margin=0.01)
    assert verdict.outcome == outcome
    assert verdict.evidence.startswith(f"Dice {better:+.4f} [")
    assert verdict.evidence.endswith("against version 5 on the same 60 test images; may lose 0.0100")


def test_champion_says_how_many_images_more_would_decide() -> None:
    verdict = ask("champion", evidence(scores(challenger(-0.008)), champion=[scores(LIVE)]), margin=0.01)
    assert verdict.more_images is not None and 500 < verdict.more_images < 700
    assert verdict.advice in (f"about {n} more test images would decide" for n in range(500, 710, 10))


def test_champion_says_where_no_number_of_images_would() -> None:
    verdict = ask("champion", evidence(scores(challenger(-0.01)), champion=[scores(LIVE)]), margin=0.01)
    assert (verdict.outcome, verdict.advice.split(",")[0]) == ("undecided", "no number of test images would decide")


def test_champion_is_paired_image_by_image() -> None:
    """Images that are far apart from one another do not widen the interval of a loss that all share."""
    theirs = list(np.linspace(0.3, 0.95, 60))
    verdict = ask("champion", evidence(scores([d - 0.02 for d in theirs]), champion=[scores(theirs)]), margin=0.01)
    assert verdict.outcome == "fail"
    assert "Dice -0.0200 [-0.0200, -0.0200]" in verdict.evidence


def test_champion_draws_whole_groups() -> None:
    groups = [f"patient {place // 10}" for place in range(60)]
    given = evidence(scores(challenger(0.0), groups=groups), champion=[scores(LIVE, groups=groups)])
    verdict = ask("champion", given, margin=0.01)
    assert "from 6 groups against version 5" in verdict.evidence


def test_champion_of_too_few_groups_is_undecided_without_an_interval() -> None:
    groups = [f"patient {place // 20}" for place in range(60)]
    verdict = ask("champion", evidence(scores(challenger(0.1), groups=groups), champion=[scores(LIVE)]))
    assert verdict.outcome == "undecided"
    assert "Dice +0.1000 (too few for an interval) from 3 groups" in verdict.evidence
    assert verdict.advice == "about 40 more test images would decide"


@pytest.mark.parametrize("better", [0.1, -0.1])
def test_champion_on_fewer_images_than_the_policy_wants_is_undecided(better: float) -> None:
    given = evidence(scores([0.85 + better] * 12), champion=[scores([0.85] * 12)])
    assert ask("champion", given, images=12).outcome != "undecided"
    verdict = ask("champion", given, images=20)
    assert (verdict.outcome, verdict.more_images) == ("undecided", 8)
    assert verdict.advice == "fewer than 20 test images decide nothing: add 8"


def test_champion_is_not_applicable_where_nothing_is_live() -> None:
    verdict = ask("champion", evidence(scores(LIVE)))
    assert (verdict.outcome, verdict.evidence) == ("not_applicable", "there is no live version to compare with")


@pytest.mark.parametrize("name", ["champion", "signature", "performance"])
def test_before_staging_no_gate_says_that_nothing_is_live(name: str) -> None:
    """The live version is compared with before Production; whether there is one is not looked at before Staging."""
    from gate_evidence import contract

    verdict = ask(name, evidence(scores(LIVE), contract(), stage="Staging"))
    assert "before Production, not before Staging" in verdict.evidence


def test_champion_that_was_not_measured_on_these_images_is_undecided() -> None:
    verdict = ask("champion", evidence(scores(LIVE), champion=[]))
    assert verdict.outcome == "undecided"
    assert verdict.evidence == "not measured: version 5, which is live, on the same test images"
    assert verdict.advice == f"measure it: {CHECK}"


@pytest.mark.parametrize("name", ["champion", "slices"])
@pytest.mark.parametrize(("left_out", "outcome"), [(6, "pass"), (7, "undecided")])
def test_who_leaves_out_more_than_a_tenth_of_the_live_versions_images_is_not_compared(
    name: str, left_out: int, outcome: str
) -> None:
    """The live version was scored on the candidate's images, of which there are enough."""
    ours = scores([0.99] * (60 - left_out), fingerprint="sha256:other", slices={"stain=a": range(60 - left_out)})
    again = scores([0.85] * (60 - left_out), fingerprint="sha256:other")
    beside = overlap(ours, scores(LIVE))
    verdict = ask(name, evidence(ours, beside, champion=[again]))
    assert verdict.outcome == outcome
    if outcome == "undecided":
        assert f"it is tested on {60 - left_out} of the 60 test images of version 5" in verdict.evidence
        assert "without --where" in verdict.advice and "python -m registry archive resunet 5" in verdict.advice


@pytest.mark.parametrize("name", ["champion", "slices"])
def test_what_the_live_version_was_tested_on_has_to_be_measured(name: str) -> None:
    ours = scores(LIVE, slices={"stain=a": range(60)})
    given = evidence(ours, champion=[scores(LIVE)])
    documents = {kind: found for kind, found in given.candidate.documents.items() if kind != Overlap.kind}
    verdict = ask(name, replace(given, candidate=replace(given.candidate, documents=documents)))
    assert (verdict.outcome, verdict.unmeasured) == ("undecided", True)


def test_easy_images_do_not_thin_out_a_loss_on_those_that_were_there_before() -> None:
    """Two hundred images on which both are alike were added to sixty on which the candidate loses 0.03."""
    ours = scores([*challenger(-0.03), *[0.99] * 200], fingerprint="sha256:grown")
    again = scores([*LIVE, *[0.99] * 200], fingerprint="sha256:grown")
    verdict = ask("champion", evidence(ours, overlap(ours, scores(LIVE)), champion=[again]), margin=0.01)
    assert verdict.outcome == "fail"
    assert "on the same 60 test images, which the live version was tested on by itself" in verdict.evidence
    alone = evidence(ours, overlap(ours, again), champion=[again])
    assert ask("champion", alone, margin=0.01).outcome == "pass"


def test_a_test_split_that_grew_is_compared_as_a_whole_too() -> None:
    ours = scores([*challenger(0.0), *[0.5] * 60], fingerprint="sha256:grown")
    again = scores([*LIVE, *[0.9] * 60], fingerprint="sha256:grown")
    verdict = ask("champion", evidence(ours, overlap(ours, scores(LIVE)), champion=[again]), margin=0.01)
    assert verdict.outcome == "fail" and "on the same 120 test images;" in verdict.evidence


@pytest.mark.parametrize("name", ["champion", "slices"])
def test_a_live_version_that_was_altered_is_not_compared_with(name: str) -> None:
    live = version("5", scores(LIVE), damage="model.onnx was changed")
    verdict = ask(name, evidence(scores(LIVE, slices={"stain=a": range(60)}), champion=live))
    assert verdict.outcome == "undecided"
    assert "model.onnx was changed" in verdict.evidence
    assert "python -m registry rollback resunet" in verdict.advice
    assert "archive" not in verdict.advice  # which would leave nothing live


SLICES = {"stain=a": range(30), "stain=b": range(30, 60)}


def test_slices_pass_where_each_reaches_the_floor_and_loses_little() -> None:
    given = evidence(scores(challenger(0.0), slices=SLICES), champion=[scores(LIVE, slices=SLICES)])
    verdict = ask("slices", given, margin=0.05)
    assert verdict.outcome == "pass"
    for name in SLICES:
        assert f"{name} 0.8" in verdict.evidence
    assert verdict.evidence.count("(30 images)") == verdict.evidence.count("against version 5") == 2
    assert "each has to reach 0.5000 and may lose 0.0500" in verdict.evidence


def test_one_slice_below_the_floor_fails_the_gate_and_is_the_one_that_is_named() -> None:
    dice = [0.95] * 30 + [0.4] * 30
    verdict = ask("slices", evidence(scores(dice, slices=SLICES)))
    assert verdict.outcome == "fail"
    assert verdict.evidence.startswith("stain=b 0.4000 (30 images) is below 0.5000;")
    assert "stain=a" not in verdict.evidence
    assert "train on more like them" in verdict.advice


def test_one_slice_that_loses_fails_the_gate_though_the_whole_gains() -> None:
    ours = [0.95] * 30 + [0.75] * 30
    given = evidence(scores(ours, slices=SLICES), champion=[scores(LIVE, slices=SLICES)])
    assert ask("champion", given, margin=0.2).outcome == "pass"
    verdict = ask("slices", given, margin=0.05)
    assert verdict.outcome == "fail"
    assert "stain=b 0.7500 (30 images), -0.1000 [-0.1000, -0.1000] against version 5" in verdict.evidence


def test_a_slice_that_may_lose_too_much_is_undecided_and_says_how_many_images_more() -> None:
    given = evidence(scores(challenger(-0.04, 2.0), slices=SLICES), champion=[scores(LIVE)])
    verdict = ask("slices", given, margin=0.05)
    assert verdict.outcome == "undecided"
    assert verdict.more_images is not None
    assert verdict.advice.startswith("of each slice: about ")


def test_slices_of_too_few_images_are_named_and_not_judged() -> None:
    few = {"stain=a": range(50), "stain=b": range(50, 60)}
    own = scores([0.9] * 50 + [0.1] * 10, slices=few).model_copy(update={"unevaluated_slices": ["stain=c"]})
    verdict = ask("slices", evidence(own), images=20)
    assert verdict.outcome == "pass"
    assert "not judged, as they have fewer than 20 test images: stain=b (10), stain=c (0)" in verdict.evidence


@pytest.mark.parametrize("given", [{}, {"stain=a": range(19)}])
def test_where_no_slice_has_enough_images_the_gate_is_not_applicable(given: dict[str, range]) -> None:
    verdict = ask("slices", evidence(scores(LIVE, slices=given), champion=[scores(LIVE)]), images=20)
    assert (verdict.outcome, verdict.evidence.split(";")[0]) == ("not_applicable", "no slice has 20 test images")


def test_slices_are_judged_by_their_floor_where_nothing_is_live() -> None:
    verdict = ask("slices", evidence(scores(LIVE, slices=SLICES)))
    assert verdict.outcome == "pass"
    assert "there is no live version to compare with" in verdict.evidence


def test_a_slice_whose_images_nobody_kept_is_undecided_rather_than_fine() -> None:
    whole = scores(LIVE, slices=SLICES)
    forgotten = [image.model_copy(update={"slices": []}) for image in whole.per_image]
    old = whole.model_copy(update={"per_image": forgotten})
    verdict = ask("slices", evidence(old, champion=[scores([0.99] * 60)]))
    assert verdict.outcome == "undecided"
    assert "nobody knows which images these are" in verdict.evidence
    assert verdict.advice == f"measure it: {CHECK}"


def test_a_slice_that_the_live_version_learnt_from_is_undecided() -> None:
    """The groups were dealt out anew: the live version knows most of a slice, and is not asked of these."""
    both = {"stain=a": range(60), "stain=new": range(60, 90)}
    ours = scores([*LIVE, *[0.9] * 30], slices=both, fingerprint="sha256:other")
    again = scores([*LIVE, *[0.9] * 11], fingerprint="sha256:other")
    verdict = ask("slices", evidence(ours, overlap(ours, scores(LIVE)), champion=[again]), margin=0.05)
    assert (verdict.outcome, verdict.more_images) == ("undecided", 9)
    assert "stain=new 0.9000 (30 images): version 5 learnt from all of them but 11" in verdict.evidence


def test_a_slice_that_only_the_live_version_names_is_judged_too() -> None:
    """The candidate was trained with `--slices scanner`: by its own data set there is no modality any more."""
    ours = scores([0.95] * 30 + [0.75] * 30, slices={"scanner=x": range(60)})
    live = scores(LIVE, slices={"modality=histology": range(30, 60)})
    verdict = ask("slices", evidence(ours, champion=[live]), margin=0.05)
    assert verdict.outcome == "fail"
    assert "modality=histology 0.7500 (30 images), -0.1000 [-0.1000, -0.1000]" in verdict.evidence


def test_a_slice_that_the_candidate_is_no_longer_tested_on_is_undecided() -> None:
    theirs = scores([0.85] * 300, slices={"stain=a": range(270), "stain=b": range(270, 300)})
    ours = scores([0.9] * 275, slices={"stain=a": range(270), "stain=b": range(270, 275)}, fingerprint="sha256:x")
    again = scores([0.85] * 275, fingerprint="sha256:x")
    given = evidence(ours, overlap(ours, theirs), champion=[again])
    assert ask("champion", given).outcome == "pass"
    verdict = ask("slices", given)
    assert (verdict.outcome, verdict.more_images) == ("undecided", 15)
    assert "stain=b: version 5 has 30 test images of it, this one 5" in verdict.evidence


def test_missing_scores_of_the_live_version_leave_slices_undecided() -> None:
    verdict = ask("slices", evidence(scores(LIVE, slices=SLICES), champion=version("5")))
    assert (verdict.outcome, verdict.advice) == ("undecided", f"measure it: {CHECK}")


def test_no_verdict_reads_the_versions_own_evaluation_for_its_dice() -> None:
    """Two versions whose own files say that they are perfect."""
    boast = scores([1.0] * 60)
    given = evidence(scores([0.4] * 60), champion=[scores(LIVE)])
    given = replace(given, candidate=replace(given.candidate, evaluation=boast))
    assert {ask(name, given).outcome for name in ("floor", "champion")} == {"fail"}

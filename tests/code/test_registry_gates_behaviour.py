"""The gates on how the network behaves: `robustness`, `calibration` and `parity`."""

import numpy as np
import pytest
from gate_evidence import ask, calibration, engine, evidence, parity, robustness

CHECK = "python -m registry check resunet 7 --stage Production"
NOISE = np.random.default_rng(0).normal(0, 0.05, 60)
NOISE -= NOISE.mean()


def losing(blur: float, noise: float = 0.0) -> dict[str, list[float]]:
    """Mean losses of 60 images, of standard deviation 0.05."""
    return {"noise": list(noise + NOISE / 2), "blur": list(blur + NOISE / 2), "flip": [0.0] * 60}


@pytest.mark.parametrize("name", ["robustness", "calibration", "parity"])
def test_what_was_not_measured_is_undecided_and_the_command_is_named(name: str) -> None:
    verdict = ask(name, evidence())
    assert verdict.outcome == "undecided"
    assert verdict.evidence.startswith("not measured: its ")
    assert verdict.advice == f"measure it: {CHECK}"


def test_robustness_passes_where_every_change_is_shown_to_cost_little() -> None:
    verdict = ask("robustness", evidence(robustness(losing(0.03))), loss=0.1)
    assert verdict.outcome == "pass"
    assert verdict.evidence.startswith("Dice under some blur -0.0300 [-0.0")
    assert verdict.evidence.endswith("may lose 0.1000; 2 others cost less")


def test_robustness_fails_by_one_change_and_names_it() -> None:
    verdict = ask("robustness", evidence(robustness(losing(0.2))), loss=0.1)
    assert verdict.outcome == "fail"
    assert verdict.evidence.startswith("Dice under some blur -0.2000 [-0.2")
    assert "noise" not in verdict.evidence and "flip" not in verdict.evidence
    assert "augmentations" in verdict.advice


def test_robustness_that_is_not_shown_is_undecided_and_says_how_many_images_more() -> None:
    verdict = ask("robustness", evidence(robustness(losing(0.097))), loss=0.1)
    assert verdict.outcome == "undecided"
    assert verdict.more_images is not None and verdict.advice.startswith("about ")
    assert "some blur -0.0970" in verdict.evidence and "noise" not in verdict.evidence


def test_a_change_that_fails_is_told_before_one_that_is_undecided() -> None:
    verdict = ask("robustness", evidence(robustness(losing(0.2, noise=0.097))), loss=0.1)
    assert (verdict.outcome, verdict.more_images, "noise" in verdict.evidence) == ("fail", None, False)


@pytest.mark.parametrize(("limit", "outcome"), [(0.3, "pass"), (0.15, "fail")])
def test_a_change_has_the_limit_that_the_policy_gives_it(limit: float, outcome: str) -> None:
    verdict = ask("robustness", evidence(robustness(losing(0.2))), loss=0.1, each={"blur": limit})
    assert verdict.outcome == outcome
    assert verdict.evidence.startswith("Dice under some blur -0.2000 [")
    assert f"], may lose {limit:.4f}" in verdict.evidence
    # The others keep theirs.
    assert ask("robustness", evidence(robustness(losing(0.0, 0.2))), loss=0.1, each={"blur": 0.3}).outcome == "fail"


def test_a_change_that_nobody_measures_is_no_pass() -> None:
    verdict = ask("robustness", evidence(robustness(losing(0.0))), each={"fog": 0.1})
    assert verdict.outcome == "undecided"
    assert "not measured: fog" in verdict.evidence
    assert verdict.advice == "name one of blur, flip, noise in the policy"


def test_robustness_draws_whole_groups() -> None:
    groups = [f"patient {place // 10}" for place in range(60)]
    verdict = ask("robustness", evidence(robustness(losing(0.03), groups=groups)), loss=0.2)
    assert "from 6 groups, may lose" in verdict.evidence


@pytest.mark.parametrize(
    ("error", "low", "high", "outcome"),
    [
        (0.05, 0.03, 0.08, "pass"),
        (0.05, 0.03, 0.1, "pass"),
        (0.05, 0.03, 0.101, "undecided"),
        (0.11, 0.09, 0.13, "undecided"),
        (0.13, 0.11, 0.15, "fail"),
    ],
)
def test_calibration_is_decided_by_its_interval(error: float, low: float, high: float, outcome: str) -> None:
    verdict = ask("calibration", evidence(calibration(error, low, high)), error=0.1)
    assert verdict.outcome == outcome
    told = f"calibration error {error:.3f} [{low:.3f}, {high:.3f}] within 3 px of the boundary"
    assert verdict.evidence == f"{told} (0.004 over all pixels), on 100 test images; may be 0.100"
    assert bool(verdict.advice) == (outcome != "pass")


def test_an_interval_beside_its_own_error_neither_passes_nor_fails() -> None:
    """Draws make a sum of absolute values larger: the whole interval may lie above what was measured."""
    assert ask("calibration", evidence(calibration(0.095, 0.101, 0.12)), error=0.1).outcome == "undecided"
    assert ask("calibration", evidence(calibration(0.11, 0.05, 0.09)), error=0.1).outcome == "undecided"


@pytest.mark.parametrize(("error", "low", "high"), [(0.08, 0.06, 0.12), (0.12, 0.08, 0.14)])
def test_undecided_calibration_says_how_many_images_more_would_decide(error: float, low: float, high: float) -> None:
    """The interval reaches twice as far as the limit: half of that takes four times as many images."""
    verdict = ask("calibration", evidence(calibration(error, low, high)), error=0.1)
    assert verdict.more_images == pytest.approx(300, abs=1)
    assert verdict.advice in ("about 300 more test images would decide", "about 310 more test images would decide")


def test_calibration_at_the_limit_is_decided_by_no_number_of_images() -> None:
    verdict = ask("calibration", evidence(calibration(0.1, 0.08, 0.12)), error=0.1)
    assert verdict.advice.startswith("no number of test images would decide")


def test_calibration_without_a_boundary_says_nothing_of_the_version() -> None:
    verdict = ask("calibration", evidence(calibration(0.0, 0.0, 0.0, pixels=0)), error=0.1)
    assert (verdict.outcome, verdict.evidence) == ("undecided", "none of 100 test images has a boundary")
    assert "add test images" in verdict.advice


def test_calibration_on_a_handful_of_images_is_undecided() -> None:
    verdict = ask("calibration", evidence(calibration(0.01, 0.01, 0.01, images=4)), error=0.1)
    assert (verdict.outcome, verdict.more_images) == ("undecided", 1)


@pytest.mark.parametrize(
    ("precision", "pixels", "dice", "outcome"),
    [
        ("fp32", 0.9999, 0.1, "pass"),
        ("fp32", 0.99989, 1.0, "fail"),
        ("bf16", 0.99995, 0.1, "pass"),
        ("bf16", 0.9998, 1.0, "fail"),
        ("int8", 0.9, 0.98, "pass"),
        ("int8", 1.0, 0.979, "fail"),
    ],
)
def test_parity_is_judged_by_what_the_precision_can_keep(
    precision: str, pixels: float, dice: float, outcome: str
) -> None:
    verdict = ask("parity", evidence(parity(engine(precision, pixels, dice))))
    assert verdict.outcome == outcome
    assert f"onnxruntime {precision}: " in verdict.evidence
    assert verdict.evidence.endswith("on 30 test images, 1966080 pixels")
    assert bool(verdict.advice) == (outcome == "fail")


def test_parity_shows_the_number_and_the_limit() -> None:
    told = ask("parity", evidence(parity(engine("fp32", 0.99989)))).evidence
    assert "99.9890 % of pixels equal < 99.9900 %" in told
    told = ask("parity", evidence(parity(engine("int8", 1.0, 0.979)))).evidence
    assert "worst mask's Dice 0.9790 < 0.9800" in told


def test_parity_fails_by_one_of_the_engines_that_serve_and_names_that_one() -> None:
    both = parity(engine("fp32"), engine("fp32", 0.99, engine="openvino"))
    verdict = ask("parity", evidence(both))
    assert verdict.outcome == "fail"
    assert "openvino" in verdict.evidence and "onnxruntime" not in verdict.evidence


def test_an_engine_that_does_not_serve_does_not_count() -> None:
    bad = engine("bf16", 0.5, engine="openvino", serves=False)
    assert ask("parity", evidence(parity(engine(), bad))).outcome == "pass"
    verdict = ask("parity", evidence(parity(bad)))
    assert (verdict.outcome, verdict.evidence) == (
        "undecided",
        "the engine that serves it was not measured, only openvino bf16",
    )
    assert CHECK in verdict.advice

"""The demo on one data folder does not stand in the way of the demo on another."""

import sys
from pathlib import Path

import pytest

from pipelines.demo import Workplace, model_of, why_incomparable
from registry.gates import Evidence, Limits, VersionEvidence

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

from small_versions import evaluation, scores

LIMITS = Limits(dice_floor=0.7, champion_margin=0.01)
LISTED = {"artifacts/version/evaluation.json": "a", "artifacts/version/model.onnx": "b"}


def version(number: str, dice: float, fingerprint: str = "sha256:a", damage: str = "") -> VersionEvidence:
    measured = None if damage else evaluation(scores(dice), fingerprint)
    return VersionEvidence(number, f"sha256:{number}", LISTED, measured, damage=damage)


def test_the_live_version_makes_way_only_where_it_cannot_be_compared_with() -> None:
    new = version("2", 0.9, "sha256:b")
    assert "another test split" in why_incomparable(Evidence(new, version("1", 0.95)), LIMITS)


@pytest.mark.parametrize(
    ("new", "live"),
    [
        (version("2", 0.9), version("1", 0.9)),
        (version("2", 0.8), version("1", 0.9)),
        (version("2", 0.5, "sha256:b"), version("1", 0.9)),
        (version("2", 0.9, damage="altered"), version("1", 0.9)),
        (version("2", 0.9, "sha256:b"), version("1", 0.9, damage="altered")),
        (version("2", 0.9), None),
    ],
    ids=["no worse", "worse", "below the floor", "damaged itself", "the live one is damaged", "nothing is live"],
)
def test_it_stays_where_the_gates_decide_or_the_new_one_would_not_pass_anyway(
    new: VersionEvidence, live: VersionEvidence | None
) -> None:
    assert why_incomparable(Evidence(new, live), LIMITS) == ""


def test_each_data_folder_has_a_model_and_a_groups_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "a/my nuclei: old", tmp_path / "b/my nuclei: old"
    one.mkdir(parents=True)
    assert model_of(None) == "resunet"
    assert model_of(one) == model_of(other) == "resunet-my-nuclei-old"
    monkeypatch.chdir(one)
    assert model_of(Path()) == "resunet-my-nuclei-old" and model_of(Path("/")) == "resunet-data"
    place = Workplace(tmp_path / "home")
    assert place.groups(one) != place.groups(other)
    assert place.groups(Path()) == place.groups(one)

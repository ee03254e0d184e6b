"""Dice without labels: the interval holds what it states, and under drift there is no estimate."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray

from monitoring.performance import estimated
from monitoring.performance.distance import ReferenceSpace
from monitoring.performance.estimated import OUTSIDE, Estimate, estimate_window, image_intervals
from monitoring.performance.version_files import HeldOutScores, held_out_scores, reference_space
from monitoring.performance.window_estimate import estimate, far_share
from monitoring.tracking import WatchedVersion
from records.digests import write_digests
from resunet.errors import VersionError

Numbers = NDArray[np.float64]


def draw(rng: np.random.Generator, count: int) -> tuple[Numbers, Numbers]:
    """Confidence, a little too high, and Dice: unsure images vary more, and one in fifty fails unforeseen."""
    confidence = rng.beta(20, 2, count)
    unsure = rng.random(count) < 0.08
    confidence[unsure] = rng.beta(5, 4, int(unsure.sum()))
    dice = np.clip(confidence - 0.01 + rng.normal(0, 1, count) * (0.03 + 0.25 * (1 - confidence)), 0, 1)
    failed = rng.random(count) < 0.02
    dice[failed] = rng.random(int(failed.sum())) / 2
    return confidence, dice


def scores(rng: np.random.Generator, count: int) -> HeldOutScores:
    return HeldOutScores(*draw(rng, count), (None,) * count)


@pytest.mark.parametrize(("tested", "window"), [(100, 20), (100, 2000), (200, 50)])
def test_the_interval_holds_the_mean_of_the_window(tested: int, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimated, "_DRAWS", 300)
    rng = np.random.default_rng(tested + window)
    held, errors, plain = 0, [], []
    for seed in range(100):
        confidence, dice = draw(rng, window)
        found = estimate_window(confidence, scores(rng, tested), drifted=False, far_share=0.01, seed=seed)
        held += found.low <= dice.mean() <= found.high
        errors.append(abs(found.dice - dice.mean()))
        plain.append(abs(confidence.mean() - dice.mean()))
    assert held >= 83
    # What the test images say of the confidence is made use of.
    assert np.mean(errors) < 0.02 + 0.01 * (window == 20) and np.mean(errors) < np.mean(plain)


def test_the_interval_of_an_image_holds_its_dice_be_it_sure_or_not() -> None:
    rng = np.random.default_rng(0)
    held, widths = [], []
    for _ in range(100):
        confidence, dice = draw(rng, 200)
        low, high = image_intervals(confidence, scores(rng, 80))
        inside = (low <= dice) & (dice <= high)
        unsure = confidence < np.quantile(confidence, 0.25)
        held.append((inside.mean(), inside[unsure].mean()))
        widths.append(((high - low)[unsure].mean(), (high - low)[~unsure].mean()))
    everyone, unsure_ones = np.mean(held, axis=0)
    assert 0.87 <= everyone <= 0.93 and unsure_ones >= 0.85
    assert np.mean(widths, axis=0)[0] > 1.5 * np.mean(widths, axis=0)[1]


def test_of_too_few_test_images_nothing_is_concluded_for_an_image() -> None:
    low, high = image_intervals(np.array([0.2, 0.9]), scores(np.random.default_rng(0), 8))
    assert low.tolist() == [0, 0] and high.tolist() == [1, 1]
    low, _ = image_intervals(np.array([0.9]), scores(np.random.default_rng(0), 9))
    assert low[0] > 0


@pytest.mark.parametrize("stated", [0.0, 0.5, 1.0])
def test_test_images_that_are_all_alike_do_not_make_anything_certain(stated: float) -> None:
    known = HeldOutScores(np.full(60, stated), np.full(60, stated), (None,) * 60)
    found = [
        estimate_window(np.full(count, stated), known, drifted=False, far_share=None) for count in (20, 200, 20_000)
    ]
    widths = [one.high - one.low for one in found]
    assert all(one.dice == stated and one.low <= stated <= one.high for one in found)
    # 1.645 standard deviations of what half an unseen failure in 60 images leaves open, on the one side or on both.
    sides = 1 if stated in (0, 1) else 2
    lost = max(stated, 1 - stated) / 4
    least = [sides * 1.645 * lost * np.sqrt((1 / 60 + 1 / count) / 122) for count in (20, 200, 20_000)]
    np.testing.assert_allclose(widths, least, rtol=0.1)


def test_a_window_in_the_bin_without_a_residual_is_not_certain_either() -> None:
    rng = np.random.default_rng(1)
    confidence = np.concatenate([np.full(40, 1.0), rng.uniform(0.5, 0.9, 40)])
    dice = np.concatenate([np.full(40, 1.0), rng.uniform(0.3, 1.0, 40)])
    found = estimate_window(np.ones(500), HeldOutScores(confidence, dice, (None,) * 80), drifted=False, far_share=None)
    assert found.dice == 1.0 and found.low < 0.998 and found.high == 1.0


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_an_estimate_and_its_interval_stay_within_what_dice_can_be(end: float) -> None:
    rng = np.random.default_rng(2)
    # Distances from an end of what Dice can be; of few images with rare failures the errors reach beyond it.
    stated, true = rng.uniform(0, 0.05, 60), np.where(np.arange(60) < 4, 0.6, 0.0)
    known = HeldOutScores(np.abs(end - stated), np.abs(end - true), (None,) * 60)
    found = estimate_window(np.abs(end - stated[:12]), known, drifted=False, far_share=None)
    assert 0.0 <= found.low < found.dice < found.high <= 1.0
    assert (found.high if end else found.low) == end


def test_the_interval_shrinks_with_the_window_but_not_below_what_the_test_images_tell() -> None:
    rng = np.random.default_rng(0)
    known = scores(rng, 100)
    confidence = draw(rng, 200_000)[0]
    widths = []
    for count in (20, 200, 20_000, 200_000):
        found = estimate_window(confidence[:count], known, drifted=False, far_share=None)
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1] > 1.5 * widths[2]
    assert widths[3] > 0.8 * widths[2]


def test_images_of_one_patient_are_one_piece_of_evidence() -> None:
    rng = np.random.default_rng(0)
    patients = rng.normal(0, 0.05, 10)
    group = np.repeat(np.arange(10), 10)
    confidence = np.full(100, 0.8) + rng.normal(0, 0.01, 100)
    dice = confidence + patients[group]
    live = np.full(5000, 0.8)
    widths = []
    for groups in ((None,) * 100, tuple(str(one) for one in group)):
        found = estimate_window(live, HeldOutScores(confidence, dice, groups), drifted=False, far_share=None)
        widths.append(found.high - found.low)
    assert widths[1] > 1.5 * widths[0]


def test_under_drift_there_is_no_estimate() -> None:
    rng = np.random.default_rng(0)
    known, (confidence, _) = scores(rng, 100), draw(rng, 100)
    assert estimate_window(confidence, known, drifted=False, far_share=0.02).declined is None
    for options, told in (
        ({"drifted": True, "far_share": 0.0}, f"{OUTSIDE}: the window has drifted"),
        ({"drifted": False, "far_share": 0.4}, f"{OUTSIDE}: 40% of the images are unlike any"),
    ):
        found = estimate_window(confidence, known, **options)  # type: ignore[arg-type]
        assert found.declined is not None and found.declined.startswith(told)
        assert np.isnan([found.dice, found.low, found.high]).all()


def test_images_less_sure_than_any_that_was_tested_are_not_estimated() -> None:
    rng = np.random.default_rng(0)
    known = scores(rng, 100)
    confidence = np.concatenate([draw(rng, 80)[0], np.full(20, 0.01)])
    found = estimate_window(confidence, known, drifted=False, far_share=None)
    assert found.declined is not None and "20% of the images have less confidence" in found.declined


@pytest.mark.parametrize(("tested", "window", "told"), [(100, 9, "too few images: 9"), (19, 50, "tested on 19 images")])
def test_too_little_is_said_to_be_too_little(tested: int, window: int, told: str) -> None:
    rng = np.random.default_rng(0)
    found = estimate_window(draw(rng, window)[0], scores(rng, tested), drifted=False, far_share=None)
    assert found.declined is not None and told in found.declined


def test_images_far_from_the_reference_are_counted_where_embeddings_are_known() -> None:
    rng = np.random.default_rng(4)
    space = ReferenceSpace(rng.normal(size=(60, 64)).astype(np.float32))
    embeddings = [rng.normal(20.0 if place < 6 else 0.0, 1, 64).astype(np.float32) for place in range(30)]
    live = pd.DataFrame({"embedding": [*embeddings, None, np.zeros(3, np.float32), np.full(64, np.nan, np.float32)]})
    assert far_share(live, space) == pytest.approx(6 / 30, abs=0.05)
    assert far_share(live, None) is None
    assert far_share(pd.DataFrame({"embedding": [None]}), space) is None


def register(store: Path, folder: Path, images: list[dict[str, object]], embeddings: list[object]) -> WatchedVersion:
    """A version with such test images and a reference."""
    uri = f"sqlite:///{store / 'mlflow.db'}"
    root = folder / "model"
    (root / "artifacts/version").mkdir(parents=True)
    (root / "artifacts/version/evaluation.json").write_text(json.dumps({"per_image": images}))
    pd.DataFrame({"split": "test", "embedding": embeddings}).to_parquet(root / "artifacts/version/reference.parquet")
    digest = write_digests(root)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    name = f"scored {folder.name}"
    client.create_registered_model(name)
    run = client.create_run(client.create_experiment(name)).info.run_id
    client.log_artifacts(run, str(root), "model")
    source = f"{client.get_run(run).info.artifact_uri}/model"
    return WatchedVersion(name, str(client.create_model_version(name, source, run).version), digest)


@pytest.fixture
def uri(mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(mlflow_store)
    uri = f"sqlite:///{mlflow_store / 'mlflow.db'}"
    monkeypatch.setattr("mlflow.tracking._model_registry.utils._registry_uri", uri)
    return uri


def test_scores_and_embeddings_are_read_from_the_version_as_it_was_registered(
    mlflow_store: Path, uri: str, tmp_path: Path
) -> None:
    images = [{"path": f"{i}.png", "dice": 0.9, "confidence": 0.8, "group": "p1" if i else None} for i in range(3)]
    embeddings = [None, *np.random.default_rng(0).normal(size=(9, 64)).astype(np.float32).tolist()]
    version = register(mlflow_store, tmp_path, images, embeddings)
    found = held_out_scores(version, tmp_path / "a", uri)
    assert found.dice == pytest.approx([0.9] * 3) and found.groups == (None, "p1", "p1")
    space = reference_space(version, tmp_path / "b", uri)
    assert space is not None and space.radius > 0
    with pytest.raises(VersionError, match=r"the evaluation of .* is not the one it was registered with"):
        held_out_scores(replace(version, digest="sha256:" + "0" * 64), tmp_path / "c", uri)


def test_a_window_is_estimated_from_the_version_s_own_files_and_not_where_these_do_not_reach(
    mlflow_store: Path, uri: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    known, (confidence, _) = scores(rng, 60), draw(rng, 50)
    images: list[dict[str, object]] = [
        {"path": f"{place}.png", "dice": dice, "confidence": stated}
        for place, (dice, stated) in enumerate(zip(known.dice, known.confidence, strict=True))
    ]
    version = register(mlflow_store, tmp_path, images, rng.normal(size=(80, 64)).astype(np.float32).tolist())
    live = pd.DataFrame({"confidence": confidence, "embedding": list(rng.normal(size=(50, 64)).astype(np.float32))})

    def found(rows: pd.DataFrame, drifted: bool = False, of: WatchedVersion = version) -> Estimate:
        return estimate(of, rows, drifted=drifted, folder=tmp_path / "inbox", tracking_uri=uri, seed=3)

    there = found(live)
    assert there == estimate_window(confidence, known, drifted=False, far_share=None, seed=3)
    assert there.declined is None and there.images == 50 and there.low < there.dice < there.high
    far = live.assign(embedding=[one + 9 * (place < 20) for place, one in enumerate(live["embedding"])])
    unscored = replace(version, digest="sha256:" + "0" * 64)
    for less, why in (
        (found(live, drifted=True), f"{OUTSIDE}: the window has drifted"),
        (found(far), f"{OUTSIDE}: 4"),
        (found(live, of=unscored), "the evaluation of "),
    ):
        assert less.declined is not None and less.declined.startswith(why)
        assert np.isnan([less.dice, less.low, less.high]).all()

"""Training as a user does it: `mlflow run`, two at once, one killed and resumed, one from another version;
and what a version then holds.
"""

import csv
import re
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from safetensors.numpy import load_file
from train_scene import DEADLINE_S, FIT, STAINS, Pair, Trained, finished, kill_tree
from waiting import until

from pipelines.data.manifest import fingerprint, read_manifest
from pipelines.data.splits import key_of, split_of
from pipelines.training.checkpoint import claimed
from pipelines.training.schedule import Schedule
from records.digests import verify_digests
from registry.evidence import Evaluation
from registry.signing import verify
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import SettingsError, VersionError
from serving.version import SPEC_FILE, VersionSpec

PICTURES = {"learning_curves", "overlays", "confusion_matrix", "calibration"}
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".npy"}


def _artifacts(client: MlflowClient, run: str, folder: str = "") -> dict[str, int]:
    return {file.path: file.file_size or 0 for file in client.list_artifacts(run, folder)}


def test_two_trainings_at_once_give_two_versions_of_one_model(pair: Pair) -> None:
    assert {pair.by_mlflow.version.version, pair.direct.version.version} == {"1", "2"}
    assert pair.by_mlflow.run.info.run_id != pair.direct.run.info.run_id
    assert {pair.by_mlflow.run.info.status, pair.direct.run.info.status} == {"FINISHED"}
    assert pair.by_mlflow.weights == pair.direct.weights
    assert pair.scene.leftovers() == []


def test_a_run_records_what_was_trained_on_what_and_how_it_went(pair: Pair) -> None:
    run = pair.by_mlflow.run
    for name, value in FIT.items():
        assert run.data.params[name] == str(value)
    schedule = Schedule.parse(run.data.params["schedule_taken"])
    assert schedule.total == int(run.data.params["steps_taken"])
    assert run.data.params["length"] == f"{FIT['epochs']} epochs"
    assert run.data.params["learning_rate"]
    for metric in ("train_loss", "validation_dice", "learning_rate", "epoch"):
        history = pair.scene.client.get_metric_history(run.info.run_id, metric)
        assert len(history) >= 6 and [row.step for row in history] == [k.step for k in schedule.knots if k.evaluated]
    assert run.data.metrics["test_dice_low"] <= run.data.metrics["test_dice"] <= run.data.metrics["test_dice_high"]
    assert run.data.metrics["test_dice"] > 0.6
    assert any(name.startswith("system/cpu") for name in run.data.metrics)
    contexts = {tag.value for data in run.inputs.dataset_inputs for tag in data.tags if tag.key.endswith("context")}
    assert contexts == {"train", "validation", "test"}
    assert run.data.tags["dataset_fingerprint"] == pair.by_mlflow.version.tags["dataset_fingerprint"]
    assert run.data.tags["architecture"] == "resunet"
    assert run.data.tags["environment.threads"] == "1"
    assert run.data.tags["environment.torch"] == version("torch")


def test_a_slice_of_any_name_has_its_metrics_in_the_run(pair: Pair) -> None:
    names = {name for name in pair.direct.run.data.metrics if name.startswith("slice.stain.") and "dice" in name}
    assert names == {"slice.stain.H_E__40x_.dice", "slice.stain.DAPI.dice"}
    assert set(Evaluation.read(pair.direct.files).slices) == {f"stain={stain}" for stain in STAINS}


def test_a_run_keeps_pictures_and_the_model_card(pair: Pair) -> None:
    run = pair.by_mlflow.run.info.run_id
    pictures = _artifacts(pair.scene.client, run, "pictures")
    assert set(pictures) == {f"pictures/{name}.png" for name in PICTURES}
    assert all(size > 2_000 for size in pictures.values())
    top = _artifacts(pair.scene.client, run)
    assert top["model_card.md"] > 500 and top["environment.txt"] > 500
    card = (pair.by_mlflow.files / "model_card.md").read_text()
    assert pair.commit in card and str(pair.scene.folder) not in card
    assert f"torch {version('torch')}" in card and "1 thread," in card


def test_a_version_says_how_good_it_is_and_where_it_comes_from(pair: Pair) -> None:
    for made in (pair.by_mlflow, pair.direct):
        evaluation = Evaluation.read(made.files)
        manifest = read_manifest(made.files / "manifest.parquet")
        test = manifest[manifest["split"] == "test"]
        assert evaluation.fingerprint == fingerprint(test)
        assert {score.path for score in evaluation.per_image} == set(test["path"])
        assert made.version.tags == {
            "dice": f"{evaluation.overall['dice'].mean:.4f}",
            "dataset_fingerprint": fingerprint(manifest),
            "git_commit": pair.commit,
            "parent_version": "none",
            "version_digest": verify_digests(made.root),
            "architecture": "resunet",
            "precision": VersionSpec.read(made.files).precision,
        }


def test_training_images_have_no_prediction_in_the_reference(pair: Pair) -> None:
    rows = pd.read_parquet(pair.by_mlflow.files / "reference.parquet")
    manifest = read_manifest(pair.by_mlflow.files / "manifest.parquet")
    assert dict(zip(rows["path"], rows["split"], strict=True)) == dict(
        zip(manifest["path"], manifest["split"], strict=True)
    )
    train, held_out = rows[rows["split"] == "train"], rows[rows["split"] != "train"]
    assert len(train) > 0 and set(held_out["split"]) == {"validation", "test"}
    assert rows[list(IMAGE_DESCRIPTORS)].notna().all(axis=None)
    assert train[[*PREDICTION_DESCRIPTORS, "embedding"]].isna().all(axis=None)
    assert held_out[[*PREDICTION_DESCRIPTORS, "embedding"]].notna().all(axis=None)


def test_a_version_holds_no_path_of_the_machine_that_made_it(pair: Pair) -> None:
    for made in (pair.by_mlflow, pair.direct):
        described = yaml.safe_load((made.root / "MLmodel").read_text())
        texts = list(_texts(described))
        assert "code" in texts and "artifacts/version" in texts
        assert [text for text in texts if text.startswith(("/", "file:")) or "tmp" in text] == []
        for file in made.root.rglob("*"):
            # MLflow wrote this one here, when it downloaded the model.
            if file.is_file() and file.name != "registered_model_meta":
                assert str(pair.scene.folder).encode() not in file.read_bytes(), file


def _texts(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in _texts(value)]
    if isinstance(node, list):
        return [text for value in node for text in _texts(value)]
    return [str(node)]


def test_a_version_loads_and_predicts_without_pickle_and_without_torch(pair: Pair, tmp_path: Path) -> None:
    root = pair.by_mlflow.root
    assert [file.name for file in root.rglob("*") if file.suffix in PICKLES] == []
    requirements = (root / "requirements.txt").read_text()
    assert "torch" not in requirements and "mlflow-skinny==" in requirements
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        import mlflow, pandas
        root = Path(sys.argv[1])
        model = mlflow.pyfunc.load_model(str(root))
        image = (root / "artifacts" / "version" / "golden_input.png").read_bytes()
        answer = model.predict(pandas.DataFrame({"image": [image]}))
        assert 0 <= answer["confidence"][0] <= 1 and answer["mask"][0]
        for name in ("torch", "lightning_fabric", "pipelines"):
            assert name not in sys.modules, name
        import serving, records, resunet
        for package in (serving, records, resunet):
            assert Path(package.__file__).is_relative_to(root / "code"), package.__file__
        """
    )
    variables = pair.scene.environment(MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false")
    ran = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_a_version_is_signed_where_there_is_a_key(pair: Pair) -> None:
    verify(pair.by_mlflow.root, pair.scene.public_key)
    with pytest.raises(VersionError, match="not signed"):
        verify(pair.direct.root, pair.scene.public_key)


@pytest.fixture(scope="module")
def killed(pair: Pair) -> tuple[str, Path]:
    """The run id and the checkpoint of a training that was killed at its first evaluation, and not resumed before."""
    scene = pair.scene
    folder = scene.home / "checkpoints"
    process = scene.start(scene.train(name="resumed"), MLFLOW_EXPERIMENT_NAME="another experiment")
    checkpoint = until(lambda: next(folder.glob("*.ckpt"), None), seconds=DEADLINE_S, every=0.01)
    with pytest.raises(SettingsError, match="being trained by another process"), claimed(checkpoint):
        raise AssertionError("two processes have one run")
    kill_tree(process)
    assert scene.versions("resumed") == []
    return checkpoint.stem, checkpoint


def test_a_training_killed_half_way_ends_as_if_it_had_not_been(pair: Pair, killed: tuple[str, Path]) -> None:
    scene, (run_id, checkpoint) = pair.scene, killed
    before = scene.client.get_run(run_id)
    assert before.info.status == "RUNNING"
    direct = pair.direct.run.info.run_id
    steps = sorted(row.step for row in scene.client.get_metric_history(direct, "validation_dice"))

    other = scene.start(scene.train("--where", f"stain={STAINS[1]}", "--resume", run_id, name="resumed"))
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 2 and "other data" in output, output
    other = scene.start(scene.train("--slices", "stain", "--resume", run_id, name="resumed"))
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 2 and "give the same --slices" in output, output
    output = finished(scene.start(scene.train("--resume", run_id, name="resumed")))

    told = [int(step) for step in re.findall(r"^step (\d+) ", output, re.MULTILINE)]
    assert told and told == steps[-len(told) :] and len(told) < len(steps)
    (version,) = scene.versions("resumed")
    resumed = Trained(scene, version)
    assert version.run_id == run_id
    assert resumed.run.info.status == "FINISHED"
    assert resumed.run.info.experiment_id == before.info.experiment_id
    assert resumed.run.data.params["steps_taken"] == pair.direct.run.data.params["steps_taken"]
    assert resumed.weights == pair.direct.weights
    assert f"run {run_id}; if it is interrupted: --resume {run_id}" in output
    assert "resumed with" not in output
    assert list(checkpoint.parent.iterdir()) == []


def test_trainings_leave_nothing_in_the_folder_for_temporary_files(pair: Pair) -> None:
    assert pair.scene.leftovers() == []
    assert (pair.direct.files / SPEC_FILE).is_file()


@pytest.fixture(scope="module")
def child(pair: Pair) -> Trained:
    """A few steps, from another seed: what it knows, it knows from its parent."""
    scene, parent = pair.scene, pair.direct.version
    output = finished(scene.start(scene.train("--parent", parent.version, "--max-steps", "20", seed=6)))
    assert "random" not in output
    made = max(scene.versions(), key=lambda version: int(version.version))
    assert int(made.version) > int(parent.version)
    return Trained(scene, made)


def test_a_child_starts_from_its_parents_weights(pair: Pair, child: Trained) -> None:
    parent_weights = load_file(pair.direct.files / "weights.safetensors")
    weights = load_file(child.files / "weights.safetensors")
    kernels = [name for name, value in weights.items() if value.ndim == 4 and value.size > 200]
    alike = [np.corrcoef(weights[name].ravel(), parent_weights[name].ravel())[0, 1] for name in kernels]
    assert len(alike) > 5 and min(alike) > 0.8
    assert child.weights != pair.direct.weights


def test_a_child_names_its_parent_and_keeps_what_it_was_trained_on(pair: Pair, child: Trained) -> None:
    assert child.version.tags["parent_version"] == pair.direct.version.version
    assert child.run.data.params["parent"] == pair.direct.version.version
    ancestors = read_manifest(child.files / "ancestors.parquet")
    own = read_manifest(pair.direct.files / "manifest.parquet")
    assert set(ancestors["version"]) == {pair.direct.version.version}
    pd.testing.assert_frame_equal(ancestors.drop(columns="version"), own)
    assert not (pair.direct.files / "ancestors.parquet").exists()
    assert f"version {pair.direct.version.version}" in (child.files / "model_card.md").read_text()


def _groups_that_test_on(trained_image: str, path: Path) -> Path:
    name = next(name for name in map(str, range(1000)) if split_of(key_of(name, "")) == "test")
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["file", "group"], [Path(trained_image).name, name]])
    return path


def test_an_image_that_an_ancestor_was_trained_on_may_not_be_tested_on(pair: Pair, tmp_path: Path) -> None:
    scene = pair.scene
    manifest = read_manifest(pair.direct.files / "manifest.parquet")
    image = manifest.loc[manifest["split"] == "train", "path"].iloc[0]
    groups = _groups_that_test_on(image, tmp_path / "groups.csv")
    before = len(scene.versions())
    process = scene.start(scene.train("--parent", pair.direct.version.version, "--groups", str(groups)))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert f"trained on by version {pair.direct.version.version}" in output and image in output
    assert "Traceback" not in output
    assert len(scene.versions()) == before
    assert scene.leftovers() == []

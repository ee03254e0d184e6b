"""A version that starts from another: whose weights, whose images, and what may not be tested on."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from train_scene import Pair, Trained, finished

from pipelines.manifest import read_manifest
from pipelines.splits import key_of, split_of


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

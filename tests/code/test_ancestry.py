"""A version to start from is believed for what it says only where its files are those that were made."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from dataset_factory import make
from mlflow import MlflowClient
from version_factory import register_version, write_version

from pipelines.data.data_step import prepare_data
from pipelines.data.manifest import read_manifest, write_manifest
from pipelines.training.ancestry import Ancestor, fetch_ancestor
from registry.signing import keygen
from resunet.errors import SettingsError, VersionError
from serving.version import MANIFEST_FILE, WEIGHTS_FILE

Fetch = Callable[[], Ancestor]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return prepare_data(str(make(tmp_path_factory.mktemp("data"), 24))).manifest


@pytest.fixture(scope="module")
def store(manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds version 1 of resunet, which nobody signed."""
    root = tmp_path_factory.mktemp("made") / "version"
    write_version(root)
    write_manifest(manifest, root / MANIFEST_FILE)
    (root / WEIGHTS_FILE).write_bytes(b"weights")
    uri, _ = register_version(root, root.parent / "store")
    mlflow.set_tracking_uri(uri)
    return root.parent / "store"


@pytest.fixture
def artifacts(store: Path, tmp_path: Path) -> Iterator[Path]:
    """Where its files lie; whatever is done to them is undone."""
    place = store / "artifacts"
    shutil.copytree(place, tmp_path / "as they were")
    yield place
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "as they were", place)


@pytest.fixture
def fetch(artifacts: Path, manifest: pd.DataFrame, tmp_path: Path) -> Fetch:
    """Fetch version 1 for a training with the same test split."""
    test = manifest[manifest["split"] == "test"]
    return lambda: fetch_ancestor(MlflowClient(), "resunet", "1", test, tmp_path)


def test_weights_and_manifest_come_from_a_version_that_was_checked(fetch: Fetch, manifest: pd.DataFrame) -> None:
    ancestor = fetch()
    assert ancestor.weights.read_bytes() == b"weights"
    pd.testing.assert_frame_equal(ancestor.manifests.drop(columns="version"), manifest)


def test_a_parent_whose_manifest_was_cut_is_refused(fetch: Fetch, artifacts: Path) -> None:
    (stored,) = artifacts.rglob(MANIFEST_FILE)
    rows = read_manifest(stored)
    write_manifest(rows[rows["split"] == "test"], stored)
    with pytest.raises(VersionError, match=r"version 1 of resunet: .*changed: 'artifacts/version/manifest.parquet'"):
        fetch()


def test_a_parent_whose_list_of_files_was_deleted_is_refused(fetch: Fetch, artifacts: Path) -> None:
    (listed,) = artifacts.rglob("digests.json")
    listed.unlink()
    with pytest.raises(VersionError, match=r"version 1 of resunet: digests.json is missing"):
        fetch()


def test_a_parent_that_nobody_who_is_trusted_signed_is_refused(
    fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", str(keygen(tmp_path / "keys")[1]))
    with pytest.raises(VersionError, match=r"version 1 of resunet: model.sig is missing"):
        fetch()


@pytest.mark.usefixtures("store")
def test_a_parent_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="parent: resunet has no version 2"):
        fetch_ancestor(MlflowClient(), "resunet", "2", pd.DataFrame(), tmp_path)

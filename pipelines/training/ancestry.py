"""Training that starts from an earlier version: its weights, and what it was trained on.

A version keeps the manifests of its ancestors beside its own, so that "no test image was trained on" can be checked.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console

from pipelines.data.data_step import PreparedData
from pipelines.data.leaks import find_leaks, refuse_leaks, trained_rows
from pipelines.data.manifest import read_manifest
from registry.download import checked_download
from registry.evidence import VERSION_FOLDER
from registry.settings import RegistrySettings
from resunet.errors import SettingsError
from serving.version import ANCESTORS_FILE, MANIFEST_FILE, WEIGHTS_FILE


@dataclass(frozen=True)
class Ancestor:
    """The version that training starts from.

    Attributes:
        version: its number in the registry.
        weights: safetensors, on this machine.
        manifests: rows of its own manifest and of its ancestors', with a column `version`.
    """

    version: str
    weights: Path
    manifests: pd.DataFrame


def fetch_ancestor(
    client: MlflowClient,
    name: str,
    version: str,
    test: pd.DataFrame,
    folder: Path,
    data: PreparedData | None = None,
    console: Console | None = None,
) -> Ancestor:
    """Download a version's weights and manifests, once its files are found to be those that were made.

    Args:
        client: of the registry.
        name: registered model.
        version: number of the version to start from.
        test: manifest rows of the new version's test split.
        folder: where the weights go.
        data: what that split belongs to; with it images that look alike are opened and compared.
        console: where doubts about test images are said; None takes stderr.

    Raises:
        SettingsError: there is no such version.
        VersionError: a file was changed, is missing or not listed, or nobody who is trusted here signed it.
        StoreError: the files cannot be fetched now.
        DataError: the ancestor was trained on an image of the test split, a copy of one, or one of its group.
    """
    try:
        client.get_model_version(name, version)
    except MlflowException as error:
        raise SettingsError(f"parent: {name} has no version {version}") from error
    with checked_download(client, name, version, RegistrySettings.load().trust) as model:
        root = model / VERSION_FOLDER
        rows = [read_manifest(root / MANIFEST_FILE).assign(version=version)]
        if (root / ANCESTORS_FILE).exists():
            rows.append(pd.read_parquet(root / ANCESTORS_FILE))
        weights = shutil.copy(root / WEIGHTS_FILE, folder)
    manifests = pd.concat(rows, ignore_index=True)
    refuse_leaks(
        find_leaks(test, trained_rows([manifests]), data),
        f"version {version} or its ancestors",
        console or Console(stderr=True),
        "Train without a parent, or keep groups.csv as it was then",
    )
    return Ancestor(version, Path(weights), manifests)

"""Tiny versions that were really trained, registered on a database of their own: for tests of what is measured of them.

Half of the images of `disc_images` are pairs that belong together.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pytest
from disc_images import write_data
from mlflow import MlflowClient
from rich.console import Console

from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.evidence import speed
from pipelines.evidence.subject import Subject, Version
from pipelines.runs.register import log_version, register_version
from pipelines.training.batches import sample_store
from pipelines.training.fit import fit
from pipelines.training.settings import FitSettings
from pipelines.version.build_version import BuiltVersion, build_version
from registry.data_place import DATA_TAG, DataPlace

QUIET = Console(quiet=True)
NAME = "tiny"


@dataclass(frozen=True)
class Scene:
    """A data set, and a version that was trained on it for some seconds."""

    folder: Path
    data: PreparedData
    built: BuiltVersion

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self.uri, "RESUNET_HOME": str(self.folder / "home")}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def register(self, name: str = NAME) -> str:
        """Log and register what was built, once more; the version's number."""
        mlflow.set_tracking_uri(self.uri)
        client = self.client
        found = client.get_experiment_by_name(NAME)
        where = (self.folder / "artifacts").as_uri()
        experiment = found.experiment_id if found else client.create_experiment(NAME, artifact_location=where)
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.set_tag(DATA_TAG, DataPlace(str(self.data.root)).to_tag())
            logged = log_version(self.built.directory, ["numpy==2.4.6"])
        return register_version(client, logged, name, run.info.run_id, {})

    def model(self, version: str) -> Path:
        """The folder of a version's model in the artifact store."""
        return Path(unquote(urlsplit(self.client.get_model_version_download_uri(NAME, version)).path))

    def version(self, number: str) -> Version:
        return Version.checked(f"version {number}", self.model(number))

    def subject(self, number: str, champion: str | None = None) -> Subject:
        live = None if champion is None else self.version(champion)
        return Subject(self.version(number), live, DataPlace(str(self.data.root)), QUIET)

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let commands that run in this process take this scene's servers and records."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        mlflow.set_tracking_uri(self.uri)


def train(folder: Path, architecture: str = "resunet", classes: int = 1, steps: int = 60) -> Scene:
    """Write a data set and build a version of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESUNET_HOME", str(folder / "home"))
        data = prepare_data(str(write_data(folder / "data", classes, pairs=10)))
    settings = FitSettings.checked(
        architecture=architecture,
        width=4,
        classes=data.classes,
        crop=48,
        batch_size=4,
        max_steps=steps,
        evaluations=2,
        precision="fp32",
    )
    stores = (sample_store(data.split(split), data.manifest, 100) for split in ("train", "validation"))
    directory = folder / "version"
    directory.mkdir()
    built = build_version(directory, fit(settings, *stores), settings, data, None, QUIET)
    return Scene(folder, data, built)


def environment_without(scene: Scene) -> dict[str, str]:
    """This process's variables with the scene's, and none of MLflow's or the platform's beside them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
    return {**kept, **scene.environment, "COLUMNS": "400"}


@pytest.fixture
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time that is measured here is looked at."""
    monkeypatch.setattr(speed, "ROUNDS", 3)
    monkeypatch.setattr(speed, "_CALLS", 2)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    made = train(tmp_path_factory.mktemp("evidence"))
    assert (made.register(), made.register()) == ("1", "2")
    return made


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """ResUNet++, which cannot be tiled, of three classes."""
    made = train(tmp_path_factory.mktemp("evidence of classes"), "resunetpp", 3)
    assert made.register() == "1"
    return made

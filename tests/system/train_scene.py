"""Real trainings for tests: a copy of the project, a small data set, and the commands that a user types.

    def test_it(pair: Pair) -> None:      # the fixture is known to all tests of this folder
        pair.direct.weights

Networks are tiny and run on one thread, so that two trainings fit on two cores and give the same bits.
"""

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from pipelines.data.synthetic import Knobs, generate
from registry.signing import keygen

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MODEL = "nuclei of train scene"
DEADLINE_S = 240.0
# Enough steps that the network is sure of what it sees: then no rounding flips its masks.
FIT = {"width": 4, "epochs": 12, "crop": 64, "batch_size": 8, "seed": 5}
# What a metric may not be called, although a slice may.
STAINS = ("H&E (40x)", "DAPI")


@dataclass(frozen=True)
class Scene:
    """Where trainings of one test session happen; `folder` has a space in its name, and so has what is in it."""

    uri: str
    folder: Path
    private_key: Path
    public_key: Path

    @property
    def home(self) -> Path:
        return self.folder / "a home"

    @property
    def data(self) -> Path:
        return self.folder / "my images"

    @property
    def project(self) -> Path:
        return self.folder / "the project"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp dir"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
        return kept | {
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
            "RESUNET_HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "160",
            **more,
        }

    def start(self, command: list[str], **variables: str) -> subprocess.Popen[str]:
        """Start a command in the copy of the project."""
        return subprocess.Popen(
            command,
            cwd=self.project,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def train(self, *options: str, name: str = MODEL, **settings: object) -> list[str]:
        """`python -m pipelines train` on the scene's data, with the scene's settings unless told otherwise."""
        words = [sys.executable, "-m", "pipelines", "train", "--data", str(self.data), "--model-name", name]
        for setting, value in {**FIT, **settings}.items():
            words += [f"--{setting.replace('_', '-')}", str(value)]
        return [*words, *options]

    def versions(self, name: str = MODEL) -> list[ModelVersion]:
        return list(self.client.search_model_versions(f"name='{name}'"))

    def download(self, version: ModelVersion) -> Path:
        """A version's model, as anyone who serves it would get it."""
        target = self.folder / f"{version.name} {version.version}"
        uri = f"models:/{version.name}/{version.version}"
        with pytest.MonkeyPatch.context() as patch:
            # The registry is looked up with the global setting, whatever the arguments say.
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
            patch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(target)))

    def leftovers(self) -> list[str]:
        """What commands of this project left in the folder for temporary files."""
        return sorted(path.name for path in self.temporary.glob("resunet-*"))


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for a command that must succeed; what it printed comes back."""
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output[-4000:]
    return output


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a process and all it started: nothing gets to clean up."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in tree:
        each.kill()
    process.communicate(timeout=30)


@dataclass(frozen=True)
class Trained:
    """One version of the scene, with the run that made it and its files."""

    scene: Scene
    version: ModelVersion

    @cached_property
    def run(self) -> Run:
        return self.scene.client.get_run(str(self.version.run_id))

    @cached_property
    def root(self) -> Path:
        return self.scene.download(self.version)

    @property
    def files(self) -> Path:
        return self.root / "artifacts" / "version"

    @property
    def weights(self) -> bytes:
        return (self.files / "weights.safetensors").read_bytes()


@dataclass(frozen=True)
class Pair:
    """Two trainings that ran at once with the same settings: by `mlflow run`, signed, and by `python -m pipelines`."""

    scene: Scene
    commit: str
    by_mlflow: Trained
    direct: Trained


def make_scene(uri: str, folder: Path) -> Scene:
    """The copy of the project and the data; nothing is trained yet."""
    scene = Scene(uri, folder, *keygen(folder / "keys"))
    scene.temporary.mkdir()
    _copy_project(scene.project)
    generate(scene.data, 60, 0, Knobs(stain="fluorescence", size=(64, 96)))
    _name_stains(scene.data / "metadata.csv")
    return scene


@pytest.fixture(scope="session")
def pair(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Both trainings started together against one server that knows neither the model nor the experiment."""
    scene = make_scene(tracking_uri, tmp_path_factory.mktemp("train") / "a scene")
    commit = _commit(scene.project)
    options = {**FIT, "data": scene.data, "model_name": MODEL}
    words = [word for name, value in options.items() for word in ("-P", f"{name}={value}")]
    projects = scene.start(
        [str(BIN / "mlflow"), "run", ".", "-e", "train", "--env-manager", "local", *words],
        RESUNET_SIGNING_KEY=str(scene.private_key),
    )
    direct = scene.start(scene.train())
    finished(projects)
    finished(direct)
    made = [Trained(scene, version) for version in scene.versions()]
    assert len(made) == 2
    by_mlflow = next(each for each in made if each.run.data.tags["mlflow.source.type"] == "PROJECT")
    return Pair(scene, commit, by_mlflow, next(each for each in made if each is not by_mlflow))


def _copy_project(target: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, target / name)


def _commit(project: Path) -> str:
    """Put the copy under git, so that its versions can say what code made them."""

    def git(*words: str) -> str:
        author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
        command = ["git", *author, *words]
        return subprocess.run(command, cwd=project, capture_output=True, check=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "a copy")
    return git("rev-parse", "HEAD")


def _name_stains(table: Path) -> None:
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "stain"])
        writer.writerows([row["file"], STAINS[index % 2]] for index, row in enumerate(rows))

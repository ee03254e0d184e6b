"""Two real versions of one model on a server, for tests of what is reported of them.

scene = make_scene(url, tmp_path, "my model")
scene.typed("compare", scene.name, "1", "2").stdout
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
from commands import typed
from mlflow import MlflowClient
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests" / "code"))

from labelled_images import truth_of  # noqa: E402
from version_factory import draw, make_spec, write_graph, write_version  # noqa: E402

from pipelines.data.data_step import PreparedData, prepare_data  # noqa: E402
from pipelines.data.labelled import LabelledImages  # noqa: E402
from pipelines.data.manifest import fingerprint, write_manifest  # noqa: E402
from pipelines.runs import register  # noqa: E402
from pipelines.runs.tracking import log_data, log_settings  # noqa: E402
from pipelines.training.settings import FitSettings  # noqa: E402
from pipelines.version.evaluate import evaluate, file_digests, known_slices  # noqa: E402
from pipelines.version.evaluation_report import run_metrics  # noqa: E402
from registry.evidence import VERSION_FOLDER, Evaluation  # noqa: E402
from serving.engine import open_engine  # noqa: E402
from serving.golden import make_golden  # noqa: E402
from serving.predictor import Predictor  # noqa: E402
from serving.requirements import model_requirements  # noqa: E402
from serving.version import MANIFEST_FILE  # noqa: E402

POLICY = """
format: 1
stages:
  Staging: {intact: }
  Production: {intact: , floor: {dice: 0.1}, signed: }
"""


@dataclass
class ReportScene:
    """A model with two versions on a server, and where commands are typed.

    Attributes:
        url: of the server.
        data: the data set; the second version was made from all of it, the first from a part.
        home: of the commands.
        evaluations: of the versions, as they carry them.
    """

    url: str
    name: str
    folder: Path
    data: Path
    home: Path
    evaluations: list[Evaluation]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.url)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
        return kept | {
            "MLFLOW_TRACKING_URI": self.url,
            "RESUNET_HOME": str(self.home),
            "RESUNET_POLICY": str(self.home / "policy.yaml"),
            "OMP_NUM_THREADS": "1",
        }

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type a command of `python -m registry`."""
        return subprocess.run(
            [sys.executable, "-m", "registry", *words],
            cwd=PROJECT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def typed(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The same in this process, which saves the time to start Python."""
        return typed(self.environment(), *words)


def make_home(folder: Path) -> Path:
    """A home with a policy that asks for little."""
    home = folder / "home"
    home.mkdir()
    (home / "policy.yaml").write_text(POLICY)
    return home


def make_scene(url: str, folder: Path, name: str, home: Path) -> ReportScene:
    """Make the data set and the two versions."""
    small, data = _data(folder / "small", 48), _data(folder / "data", 60)
    with _server(url):
        made = [
            _version(name, folder / f"version {number}", prepare_data(str(root)), number)
            for number, root in enumerate((small, data))
        ]
    return ReportScene(url, name, folder, data, home, made)


def _data(root: Path, count: int) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rows = ["file,stain"]
    for seed in range(count):
        rgb = draw(64, 96, seed)
        Image.fromarray(rgb).save(root / "images" / f"{seed}.png")
        Image.fromarray(truth_of(rgb) * np.uint8(255)).save(root / "masks" / f"{seed}.png")
        rows.append(f"{seed}.png,{'b' if seed % 3 else 'a'}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def _version(name: str, root: Path, data: PreparedData, seed: int) -> Evaluation:
    # MLflow names the artifact's folder after this one.
    root = root / Path(VERSION_FOLDER).name
    spec = write_version(root, spec=make_spec())
    write_graph(root / spec.serving_file, seed=seed)
    predictor = Predictor(spec, open_engine("onnxruntime", root / spec.serving_file, "fp32"))
    make_golden(predictor, root, draw(128, 160))
    write_manifest(data.manifest, root / MANIFEST_FILE)
    test = data.manifest[data.manifest["split"] == "test"]
    evaluation = evaluate(
        predictor,
        LabelledImages(data.split("test")),
        fingerprint=fingerprint(test),
        digests=file_digests(test),
        known_slices=known_slices(data.manifest),
    )
    evaluation.write(root)
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name=f"run {seed}") as run:
        log_settings(FitSettings(width=4 + seed, seed=seed), data)
        log_data(data)
        mlflow.log_metrics(run_metrics(evaluation))
        logged = register.log_version(root, model_requirements(PROJECT / "pyproject.toml"))
    tags = {"dataset_fingerprint": data.fingerprint, "version_digest": logged.digest}
    register.register_version(MlflowClient(), logged, name, run.info.run_id, tags)
    return evaluation


@contextmanager
def _server(url: str) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(url)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)

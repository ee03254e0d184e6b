"""What `benchmarks.gateway` asks: a registry with versions of each precision, and gateways that follow it.

with Scene.up(folder, versions) as scene, scene.gateway("bf16") as gateway:
    gateway.url
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
from mlflow import MlflowClient

from benchmarks.engine import drawn
from benchmarks.gateway_clients import Ask, wait_for_answer
from pipelines.runs.register import log_version, register_version
from pipelines.servers import free_port, scoring_server, start_group, stop_group, tracking_server
from pipelines.version.export import export_graph
from pipelines.version.quantise import INT8_FILE
from resunet.networks import build_network
from serving.engine import has_bf16
from serving.golden import make_golden
from serving.predictor import Predictor
from serving.pyfunc import VERSION_ARTIFACT
from serving.requirements import model_requirements
from serving.version import GRAPH_FILE, Precision, VersionSpec

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 120.0
STAGE = "Production"
EXACT, INT8, SWAPPED = "exact", "int8", "swapped"


def make_versions(made: Path, folder: Path) -> dict[str, list[Path]]:
    """Folders of versions, by the model that they are registered under.

    Args:
        made: of `benchmarks.engine.make_version`.
        folder: holds them afterwards.

    Returns:
        the exact file (bf16 where the processor has it, else fp32), the int8 file, and, to be swapped for each other,
        the exact one and one of other weights.
    """
    spec = VersionSpec.read(made)
    other = folder / "other weights"
    other.mkdir()
    export_graph(build_network("resunet", spec.width).eval(), 1, other / GRAPH_FILE)
    shutil.copyfile(other / GRAPH_FILE, folder / GRAPH_FILE)
    return {
        EXACT: [make_exact(made, folder)],
        INT8: [_version(made, folder / INT8, INT8_FILE, "int8")],
        SWAPPED: [
            _version(made, folder / SWAPPED, GRAPH_FILE, _exact()),
            _version(made, folder / "swapped too", GRAPH_FILE, _exact(), graph=folder / GRAPH_FILE),
        ],
    }


def make_exact(made: Path, folder: Path) -> Path:
    """The version of `EXACT` alone."""
    return _version(made, folder / EXACT, GRAPH_FILE, _exact())


def _exact() -> Precision:
    return "bf16" if has_bf16() else "fp32"


def _version(made: Path, folder: Path, file: str, precision: Precision, graph: Path | None = None) -> Path:
    """A copy of a version that serves another file."""
    root = folder / VERSION_ARTIFACT
    shutil.copytree(made, root)
    if graph is not None:
        shutil.copyfile(graph, root / GRAPH_FILE)
    spec = VersionSpec.read(root).model_copy(update={"serving_file": file, "precision": precision})
    spec.write(root)
    make_golden(Predictor.load(root), root, drawn(0)[0])
    return root


@dataclass(frozen=True)
class Gateway:
    """A gateway that answers, and how long it took from its start to its first answer, seconds."""

    url: str
    process: subprocess.Popen[bytes]
    first_answer: float

    def memory_mb(self) -> float:
        """Resident memory of it and its children."""
        process = psutil.Process(self.process.pid)
        return float(sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))) / 1e6


@dataclass(frozen=True)
class Scene:
    """A tracking server with all versions; the first of each model is in Production."""

    folder: Path
    uri: str

    @classmethod
    @contextlib.contextmanager
    def up(cls, folder: Path, versions: dict[str, list[Path]]) -> "Iterator[Scene]":
        """Register the versions of each model, in their order."""
        with tracking_server(folder / "tracking") as uri:
            scene = cls(folder, uri)
            mlflow.set_tracking_uri(uri)
            os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
            for model, roots in versions.items():
                for root in roots:
                    with mlflow.start_run() as run:
                        logged = log_version(root, model_requirements(ROOT / "pyproject.toml"))
                    register_version(MlflowClient(uri), logged, model, run.info.run_id, {})
                scene.promote(model, "1")
            yield scene

    def promote(self, model: str, version: str, stage: str = STAGE) -> None:
        """Put a version in the place of what is live, or in another stage."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of stages
            MlflowClient(self.uri).transition_model_version_stage(model, version, stage, archive_existing_versions=True)

    @contextlib.contextmanager
    def gateway(self, model: str, first: Ask, *flags: str, **more: str) -> Iterator[Gateway]:
        """One that follows a model with the inference log on; it has answered `first`, whose URL does not count.

        Args:
            flags: of its command.
            more: variables of its environment.
        """
        port = free_port()
        started = time.perf_counter()
        process = start_group(
            [sys.executable, "-m", "serving", "up", "-p", str(port), *flags],
            self._environment(model) | more,
            ROOT,
            self.folder / f"{model} gateway.log",
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for_answer(process, Ask(url, first.path, first.body, first.headers), START_SECONDS)
            yield Gateway(url, process, time.perf_counter() - started)
        finally:
            stop_group(process)

    @contextlib.contextmanager
    def scoring(self, model: str) -> Iterator[str]:
        """`mlflow models serve` of the same version, its inference log on as well."""
        log = self.folder / f"{model} models serve.log"
        environment = self._environment(f"{model} served")
        with scoring_server(f"models:/{model}/{STAGE}", self.uri, log=log, environment=environment) as url:
            yield url

    def _environment(self, model: str) -> dict[str, str]:
        home = self.folder / f"{model} home"
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESUNET_", "MLFLOW_"))}
        return kept | {
            "MLFLOW_TRACKING_URI": self.uri,
            "RESUNET_HOME": str(home),
            "RESUNET_INFERENCE_LOG": f"sqlite:///{home / 'log.db'}",
            "RESUNET_GATEWAY_MODEL": f"models:/{model}/{STAGE}",
            "RESUNET_GATEWAY_POLL_SECONDS": "0.5",
        }

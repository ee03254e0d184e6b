"""A gateway of its own process, a real tracking server that can go away, and versions to promote.

scene.promote(scene.add_version())
with scene.gateway() as gateway:
    gateway.post(IMAGE_BODY).headers["X-Model-Version"]
"""

import base64
import contextlib
import itertools
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from mlflow import MlflowClient
from mlflow_server import free_port, stop_group, tracking_server
from mlflow_state import mlflow_state_kept
from ready_tables import with_tables
from version_factory import draw, encode, write_version
from waiting import until

from pipelines.runs import register
from pipelines.servers import start_group
from serving.requirements import model_requirements
from serving.version import VersionSpec

ROOT = Path(__file__).parents[2]
NAME = "resunet"
DEADLINE_S = 60.0
IMAGE = encode(draw(64, 80))
BODY = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(IMAGE).decode()]]}}
_numbers = itertools.count(1)


@dataclass
class Gateway:
    """A running gateway."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    http: httpx.Client

    def ask(self, body: Any = BODY, **options: Any) -> httpx.Response:
        return self.http.post("/invocations", json=body, **options)

    def version(self) -> str:
        """The version that answers now."""
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0]["model_version"] == answer.headers["X-Model-Version"]
        return answer.headers["X-Model-Version"]

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/health").json()
        return answer

    def follows_to(self, version: str) -> None:
        until(lambda: self.ask().headers.get("X-Model-Version") == version, self.words, DEADLINE_S, every=0.05)

    def words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


@dataclass
class GatewayScene:
    """A registry in a folder of its own; its server is up while `tracking` is."""

    folder: Path
    port: int = field(default_factory=free_port)
    _server: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _is_up: bool = False

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    @property
    def artifacts(self) -> Path:
        return self.folder / "tracking" / "artifacts"

    @property
    def versions(self) -> Path:
        """What the gateway keeps on its machine."""
        return self.folder / "home" / "gateway" / "versions"

    def start_tracking(self) -> None:
        """Have it up, as it may be already."""
        if not self._is_up:
            self._server.enter_context(tracking_server(with_tables(self.folder / "tracking"), self.port))
            self._is_up = True

    def stop_tracking(self) -> None:
        self._is_up = False
        self._server.close()

    def add_version(self, *, broken: bool = False, spec: VersionSpec | None = None, least_side: int = 0) -> str:
        """Log and register a version.

        Args:
            broken: it does not give its golden output, though its files are listed.
            spec: what it says of itself.
            least_side: it fails on images that are smaller.
        """
        import mlflow

        version = self.folder / f"made {next(_numbers)}" / "version"
        write_version(version, spec=spec, least_side=least_side)
        if broken:
            other = draw(128, 160, seed=9)
            (version / "golden_input.png").write_bytes(encode(other))
        with mlflow_state_kept():
            mlflow.set_tracking_uri(self.uri)
            # Not whichever experiment a test before this one has left active in this process.
            found = self.client.get_experiment_by_name(NAME)
            experiment = found.experiment_id if found else self.client.create_experiment(NAME)
            with mlflow.start_run(experiment_id=experiment) as run:
                logged = register.log_version(version, model_requirements(ROOT / "pyproject.toml"))
            return str(register.register_version(self.client, logged, NAME, run.info.run_id, {}))

    def promote(self, version: str, stage: str = "Production") -> str:
        """Move a version, and archive what was there."""
        self.client.transition_model_version_stage(NAME, version, stage, archive_existing_versions=stage != "Archived")
        return version

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESUNET_", "MLFLOW_"))}
        return kept | {
            "MLFLOW_TRACKING_URI": self.uri,
            "RESUNET_HOME": str(self.folder / "home"),
            "RESUNET_INFERENCE_LOG": f"sqlite:///{self.folder / 'log.db'}",
            "RESUNET_GATEWAY_POLL_SECONDS": "0.5",
            **more,
        }

    @contextlib.contextmanager
    def gateway(
        self, *options: str, port: int | None = None, trusting: ssl.SSLContext | None = None, **more: str
    ) -> Iterator[Gateway]:
        """Start one, and end it with the block.

        Args:
            port: that it listens at; None: any.
            trusting: knows its certificate; None: it has none.
        """
        port = port or free_port()
        log = self.folder / f"gateway {next(_numbers)}.log"
        command = [sys.executable, "-m", "serving", "up", "-p", str(port), *options]
        process = start_group(command, self.environment(**more), ROOT, log)
        url = f"http{'s' if trusting else ''}://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=DEADLINE_S, trust_env=False, verify=trusting or True) as http:
            gateway = Gateway(url, process, log, http)
            try:
                until(lambda: process.poll() is not None or _answers(http), gateway.words, DEADLINE_S, every=0.05)
                assert process.poll() is None, gateway.words()
                yield gateway
            finally:
                stop_group(process)

    def forget_cache(self) -> None:
        shutil.rmtree(self.versions, ignore_errors=True)


def workers_of(gateway: Gateway) -> list[psutil.Process]:
    """Its processes that answer."""
    found = []
    for child in psutil.Process(gateway.process.pid).children():
        with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def _answers(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return http.get("/health").status_code in (200, 503)
    return False


@pytest.fixture(scope="session")
def gateway_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayScene]:
    """A tracking server that is up; tests promote versions of their own."""
    scene = GatewayScene(tmp_path_factory.mktemp("a gateway"))
    scene.start_tracking()
    yield scene
    scene.stop_tracking()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with one version, for tests that only ask."""
    scene = GatewayScene(tmp_path_factory.mktemp("asked"))
    scene.start_tracking()
    scene.promote(scene.add_version())
    with scene.gateway() as running:
        yield running
    scene.stop_tracking()

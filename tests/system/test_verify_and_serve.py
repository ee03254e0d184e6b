"""`python -m serving verify-and-serve`: what is not signed as it is neither installed nor run, and what is, is served.

The tracking server is a real one. Its artifact store is a folder here, which stands for whoever can write to the store.
"""

import base64
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import psutil
import pytest
import requests
from mlflow import MlflowClient
from mlflow_server import free_port, tracking_server
from ready_tables import with_tables

sys.path.insert(0, str(Path(__file__).parents[1] / "code"))

from version_factory import ROOT, draw, encode, write_version
from waiting import until

from pipelines.runs import register
from pipelines.servers import START_SECONDS
from records.digests import write_digests
from records.trust import Trust
from registry.signing import SIGNATURE_FILE, keygen, sign
from registry.versions import stage_calls
from resunet.errors import SettingsError, StoreError, VersionError
from serving.requirements import model_requirements
from serving.verify import verified_copy

DEADLINE_S = START_SECONDS
MARK = "ran.txt"


@dataclass
class Scene:
    """A tracking server with signed versions of one model, the keys, and what its store holds."""

    tracking_uri: str
    store: Path
    public: Path
    private: Path
    folder: Path

    def version(self, signed: bool = True) -> tuple[str, Path]:
        """Register a version.

        Returns:
            its URI, and its folder in the server's store.
        """
        before = {path.parent for path in self.store.rglob("MLmodel")}
        with tracked(self.tracking_uri):
            client = MlflowClient()
            experiment = mlflow.set_experiment("verified").experiment_id
            with mlflow.start_run(experiment_id=experiment) as run:
                key = self.private if signed else None
                requirements = model_requirements(ROOT / "pyproject.toml")
                logged = register.log_version(self.folder / "version", requirements, signing_key=key)
            number = register.register_version(client, logged, "resunet", run.info.run_id, {})
        (stored,) = {path.parent for path in self.store.rglob("MLmodel")} - before
        return f"models:/resunet/{number}", stored

    def environment(self, home: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
        return kept | {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_ENV_ROOT": str(home / "environments"),
            "RESUNET_TRUSTED_KEY": str(self.public),
            "RESUNET_HOME": str(home),
            "TMPDIR": str(home),
        }


@contextmanager
def tracked(uri: str) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("verified")
    private, public = keygen(folder / "keys")
    write_version(folder / "version")
    with tracking_server(with_tables(folder / "server")) as uri:
        yield Scene(uri, folder / "server" / "artifacts", public, private, folder)


@pytest.fixture(scope="module")
def signed(scene: Scene) -> tuple[str, Path]:
    """A signed version's URI, and its folder in the server's store."""
    return scene.version()


@pytest.fixture
def stored(signed: tuple[str, Path], tmp_path: Path) -> Iterator[Path]:
    """That folder, to be changed: it is as it was after the test."""
    _, folder = signed
    kept = shutil.copytree(folder, tmp_path / "kept")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a command keeps what it makes; it begins empty."""
    made = tmp_path / "home"
    made.mkdir()
    return made


def command(uri: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "serving", "verify-and-serve", uri, *more]


@contextmanager
def serving(scene: Scene, uri: str, home: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The command, once its server answers, and where that is."""
    started: list[psutil.Process] = []
    url, log = f"http://127.0.0.1:{(port := free_port())}", home.parent / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(uri, "-p", str(port), "--env-manager", "local"),
            cwd=ROOT,
            env=scene.environment(home),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        words = partial(_last_words, log)
        until(lambda: process.poll() is not None or answers(url), words, DEADLINE_S, every=0.1)
        assert process.poll() is None, words()
        started = psutil.Process(process.pid).children(recursive=True)
        yield process, url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(DEADLINE_S)
        process.kill()
        process.wait()
        for left in started:
            with suppress(psutil.NoSuchProcess):
                left.kill()


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def answers(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return direct().get(f"{url}/ping", timeout=5).status_code == 200
    return False


def direct() -> requests.Session:
    """Without the proxy that the environment may name for the world outside."""
    session = requests.Session()
    session.trust_env = False
    return session


def ask(url: str) -> str:
    """Segment an image.

    Returns:
        the version that answered.
    """
    image = base64.b64encode(encode(draw(64, 80))).decode()
    body = {"dataframe_split": {"columns": ["image"], "data": [[image]]}}
    answer = direct().post(f"{url}/invocations", json=body, timeout=DEADLINE_S)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["predictions"][0]["model_version"])


def test_a_signed_version_is_served_under_its_number_and_a_signal_ends_all_of_it(
    scene: Scene, signed: tuple[str, Path], home: Path
) -> None:
    uri, _ = signed
    with tracked(scene.tracking_uri), stage_calls():
        MlflowClient().transition_model_version_stage("resunet", uri.rpartition("/")[2], "Production", True)
    with serving(scene, "models:/resunet/Production", home) as (process, url):
        assert f"models:/resunet/{ask(url)}" == uri
        assert list(home.glob("resunet-verified-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
        assert not answers(url)
    assert list(home.glob("resunet-verified-*")) == []
    log = (home.parent / "serve.log").read_text()
    assert "its files are those that key " in log and "this was not foreseen" not in log


def test_the_server_ends_with_a_command_that_is_killed(scene: Scene, signed: tuple[str, Path], home: Path) -> None:
    uri, _ = signed
    with serving(scene, uri, home) as (process, url):
        process.kill()
        process.wait(DEADLINE_S)
        until(lambda: not answers(url), seconds=DEADLINE_S, every=0.1)


def plant(home: Path) -> dict[str, str]:
    """Stand-ins for what MLflow installs with, first on the PATH; each leaves a mark if it is run."""
    bin_folder = home / "bin"
    bin_folder.mkdir()
    for name in ("uv", "pip", "pyenv", "virtualenv", "conda", "mamba"):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\necho "$0 $*" >> "{home / MARK}"\nexit 1\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "PYENV_ROOT": str(home / "pyenv")}


def serve_with_uv(scene: Scene, uri: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Serve a version in an environment of its own, where stand-ins are what MLflow would install with."""
    return subprocess.run(
        command(uri, "--env-manager", "uv"),
        cwd=ROOT,
        env=scene.environment(home) | plant(home),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_changed_requirements_are_refused_before_anything_is_installed_or_run(
    scene: Scene, signed: tuple[str, Path], stored: Path, home: Path
) -> None:
    uri, _ = signed
    for path in ("requirements.txt", "python_env.yaml", "model_code.py"):
        content = (stored / path).read_text()
        (stored / path).write_text(f"{content}\n# {home}\n")
    done = serve_with_uv(scene, uri, home)
    assert done.returncode == 2
    assert f"error: {uri} (version {uri.rpartition('/')[2]} of resunet) is not served: " in done.stderr
    assert "changed: 'model_code.py', 'python_env.yaml', 'requirements.txt'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / MARK).exists() and sorted(path.name for path in home.iterdir()) == ["bin"]


def test_what_is_signed_is_handed_to_the_environment_that_was_asked_for(
    scene: Scene, signed: tuple[str, Path], home: Path
) -> None:
    """The stand-ins are what MLflow would install with: the test before this one could fail."""
    uri, _ = signed
    done = serve_with_uv(scene, uri, home)
    assert done.returncode not in (0, 2), done.stderr
    assert "uv venv" in (home / MARK).read_text()


def flip(stored: Path) -> None:
    path = stored / "artifacts/version/model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def add(stored: Path) -> None:
    (stored / "code/sitecustomize.py").write_text("import os\n")


def compile_ahead(stored: Path) -> None:
    """What Python would take for what it compiled itself, and run in place of the source."""
    (stored / "code/serving/__pycache__").mkdir()
    (stored / "code/serving/__pycache__/engine.cpython-311.pyc").write_bytes(b"anything")


def rewrite(stored: Path) -> None:
    """By somebody who makes the list fit, and who cannot sign."""
    (stored / "requirements.txt").write_text("evil==1.0\n")
    write_digests(stored)


def sign_by_another(stored: Path) -> None:
    rewrite(stored)
    with TemporaryDirectory() as folder:
        private, _ = keygen(Path(folder))
        sign(stored, private)


Tamper = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (flip, r"changed: 'artifacts/version/model\.onnx'"),
        (add, r"not listed: 'code/sitecustomize\.py'"),
        (compile_ahead, r"not listed: 'code/serving/__pycache__/engine\.cpython-311\.pyc'"),
        (lambda stored: (stored / "python_env.yaml").unlink(), r"missing: 'python_env\.yaml'"),
        (rewrite, r"altered: digests\.json, requirements\.txt"),
        (sign_by_another, "signed with another key"),
        (lambda stored: (stored / SIGNATURE_FILE).unlink(), r"model\.sig is missing: the version is not signed"),
        (lambda stored: (stored / "digests.json").unlink(), r"digests\.json is missing"),
    ],
    ids=["flip", "added", "compiled", "missing", "rewritten", "another", "unsigned", "unlisted"],
)
def test_a_version_that_is_not_what_was_signed_is_refused_by_name(
    scene: Scene, signed: tuple[str, Path], stored: Path, change: Tamper, named: str
) -> None:
    uri, _ = signed
    change(stored)
    with (
        tracked(scene.tracking_uri),
        pytest.raises(VersionError, match=rf"{uri} \(version \d+ of resunet\) is not served: .*{named}"),
        verified_copy(uri, Trust(keys=scene.public)),
    ):
        pytest.fail("it was let through")


def test_an_unsigned_version_of_an_honest_training_is_refused(scene: Scene) -> None:
    uri, _ = scene.version(signed=False)
    with (
        tracked(scene.tracking_uri),
        pytest.raises(VersionError, match="the version is not signed"),
        verified_copy(uri, Trust(keys=scene.public)),
    ):
        pytest.fail("it was let through")


def test_the_copy_is_private_and_knows_its_name_whatever_the_store_says(
    scene: Scene, signed: tuple[str, Path], stored: Path
) -> None:
    uri, _ = signed
    (stored / "registered_model_meta").write_text("model_name: somebody\nmodel_version: 99\n")
    with tracked(scene.tracking_uri), verified_copy(uri, Trust(keys=scene.public)) as version:
        assert f"models:/{version.identity.name}/{version.identity.version}" == uri
        folder = next(one for one in (version.root, *version.root.parents) if one.name.startswith("resunet-verified-"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        shutil.rmtree(stored)
        assert (version.root / "MLmodel").is_file()
    assert not folder.exists()


def test_without_anybody_to_trust_nothing_is_fetched(scene: Scene, home: Path) -> None:
    environment = scene.environment(home) | {"RESUNET_TRUSTED_KEY": "", "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    done = subprocess.run(
        command("models:/resunet/1"), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 2 and "nobody is trusted" in done.stderr and "RESUNET_TRUSTED_KEY" in done.stderr


@pytest.mark.parametrize("uri", ["models:/m-0123456789abcdef", "runs:/0123/model", "model", "models:/resunet/1/code"])
def test_what_is_no_registered_version_is_not_fetched(scene: Scene, uri: str) -> None:
    with pytest.raises(SettingsError, match="is no registered version"), verified_copy(uri, Trust(keys=scene.public)):
        pytest.fail("it was let through")


def test_a_version_that_is_not_there_and_a_server_that_is_away_are_told_apart(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = Trust(keys=scene.public)
    with (
        tracked(scene.tracking_uri),
        pytest.raises(SettingsError, match=r"models:/nobody/1 cannot be served: .*nobody"),
        verified_copy("models:/nobody/1", trust),
    ):
        pytest.fail("it was let through")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        tracked("http://127.0.0.1:1"),
        pytest.raises(StoreError, match=r"cannot be fetched .*MLFLOW_TRACKING_URI"),
        verified_copy("models:/resunet/1", trust),
    ):
        pytest.fail("it was let through")
    with (
        tracked("sqlite:////proc/1/mlflow.db"),
        pytest.raises(StoreError, match=r"/proc/1 cannot be written to\. Is MLFLOW_TRACKING_URI right"),
        verified_copy("models:/resunet/1", trust),
    ):
        pytest.fail("it was let through")

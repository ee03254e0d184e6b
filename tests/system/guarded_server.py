"""A real `mlflow server --app-name lifecycle` with its own records, and what an attacker would send to it."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from ready_tables import with_tables
from small_versions import evaluation, register, scores
from sqlalchemy import Engine

from pipelines.servers import GUARDED, RunningServer, watched_tracking_server
from records import audit
from records.database import open_database
from records.evidence import Measured, keep
from registry.evidence.documents import SCORES

ROOT = Path(__file__).parents[2]
PASSWORD = "a-password-for-tests"
POLICY = """
format: 1
stages:
  Staging: {intact: }
  Production: {intact: , floor: {dice: 0.7}}
"""


@dataclass(frozen=True)
class Answer:
    """What came back of a request that no client library has tidied up."""

    status: int
    text: str

    @property
    def message(self) -> str:
        """Of an error in MLflow's shape."""
        content = json.loads(self.text)
        assert set(content) >= {"error_code", "message"}, content
        return str(content["message"])


@dataclass(frozen=True)
class Live:
    """What a model's users get: the version of the stage, that of the alias, and the files behind them."""

    stage: list[str]
    alias: str | None
    files: Mapping[str, str]


@dataclass
class GuardedServer:
    """The server, and its folder: `mlflow.db`, `artifacts`, `home`, `policy.yaml`."""

    running: RunningServer
    folder: Path
    made: int = 0
    database: str = ""

    @property
    def url(self) -> str:
        return self.running.url

    @cached_property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    @cached_property
    def records(self) -> Engine:
        """The server's own records, past the server: to plant evidence and to read decisions."""
        return open_database(self.database or f"sqlite:///{self.folder / 'home' / 'records.db'}")

    def version(self, name: str, dice: float = 0.9, measured: bool = True) -> str:
        """Register a version; with `measured`, the records know the Dice of its test images."""
        self.made += 1
        document = evaluation(scores(dice))
        number = register(self.client, name, self.folder / "made" / f"model {self.made}", document)
        if measured:
            self.plant(name, number, dice)
        return number

    def plant(self, name: str, version: str, dice: float, by: str = "grace") -> None:
        """Keep a Dice as if it had been measured."""
        document = evaluation(scores(dice))
        planted = Measured(
            version_digest=self.client.get_model_version(name, version).tags["version_digest"],
            kind=SCORES,
            content=document.model_dump_json(),
            measured_by=by,
            measured_at=datetime(2026, 1, 1, tzinfo=UTC),
            fingerprint=document.fingerprint,
        )
        keep(self.records, planted)

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        user: str = "",
    ) -> Answer:
        """Send a request byte for byte as it is written here: no path is normalised, no method put in capitals.

        Args:
            user: whose name and `PASSWORD` go with it.
        """
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            given = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
            if user:
                given["Authorization"] = f"Basic {base64.b64encode(f'{user}:{PASSWORD}'.encode()).decode()}"
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders(content)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def decide(self, verb: str, name: str, /, *, user: str = "", **more: Any) -> Answer:
        """Ask for a decision over this platform's own routes."""
        return self.send("POST", f"/api/lifecycle/{verb}", {"name": name, **more}, user=user)

    def promoted(self, name: str, dice: float = 0.9) -> str:
        """A version that is live."""
        version = self.version(name, dice)
        answer = self.decide("promote", name, version=version, stage="Production")
        assert answer.status == 200, answer.text
        return version

    def live(self, name: str) -> Live:
        """Look past the server, into its tables and its artifact store."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder / 'mlflow.db'}?mode=ro", uri=True)) as tables:
            stage = tables.execute(
                "SELECT version, storage_location FROM model_versions WHERE name = ? AND current_stage = 'Production'",
                (name,),
            ).fetchall()
            alias = tables.execute(
                "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'", (name,)
            ).fetchone()
        files = {}
        for _, location in stage:
            root = self.folder / "artifacts" / location.removeprefix("mlflow-artifacts:/")
            files |= {str(path.relative_to(root)): digest(path) for path in root.rglob("*") if path.is_file()}
        return Live([str(version) for version, _ in stage], alias and str(alias[0]), files)

    def place(self, name: str, version: str) -> str:
        """Where a version's files are, below the root of what the server stores."""
        return self.client.get_model_version_download_uri(name, version).removeprefix("mlflow-artifacts:/")

    def rows(self, name: str) -> list[tuple[str, str, str]]:
        """The decisions: what, on which version, by whom."""
        return [(row.action, row.version, row.actor) for row in audit.history(self.records, name)]

    def command(self, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """One of this platform's commands, whose home is another than the server's."""
        return subprocess.run(
            [sys.executable, "-m", "registry", *words],
            cwd=ROOT,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": self.url,
                "RESUNET_HOME": str(self.folder / "elsewhere"),
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def log(self) -> str:
        return self.running.log.read_text(errors="replace")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def guarded_server(
    folder: Path,
    *,
    app: str = GUARDED,
    policy: str = POLICY,
    environment: Mapping[str, str] | None = None,
    more: Sequence[str] = (),
) -> Iterator[GuardedServer]:
    """Run one until the block ends."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(policy)
    own = {
        "RESUNET_HOME": str(home),
        "RESUNET_DATABASE": "",
        "RESUNET_POLICY": str(folder / "policy.yaml"),
        **(environment or {}),
    }
    with watched_tracking_server(with_tables(folder), app=app, environment=own, more=more) as running:
        yield GuardedServer(running, folder, database=own["RESUNET_DATABASE"])


@pytest.fixture(scope="session")
def gate_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    """One that lives as long as the session. Name your own models."""
    with guarded_server(tmp_path_factory.mktemp("guarded")) as server:
        yield server

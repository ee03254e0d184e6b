"""`python -m pipelines demo`: the whole path, and nothing left running behind it."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from commands import typed
from gate_evidence import overlap
from guarded_server import GuardedServer, guarded_server
from rich.console import Console
from small_versions import evaluation, lineage, register, scores
from waiting import until

from pipelines import demo_promotion
from pipelines.demo_promotion import Steps, promote_in_demo
from records.evidence import Measured, keep
from registry.evidence import Evaluation, Lineage, Overlap
from registry.evidence.documents import SCORES
from registry.versions import read_model
from resunet.errors import ResunetError

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_S = 420.0
# Those of the platform's own gates that the demo goes by itself; the README's commands ask all of them.
POLICY = """
format: 1
stages:
  Staging: {intact: , evaluated: }
  Production: {intact: , evaluated: , floor: {dice: 0.7}, champion: {margin: 0.01}}
"""


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
    return kept | {"RESUNET_HOME": str(home), "COLUMNS": "160"}


def _processes_of(home: Path) -> list[psutil.Process]:
    """Every process whose command line or environment names this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) or process.environ().get("RESUNET_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _ends_with_nothing_left(home: Path, seconds: float) -> None:
    until(lambda: not _processes_of(home), lambda: str(_processes_of(home)), seconds, every=0.2)


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_demo_goes_the_whole_path_and_sees_the_shift(tmp_path: Path) -> None:
    home = tmp_path / "a home"
    (tmp_path / "policy.yaml").write_text(POLICY)
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines", "demo", "--epochs", "4", "--width", "8", "--no-keep-open"],
        cwd=PROJECT,
        env=_environment(home) | {"RESUNET_POLICY": str(tmp_path / "policy.yaml")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    # However slow a machine is, the demo is not.
    assert "--max-minutes 1.5 --epochs 4" in ran.stdout
    summary = ran.stdout[ran.stdout.index("What you have now") :]
    assert re.search(r"resunet 1, in Production", summary)
    dice = re.search(r"Dice on the test split\W+([0-9.]+)", summary)
    assert dice is not None and float(dice.group(1)) > 0.75
    assert re.search(r"normal images\W+no drift", summary)
    assert re.search(r"shifted images\W+drift", summary)
    for kind in ("normal", "shifted"):
        folder = home / "demo" / f"drift-{kind}"
        assert (folder / "evidently.html").stat().st_size > 10_000
        assert (folder / "drift.png").stat().st_size > 1_000
    _ends_with_nothing_left(home, 15)


def test_a_demo_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "demo", "--no-keep-open"],
        cwd=PROJECT,
        env=_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "train, evaluate" in line:
                break
        assert len(_processes_of(home)) >= 2
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        process.wait(60)
    finally:
        process.kill()
    _ends_with_nothing_left(home, 30)


@dataclass
class Demos:
    """Demo after demo of one model, each from the moment that it has trained a version.

    What measuring would find lies in the records already: these versions hold no network.
    """

    server: GuardedServer
    name: str
    dice: dict[str, float] = field(default_factory=dict)
    shown: io.StringIO = field(default_factory=io.StringIO)

    @property
    def live(self) -> str | None:
        return read_model(self.server.client, self.name).live

    def go_live(self, dice: float) -> str:
        """Put a version there that a demo finds when it starts."""
        number = self._trained(dice, 12)
        answer = self.server.decide("promote", self.name, version=number, stage="Production")
        assert answer.status == 200, answer.text
        return number

    def run(self, dice: float, images: int = 12) -> str:
        """What is live after a demo whose version has this Dice on so many test images."""
        live = self.live
        number = self._trained(dice, images)
        if live is not None:
            ours, theirs = _measured(dice, images), _measured(self.dice[live], 12)
            self._plant(live, _measured(self.dice[live], images))
            self._plant(number, overlap(ours, theirs), beside=live)
        home = self.server.folder / "home"
        variables = {**_environment(home), "MLFLOW_TRACKING_URI": self.server.url}
        variables["RESUNET_DATABASE"] = f"sqlite:///{home / 'records.db'}"
        steps = Steps(variables, Console(file=self.shown, width=400))
        return promote_in_demo(steps, self.server.client, self.name, number)

    def _trained(self, dice: float, images: int) -> str:
        measured = _measured(dice, images)
        folder = self.server.folder / "of demos" / self.name / str(len(self.dice))
        number = register(self.server.client, self.name, folder, measured)
        self._plant(number, lineage(measured))
        self._plant(number, measured)
        self.dice[number] = dice
        return number

    def _digest(self, version: str) -> str:
        return str(self.server.client.get_model_version(self.name, version).tags["version_digest"])

    def _plant(self, version: str, document: Evaluation | Lineage | Overlap, beside: str = "") -> None:
        planted = Measured(
            version_digest=self._digest(version),
            kind=SCORES if isinstance(document, Evaluation) else document.kind,
            content=document.model_dump_json(),
            measured_by="grace",
            measured_at=datetime(2026, 1, 1, tzinfo=UTC),
            fingerprint=document.fingerprint,
            champion_digest=beside and self._digest(beside),
        )
        keep(self.server.records, planted)


def _measured(dice: float, images: int) -> Evaluation:
    """On the first so many of twelve test images, which are a test split of their own."""
    return evaluation(dict(list(scores(dice).items())[:images]), f"sha256:{images}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    with guarded_server(tmp_path_factory.mktemp("demos"), policy=POLICY) as server:
        yield server


@pytest.fixture
def demos(server: GuardedServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Demos:
    def run(command: list[str], variables: dict[str, str]) -> int:
        assert command[:3] == [sys.executable, "-m", "registry"]
        return typed(variables, *command[3:]).returncode

    monkeypatch.setattr(demo_promotion, "_run", run)
    return Demos(server, request.node.name)


def test_where_the_next_demo_is_worse_the_live_version_stays(demos: Demos) -> None:
    one = demos.go_live(0.95)
    assert demos.run(0.80) == one == demos.live
    told = demos.shown.getvalue()
    assert "champion: Dice -0.1500" in told and f"So version {one} stays live, and the demo goes on with it." in told
    assert "archive" not in told
    assert read_model(demos.server.client, demos.name).in_stage("Staging") == ["2"]


def test_a_live_version_that_cannot_be_compared_with_is_archived_first(demos: Demos) -> None:
    one = demos.go_live(0.95)
    assert demos.run(0.90, images=8) == "2" == demos.live
    (told,) = [line for line in demos.shown.getvalue().splitlines() if "The demo archives" in line]
    why, _, rest = told.partition(". The demo archives ")
    assert why.startswith(f"champion: it is tested on 8 of the 12 test images of version {one}")
    assert rest.startswith(f"version {one}, so that version 2 can go live without a comparison.")
    assert [row[:2] for row in demos.server.rows(demos.name)][-2:] == [("archive", one), ("promote", "2")]


def test_what_the_gates_refuse_for_its_own_sake_ends_the_demo(demos: Demos) -> None:
    one = demos.go_live(0.95)
    with pytest.raises(ResunetError, match="promote to Production"):
        demos.run(0.60)
    assert demos.live == one

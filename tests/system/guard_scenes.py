"""What is live on a guarded server, and what somebody tries to put in its place."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from guarded_server import Answer, GuardedServer, Live

from records import audit

WEAK = "floor: fail: mean Dice 0.5000 < 0.7000"
REGISTERED = "which is registered"


@dataclass
class Doors:
    """A model whose good version is live, and a weak one that no gate lets in."""

    server: GuardedServer
    name: str
    good: str
    weak: str
    before: Live

    def unchanged(self) -> None:
        assert self.server.live(self.name) == self.before
        assert self.before.stage == [self.good] and self.before.alias == self.good and self.before.files

    def move(self, unit: str, **more: object) -> Answer:
        body = {"name": self.name, "version": self.weak, "stage": "Production", **more}
        return self.server.send("POST", f"{unit}/model-versions/transition-stage", body)

    def alias(self, unit: str, alias: str, method: str = "POST") -> Answer:
        body = {"name": self.name, "alias": alias, "version": self.weak}
        if method == "DELETE":
            del body["version"]
        return self.server.send(method, f"{unit}/registered-models/alias", body)


@pytest.fixture
def doors(gate_server: GuardedServer, request: pytest.FixtureRequest) -> Iterator[Doors]:
    name = re.sub(r"\W+", "-", request.node.name)
    good, weak = gate_server.promoted(name), gate_server.version(name, 0.5)
    made = Doors(gate_server, name, good, weak, gate_server.live(name))
    yield made
    made.unchanged()
    assert audit.verify(gate_server.records) is None


@dataclass
class Kept:
    """A model with a live version."""

    server: GuardedServer
    name: str
    version: str
    before: Live

    @property
    def place(self) -> str:
        return self.server.place(self.name, self.version)

    @property
    def model_id(self) -> str:
        return str(self.server.client.get_model_version(self.name, self.version).source).removeprefix("models:/")

    def unchanged(self) -> None:
        assert self.server.live(self.name) == self.before
        assert self.before.stage == [self.version] and len(self.before.files) == 4


@pytest.fixture
def kept(gate_server: GuardedServer, request: pytest.FixtureRequest) -> Iterator[Kept]:
    name = re.sub(r"\W+", "-", request.node.name)
    version = gate_server.promoted(name)
    made = Kept(gate_server, name, version, gate_server.live(name))
    yield made
    made.unchanged()


def refused(answer: Answer, told: str = WEAK) -> None:
    """A refusal in MLflow's shape that says why."""
    assert answer.status in (400, 403), answer
    assert told in answer.message, answer


def stays(answer: Answer, told: str = REGISTERED) -> None:
    """A refusal to change files."""
    assert answer.status == 400, answer
    assert told in answer.message, answer


def resolved(server: GuardedServer, name: str) -> str:
    """The version to which MLflow's client resolves `models:/name/Production`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (live,) = server.client.get_latest_versions(name, ["Production"])
    return str(live.version)

"""How long a client may take over an answer, on a clock that is set."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from serving.gateway.connections import connections

PATIENCE_S = 60.0
LOOKS_S = PATIENCE_S / 2


class Loop:
    """As much of an event loop as a connection needs before its first request; its clock is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def call_later(self, _seconds: float, call: Callable[[], None]) -> Any:
        self.due = call


class Transport(asyncio.Transport):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent, self.aborted = 0, False

    def write(self, data: Any) -> None:
        self.unsent += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True


class Scene:
    """A connection, its client, and time that goes by."""

    def __init__(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            pass

        self.loop, self.transport = Loop(), Transport()
        make: Any = connections(PATIENCE_S)
        self.connection = make(uvicorn.Config(app, lifespan="off"), ServerState(), {}, _loop=self.loop)
        self.connection.connection_made(self.transport)

    def goes_on(self, takes: int, refills: bool = False) -> bool:
        """Time until the next look; the client takes so much. Whether it is still there."""
        self.transport.unsent -= takes
        if refills:
            self.connection.transport.write(bytes(takes))
        self.loop.now += LOOKS_S
        self.loop.due()
        return not self.transport.aborted


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.connection.transport.write(bytes(100_000_000))
    return scene


def test_who_takes_a_little_now_and_then_does_not_keep_an_answer(scene: Scene) -> None:
    looks = [scene.goes_on(takes=1000) for _ in range(4)]
    assert looks == [True, True, True, False]  # at 30 s it was first seen; 60 s of grace end at 90 s


@pytest.mark.parametrize("refills", [False, True], ids=["one piece", "many pieces"])
def test_who_takes_enough_is_waited_for(scene: Scene, refills: bool) -> None:
    assert all(scene.goes_on(takes=1_600_000, refills=refills) for _ in range(50))


def test_who_has_taken_all_begins_anew(scene: Scene) -> None:
    assert all(scene.goes_on(takes=1000) for _ in range(3))
    assert scene.goes_on(takes=scene.transport.unsent)
    scene.connection.transport.write(bytes(1_000_000))
    assert all(scene.goes_on(takes=1000) for _ in range(3))
    assert not scene.goes_on(takes=1000)


def test_who_takes_nothing_is_dropped_sooner(scene: Scene) -> None:
    assert scene.goes_on(takes=0)
    assert not scene.goes_on(takes=0)

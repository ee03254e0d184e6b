"""One request of a gateway in which a candidate answers too: what is kept for it, and until when."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Listener
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from starlette.requests import Request

from resunet.errors import RecordsError
from serving.gateway.answering import Answering
from serving.gateway.desk import Desk, DeskSettings
from serving.gateway.fleet import Way
from serving.gateway.rollouts.twins import Twins
from serving.request import Options, Row
from serving.rollout.assignment import Assigned, Epoch
from serving.service import Call

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROW = Row(0, bytes(1_000_000), "mine", None, None)
DONE: Any = SimpleNamespace(prediction=SimpleNamespace(confidence=0.9, mask=np.zeros((1000, 1000), np.uint8)))
Make = Callable[[Options], Call]


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    """On their way to somebody who takes none."""
    address, twins = str(tmp_path / "twins"), Twins()
    with Listener(address, "AF_UNIX"):
        twins.direct(address)
        yield twins
        twins.direct(None)


def answer_one(make_call: Make, then: Callable[[], None]) -> str:
    call = make_call(Options(None, "png"))
    call.asked([ROW])
    call.seen(DONE)
    then()
    return "answered"


def asked(twins: Twins, then: Callable[[], None]) -> tuple[Answering, BaseException | None]:
    """One request for one image; what it is afterwards, and what it raised."""

    async def ask() -> tuple[Answering, BaseException | None]:
        async def nothing_more() -> dict[str, str]:
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        desk, request = Desk(DeskSettings(threads=1)), Request({"type": "http", "headers": []}, nothing_more)
        live = SimpleNamespace(service=SimpleNamespace(identity=SimpleNamespace(version="1")))
        parts = SimpleNamespace(
            way=lambda *_: Way(cast(Any, live), Assigned(Epoch("r", 1), "production", 7, True)),
            call=lambda *_: lambda options, **more: Call(options, NOON, time.monotonic() + 60, caller=None, **more),
            twins=twins,
            fleet=SimpleNamespace(seen=SimpleNamespace(record=lambda *_: None)),
        )
        raised: BaseException | None = None
        async with desk.visit(request) as visit:
            answering = Answering(cast(Any, parts), request, visit, cast(Any, None))
            try:
                await answering.work(lambda _, make_call: answer_one(make_call, then))
            except RecordsError as error:
                raised = error
        desk.close()
        return answering, raised

    return asyncio.run(asyncio.wait_for(ask(), 60))


def test_a_request_that_fails_keeps_nothing_for_the_shadow_whoever_still_holds_its_error(twins: Twins) -> None:
    def fail() -> None:
        raise RecordsError("the spool is full")

    gc.disable()
    try:
        failed = [asked(twins, fail) for _ in range(3)]
    finally:
        gc.enable()
    assert all(isinstance(error, RecordsError) for _, error in failed)
    assert (twins._held, twins.skipped) == (0, 0)


def test_what_an_answer_keeps_for_the_shadow_is_offered_after_it_and_takes_room_until_then(twins: Twins) -> None:
    answering, error = asked(twins, lambda: None)
    assert error is None
    assert twins._held >= 2_000_000 and not twins._waiting
    after = answering.after()
    assert after is not None and answering.after() is None
    asyncio.run(after())
    del answering
    assert twins.skipped == 0
    twins.direct(None)
    assert not after.args[1]

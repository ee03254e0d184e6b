"""The desk, where requests are worked on, alone: what becomes of an error, and of what its way held."""

import asyncio
import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from resunet.errors import ImageError
from serving.errors import LateError
from serving.gateway.desk import Desk, DeskSettings


def test_what_is_raised_when_nobody_waits_any_more_is_no_line_of_the_log() -> None:
    told: list[Any] = []

    async def leave_early() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        desk, ends = Desk(DeskSettings(threads=1)), threading.Event()

        def job() -> None:
            ends.wait(30)
            raise ImageError("of an image that nobody waits for")

        async def gone() -> dict[str, str]:
            return {"type": "http.disconnect"}

        with pytest.raises(LateError):
            async with desk.visit(Request({"type": "http", "headers": []}, gone)) as visit:
                await visit.work(job)
        ends.set()
        while desk.visits:
            await asyncio.sleep(0.01)
        desk.close()

    asyncio.run(asyncio.wait_for(leave_early(), 60))
    gc.collect()  # asyncio tells of it when the future goes
    assert not told


def test_what_a_refused_image_took_is_free_while_its_error_is_still_told() -> None:
    held: list[weakref.ref[Any]] = []

    async def ask() -> ImageError:
        desk = Desk(DeskSettings(threads=1))

        def decode() -> None:
            pixels = np.zeros((1000, 1000, 3), np.uint8)
            held.append(weakref.ref(pixels))
            try:
                raise OSError("truncated")
            except OSError as error:
                raise ImageError("of an image that was decoded") from error

        async def there() -> dict[str, str]:
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        with pytest.raises(ImageError) as refused:
            async with desk.visit(Request({"type": "http", "headers": []}, there)) as visit:
                await visit.work(decode)
        desk.close()
        return refused.value

    error = asyncio.run(asyncio.wait_for(ask(), 60))
    assert held[0]() is None
    assert error.__traceback__ is not None  # where it was raised can still be logged

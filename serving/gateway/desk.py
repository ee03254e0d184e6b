"""Where a request waits, and what it may hold meanwhile: everything between the event loop and the threads that work.

    desk = Desk(DeskSettings(threads=6, waiting=64))
    async with desk.visit(request) as visit:            # BusyError where all places are taken
        body = await visit.body()                       # TooLargeError, BusyError
        answer = await visit.work(lambda: score(body, visit.deadline, visit.cancelled))

The event loop only moves bytes. A visit holds one of `threads + waiting` places from its first byte to its answer, and
the bytes of its body count against one sum for all: past either the answer is 503 at once, and memory stays bounded
however many clients come. When the time of a request is over, or its client is gone, its place is free again as soon as
the thread that works on it has seen so, between two tiles or two images.

Labels have places and threads of their own: they wait for a database, and predictions never do.
"""

import asyncio
import io
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from starlette.requests import ClientDisconnect, Request

from serving.errors import BusyError, LateError, SlowError, TooLargeError
from serving.scoring import largest_body_bytes, too_large_body

T = TypeVar("T")
Kind = Literal["predictions", "labels"]
_LENGTH_DIGITS = 15


@dataclass(frozen=True)
class DeskSettings:
    """What all requests of a process may hold.

    Attributes:
        threads: requests that are worked on at a time.
        waiting: requests that wait for a thread.
        label_threads, label_waiting: the same of labels, which are beside them.
        request_seconds: after so long a request is answered 504, or 408 where its body has not come.
        max_image_mb: images of a request have at most so many MB; its body follows from it.
        held_bytes: of the bodies of all requests together; at least one body of the largest size.
    """

    threads: int
    waiting: int = 64
    label_threads: int = 2
    label_waiting: int = 16
    request_seconds: float = 60.0
    max_image_mb: int = 512
    held_bytes: int = 1_500_000_000

    @property
    def body_bytes(self) -> int:
        """The largest body."""
        return largest_body_bytes(self.max_image_mb)


@dataclass
class _Places:
    """Those of requests of one kind, with how many are taken, and the threads that work on them."""

    pool: ThreadPoolExecutor
    most: int
    taken: int = 0


class Desk:
    """The places of a process, and the threads that work."""

    def __init__(self, settings: DeskSettings) -> None:
        self.settings = settings
        self._places: dict[Kind, _Places] = {
            "predictions": _Places(
                ThreadPoolExecutor(settings.threads, thread_name_prefix="gateway-work"),
                settings.threads + settings.waiting,
            ),
            "labels": _Places(
                ThreadPoolExecutor(settings.label_threads, thread_name_prefix="gateway-labels"),
                settings.label_threads + settings.label_waiting,
            ),
        }
        self._held = 0

    @property
    def visits(self) -> int:
        """Requests that are here now."""
        return sum(places.taken for places in self._places.values())

    @property
    def held_bytes(self) -> int:
        """What their bodies hold."""
        return self._held

    @asynccontextmanager
    async def visit(self, request: Request, kind: Kind = "predictions") -> AsyncIterator["Visit"]:
        """Let a request in, until the block ends.

        Args:
            kind: whose places and threads it takes.

        Raises:
            BusyError: all places are taken; nothing is waited for.
        """
        places = self._places[kind]
        if places.taken >= places.most:
            raise BusyError("the server is busy and its queue is full; send the request again later")
        places.taken += 1
        visit = Visit(self, request, places)
        try:
            yield visit
        finally:
            visit.leave()

    def close(self) -> None:
        """Let the threads end with what they are working on."""
        for places in self._places.values():
            places.pool.shutdown(wait=False, cancel_futures=True)

    def _hold(self, count: int) -> None:
        if self._held + count > max(self.settings.held_bytes, self.settings.body_bytes):
            raise BusyError("the server holds as many images as it may; send the request again later")
        self._held += count


class Visit:
    """One request at the desk. All but `cancelled` and `deadline` is the event loop's."""

    def __init__(self, desk: Desk, request: Request, places: _Places) -> None:
        self._desk = desk
        self._places = places
        self._request = request
        self._held = 0
        self._gone = threading.Event()
        self._job: Future[Any] | None = None
        self.deadline = time.monotonic() + desk.settings.request_seconds

    @property
    def cancelled(self) -> Callable[[], bool]:
        """Tells whether nobody waits any more; for the thread that works."""
        return self._gone.is_set

    async def body(self) -> bytes:
        """Read the request's body.

        Raises:
            TooLargeError: it is larger than any body may be.
            BusyError: the bodies of all requests are.
            SlowError: it did not come in time.
            LateError: the client is gone.
        """
        limit = self._desk.settings.body_bytes
        announced = self._request.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and (len(announced) > _LENGTH_DIGITS or int(announced) > limit):
            raise TooLargeError(too_large_body(self._desk.settings.max_image_mb))
        try:
            async with asyncio.timeout(self._left()):
                whole = io.BytesIO()  # hands its memory over in the end, where joining parts would copy it
                async for part in self._request.stream():
                    self._desk._hold(len(part))
                    self._held += len(part)
                    if self._held > limit:
                        raise TooLargeError(too_large_body(self._desk.settings.max_image_mb))
                    whole.write(part)
        except TimeoutError:
            raise SlowError("the request's body did not come in time; send it faster") from None
        except ClientDisconnect:
            raise LateError("the client is gone") from None
        return whole.getvalue()

    async def work(self, job: Callable[[], T]) -> T:
        """Run a job in a thread and wait for it, while the client waits and its time lasts.

        Raises:
            LateError: one of the two is over. The job goes on until it sees so.
        """
        self._job = job_done = self._places.pool.submit(_without_frames, job)
        answer, gone = asyncio.wrap_future(job_done), asyncio.ensure_future(self._disconnected())
        waited: set[asyncio.Future[Any]] = {answer, gone}
        try:
            await asyncio.wait(waited, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise LateError(
                "the client is gone"
                if gone.done()
                else "the server's time for a request is over; send smaller or fewer images"
            )
        finally:
            gone.cancel()
            answer.cancel()  # else asyncio logs what the job raises when nobody waits any more

    def leave(self) -> None:
        """Give the place back, when the thread that works has seen that nobody waits."""
        self._gone.set()
        if self._job is None or self._job.cancel() or self._job.done():
            self._give_back()
        else:
            loop = asyncio.get_running_loop()
            self._job.add_done_callback(lambda job: loop.call_soon_threadsafe(self._give_back))

    def _give_back(self) -> None:
        self._places.taken -= 1
        self._desk._held -= self._held

    def _left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    async def _disconnected(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass


def _without_frames(job: Callable[[], T]) -> T:
    """Do a job; what it raises forgets the variables on its way, with an image of up to 300 MB among them.

    The one who waits for a job holds its error, and the error holds the one who waits: without this both would stay
    until the garbage collector comes round, which counts objects, not bytes.
    """
    try:
        return job()
    except BaseException as error:
        raised: BaseException | None = error
        while raised is not None:
            traceback.clear_frames(raised.__traceback__)
            raised = raised.__cause__ or raised.__context__
        raise

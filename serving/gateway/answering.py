"""The way of one request: which version answers it, and what a rollout learns from that.

    async with parts.desk.visit(request) as visit:
        body = await visit.body()
        answering = Answering(parts, request, visit, caller)
        content = await answering.work(lambda live, call_with: …)
    return Response(content, background=answering.after)

Without a rollout this is the version that is live, and nothing more.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.background import BackgroundTask

from serving.access.gate import Caller
from serving.errors import status_of
from serving.gateway.desk import Visit
from serving.gateway.fleet import LANES, Live, Way
from serving.gateway.observed import note
from serving.gateway.parts import Parts
from serving.gateway.rollouts.twins import Twin
from serving.request import Options, Row
from serving.rollout.cells import Answer
from serving.scoring import RequestError
from serving.service import Call, Done

T = TypeVar("T")
_FAILURES: Final = frozenset({413, 500, 504})


@dataclass(frozen=True)
class _Judged:
    """What a rollout needs of an image that was answered; its pixels are not in it, which nobody would count.

    Attributes:
        confidence: of the answer.
        mask: (H, W) uint8 of class indices, where the candidate is to be compared with it.
    """

    confidence: float
    mask: NDArray[np.uint8] | None


class Answering:
    """One request, from when its version is chosen on; of one version to its end.

    Args:
        parts: of the gateway.
        request: is asked for its id and its headers.
        visit: of it at the desk.
        caller: who asks.
        version: that the client names; None: it takes what comes.

    Raises:
        BusyError: no version is live.
    """

    def __init__(
        self, parts: Parts, request: Request, visit: Visit, caller: Caller, version: str | None = None
    ) -> None:
        self._parts, self._visit = parts, visit
        way = parts.way(request, caller)
        self._way = _named(parts, way, version) if version is not None else way
        note(request, "version", self.live.service.identity.version)
        self._call = parts.call(request, visit, caller)
        self._rows: Sequence[Row] = ()
        self._done: list[_Judged] = []
        self._call_made: Call | None = None
        self._took_ms = 0.0

    @property
    def live(self) -> Live:
        """The version that answers."""
        return self._way.live

    async def work(self, job: Callable[[Live, Callable[[Options], Call]], T]) -> T:
        """Run the job that answers, in a thread of the desk.

        Args:
            job: is given the version, and what makes the call of its service.

        Raises:
            Exception: whatever the job does.
        """
        started = time.perf_counter()
        try:
            answer = await self._visit.work(lambda: job(self.live, self._make_call))
        except Exception as error:
            if self._blames_version(error):
                self._learn(ok=False)
            raise
        finally:
            self._took_ms = (time.perf_counter() - started) * 1000
        self._learn(ok=True)
        return answer

    @property
    def after(self) -> BackgroundTask | None:
        """What is to be done once the answer is sent."""
        assigned = self._way.assigned
        return BackgroundTask(self._offer) if assigned is not None and assigned.shadowed and self._rows else None

    def _make_call(self, options: Options) -> Call:
        if self._way.assigned is None:
            return self._call(options)
        self._call_made = self._call(options, asked=self._asked, seen=self._seen)
        return self._call_made

    def _asked(self, rows: Sequence[Row]) -> None:
        self._rows = tuple(rows)

    def _seen(self, done: Done) -> None:
        assigned = self._way.assigned
        mask = done.prediction.mask if assigned is not None and assigned.shadowed else None
        self._done.append(_Judged(done.prediction.confidence, mask))

    def _learn(self, ok: bool) -> None:
        """Count what the version did; a request without an image says nothing about it."""
        if self._way.assigned is None or (ok and not self._done):
            return
        self._parts.fleet.seen.record(self._way.assigned, self._answer(self._done, ok))
        if not ok and len(self._done) < len(self._rows):  # how would the other one have done?
            self._offer_one(self._rows[len(self._done)], Answer(ok=False), None)

    def _answer(self, done: Sequence[_Judged], ok: bool) -> Answer:
        if not ok:
            return Answer(ok=False)
        return Answer(True, self._took_ms, sum(one.confidence for one in done) / len(done))

    def _blames_version(self, error: Exception) -> bool:
        """Whether a failure counts as the version's: an error of the server, an image that it cannot take, or a client
        that waited no longer. Clients that go for reasons of their own do so whoever answers them.
        """
        status = error.get_http_status_code() if isinstance(error, RequestError) else status_of(error)
        return status in _FAILURES

    async def _offer(self) -> None:
        """Have the images answered again, for nobody."""
        for row, done in zip(self._rows, self._done, strict=True):
            self._offer_one(row, self._answer([done], ok=True), done.mask)

    def _offer_one(self, row: Row, champion: Answer, mask: NDArray[np.uint8] | None) -> None:
        assigned, call = self._way.assigned, self._call_made
        if assigned is not None and assigned.shadowed and call is not None:
            self._parts.twins.offer(Twin(assigned, row, call.options, call.received, champion, mask))


def _named(parts: Parts, way: Way, version: str) -> Way:
    """The version that a client names, where it is here; who chooses is not drawn, and teaches nothing."""
    for lane in LANES:
        live = parts.fleet.on(lane)
        if live is not None and live.service.identity.version == version:
            return Way(live)
    return Way(way.live)

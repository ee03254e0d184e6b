"""The way of one request: which version answers it, and what a rollout learns from that.

    async with parts.desk.visit(request) as visit:
        body = await visit.body()
        answering = Answering(parts, request, visit, caller)
        content = await answering.work(lambda live, call_with: …)
    return Response(content, background=answering.after())

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
from serving.gateway.rollouts.twins import Kept, Twin, Twins
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
        kept: for the candidate that is to be compared with it; None: it is not, or there was no room.
    """

    confidence: float
    kept: Kept | None


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
        # None: it failed, and whatever a thread still does for it counts no more.
        self._done: list[_Judged] | None = []
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
        except BaseException as error:
            if isinstance(error, Exception) and self._blames_version(error):
                self._learn(ok=False)
            # The error and the call refer to this, and it to them: what is kept here would stay until the garbage
            # collector comes round.
            self._rows, self._done = (), None
            raise
        finally:
            self._took_ms = (time.perf_counter() - started) * 1000
        self._learn(ok=True)
        return answer

    def after(self) -> BackgroundTask | None:
        """What is to be done once the answer is sent, asked for once; no more is kept for it than there is room for."""
        done = self._done or []
        twins = [self._twin(one.kept, self._answer([one], ok=True)) for one in done if one.kept is not None]
        self._rows, self._done = (), None
        return BackgroundTask(_offer, self._parts.twins, twins) if twins else None

    def _make_call(self, options: Options) -> Call:
        if self._way.assigned is None:
            return self._call(options)
        self._call_made = self._call(options, asked=self._asked, seen=self._seen)
        return self._call_made

    def _asked(self, rows: Sequence[Row]) -> None:
        self._rows = tuple(rows)

    def _seen(self, done: Done) -> None:
        rows, mine = self._rows, self._done
        if mine is not None and len(mine) < len(rows):
            mine.append(_Judged(done.prediction.confidence, self._kept(rows[len(mine)], done.prediction.mask)))

    def _kept(self, row: Row, mask: NDArray[np.uint8] | None) -> Kept | None:
        assigned = self._way.assigned
        return self._parts.twins.keep(row, mask) if assigned is not None and assigned.shadowed else None

    def _twin(self, kept: Kept, champion: Answer) -> Twin:
        assigned, call = self._way.assigned, self._call_made
        assert assigned is not None and call is not None  # where nothing is assigned nothing is kept
        return Twin(assigned, kept, call.options, call.received, champion)

    def _learn(self, ok: bool) -> None:
        """Count what the version did; a request without an image says nothing about it."""
        done = self._done or []
        if self._way.assigned is None or (ok and not done):
            return
        self._parts.fleet.seen.record(self._way.assigned, self._answer(done, ok))
        if not ok and len(done) < len(self._rows):  # how would the other one have done?
            kept = self._kept(self._rows[len(done)], None)
            if kept is not None:
                self._parts.twins.offer(self._twin(kept, Answer(ok=False)))

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


async def _offer(twins: Twins, offered: list[Twin]) -> None:
    """Have images answered again, for nobody."""
    while offered:
        twins.offer(offered.pop(0))


def _named(parts: Parts, way: Way, version: str) -> Way:
    """The version that a client names, where it is here; who chooses is not drawn, and teaches nothing."""
    for lane in LANES:
        live = parts.fleet.on(lane)
        if live is not None and live.service.identity.version == version:
            return Way(live)
    return Way(way.live)

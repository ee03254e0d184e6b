"""A version at work: the images of a request in, their answers out. The one scoring path of every server.

    service = Service(predictor, identity, WorkBudget(threads=6, wait_s=30), logbook)
    call = Call(options, received=datetime.now(UTC), deadline=time.monotonic() + 60)
    masks = service.answer(rows, call, lambda done: encode_png(done.prediction.mask))

A call works in the caller's thread, so that many of them run side by side; the budget bounds what they hold. What is
answered is on record before the answer is returned.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from resunet.tiling import Tile
from serving.budget import SMALL_PIXELS, WorkBudget
from serving.errors import LateError, RowError, TooLargeError
from serving.identity import Identity
from serving.logbook import Logbook
from serving.predictor import Prediction, Predictor
from serving.request import Options, Row, decode, measure

if TYPE_CHECKING:
    from records.rows import PredictionRow

Encoded = TypeVar("Encoded")
# Is told a tile and the network's probabilities (C, h, w) of what it keeps.
OnTile = Callable[[Tile, NDArray[np.float32]], None]


@dataclass(frozen=True)
class Call:
    """What all rows of a request share.

    Attributes:
        options: threshold and form of the mask.
        received: when the request came in, with a zone.
        deadline: when its work ends in any case, on the clock of `time.monotonic`; None: never.
        cancelled: whether nobody waits for the answer any more.
        advice: what may be done when the deadline is over.
        request_id: of the request; its only image goes by it where that has no id of its own.
        caller: who asks, as far as that was proved; None where nobody has to.
        named: is told the id that the only image of a request goes by in the log, before anything is done with it.
        charge: is told how many images there are, and their pixels together, before any is decoded; it may refuse.
        asked: is told the rows, before any is predicted.
        seen: is shown each image as soon as it is answered.
    """

    options: Options
    received: datetime
    deadline: float | None = None
    cancelled: Callable[[], bool] = lambda: False
    advice: str = "; send smaller or fewer images"
    request_id: str | None = None
    caller: str | None = None
    named: Callable[[str], None] = lambda request_id: None
    charge: Callable[[int, int], None] = lambda images, pixels: None
    asked: Callable[[Sequence[Row]], None] = lambda rows: None
    seen: "Callable[[Done], None]" = lambda done: None

    def check_time(self) -> None:
        """Stop work that nobody waits for.

        Raises:
            LateError: the deadline is over, or the client is gone.
        """
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise LateError(f"the server's time for a request is over{self.advice}")
        if self.cancelled():
            raise LateError("the client is gone")


@dataclass(frozen=True)
class Done:
    """One image, (H, W, 3) uint8, and what the version says of it."""

    row: Row
    rgb: NDArray[np.uint8]
    prediction: Prediction


class Service:
    """One version that answers; safe to call from many threads.

    Args:
        predictor: of the version.
        identity: who it is; every answer and every row of the log names it.
        budget: bounds what all calls of the process hold at a time.
        logbook: where answers are written down; None: nowhere.
    """

    def __init__(
        self, predictor: Predictor, identity: Identity, budget: WorkBudget, logbook: Logbook | None = None
    ) -> None:
        self.predictor = predictor
        self.identity = identity
        self._budget = budget
        self._logbook = logbook

    def answer(
        self,
        rows: Sequence[Row],
        call: Call,
        encode: Callable[[Done], Encoded],
        watch: Callable[[int, int], OnTile | None] = lambda height, width: None,
    ) -> list[Encoded]:
        """Segment the images of a request; all are answered or none is.

        Args:
            rows: checked; see `serving.request.read_rows`.
            call: what they share.
            encode: makes the answer of an image, while its pixels are at hand.
            watch: who wants to be told the probabilities of an image of that height and width, tile by tile.

        Returns:
            What `encode` returned, in the order of the rows.

        Raises:
            RowError: an image cannot be answered; it is in the log as refused.
            TooLargeError, BusyError, LateError: the request is too much, too much now, or too late.
            RecordsError: it cannot be logged, so it may not be answered.
        """
        if len(rows) == 1:
            call.named(rows[0].request_id)
        try:
            return self._answer(rows, call, _Making(encode, watch, [], []))
        except RowError as error:
            if self._logbook is not None:
                self._logbook.note_refusal(error.row, call.received)
            raise

    def _answer(self, rows: Sequence[Row], call: Call, making: "_Making[Encoded]") -> list[Encoded]:
        costs = measure(rows)
        whole = sum(costs)
        call.charge(len(rows), whole)
        call.asked(rows)
        with self._budget.admit(whole):
            if whole <= SMALL_PIXELS:
                with self._budget.take(whole, call.deadline):
                    self._segment(rows, call, making)
            else:
                if len(rows) > 1:  # one bad image refuses the whole request, before any is predicted
                    for row, cost in zip(rows, costs, strict=True):
                        with self._budget.take(cost, call.deadline):
                            decode(row)
                # A turn an image: between two of them come those of others.
                for row, cost in zip(rows, costs, strict=True):
                    with self._budget.take(cost, call.deadline):
                        self._segment([row], call, making)
        if self._logbook is not None:
            call.check_time()
            self._logbook.append(making.entries)  # before the answer: what is answered is on record
        return making.answers

    def _segment(self, rows: Sequence[Row], call: Call, making: "_Making[Encoded]") -> None:
        """Add the answers of rows, and their entries for the log; all are decoded first."""
        images = [decode(row) for row in rows]
        for row, rgb in zip(rows, images, strict=True):
            call.check_time()
            started = time.perf_counter()
            watcher = making.watch(*rgb.shape[:2])

            def on_tile(tile: Tile, probabilities: NDArray[np.float32], watcher: OnTile | None = watcher) -> None:
                call.check_time()
                if watcher is not None:
                    watcher(tile, probabilities)

            try:
                prediction = self.predictor.predict(rgb, call.options.threshold, on_tile=on_tile)
            except TooLargeError as error:
                raise RowError(row, error) from None
            done = Done(row, rgb, prediction)
            making.answers.append(making.encode(done))
            call.seen(done)
            if self._logbook is not None:
                spec, threshold = self.predictor.spec, call.options.threshold
                latency_ms = (time.perf_counter() - started) * 1000
                making.entries.append(self._logbook.entry(row, prediction, spec, threshold, call.received, latency_ms))


@dataclass(frozen=True)
class _Making(Generic[Encoded]):
    """The answers of a request, and their entries for the log, as they come."""

    encode: Callable[[Done], Encoded]
    watch: Callable[[int, int], OnTile | None]
    answers: list[Encoded]
    entries: "list[PredictionRow]"

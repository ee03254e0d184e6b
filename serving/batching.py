"""Images of the same size in one run of the engine, where many ask at a time.

    engine = BatchingEngine(engine, most=4, wait_s=0.0, lanes=2)
    probabilities, embedding = engine.run(image)        # as of any engine; from many threads

There is no thread of its own: of those that wait, the first runs what has gathered, for all of them. A call that finds
a free lane runs at once, so that one client alone never waits for a second.

It is off unless it is asked for, because that measures best with the engine that serves. The rate at 2, 4 and 8 images
a run over that at 1 (width 32, 256x256, on 2 cores that others used too, so by CPU time; medians of 3 to 6 interleaved
rounds) was 1.00, 0.97 and 0.96 with OpenVINO in bf16, 0.93, 0.90 and 0.91 in int8, 0.99, 0.99 and 0.98 in fp32: one
image keeps two cores busy. With ONNX Runtime in fp32 it was 0.98, 1.11 and 1.21: there RESUNET_GATEWAY_BATCH=8 is worth
a try where many ask. In company the masks were the same in every pixel.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.engine import Engine, EngineChoice, Images, Output
from serving.errors import BusyError
from serving.version import VersionSpec

# What "the same answer everywhere" allows: the part of a mask's pixels that is the same alone and in company.
MIN_AGREEMENT: Final = 0.9999
# Eight of 256 x 256: of larger images one alone keeps all cores busy, and memory stays bounded.
_MOST_PIXELS: Final = 1 << 19


class Counted:
    """An engine whose runs are counted by their images.

    Args:
        engine: runs.
        ran: is told how many images each run had, once it has ended well.
    """

    def __init__(self, engine: Engine, ran: Callable[[int], None]) -> None:
        self.name: EngineChoice = engine.name
        self._engine, self._ran = engine, ran

    def run(self, images: Images) -> Output:
        """Run the graph on (N, H, W, 3) uint8; see `serving.engine.Engine`."""
        output = self._engine.run(images)
        self._ran(len(images))
        return output


class BatchingEngine:
    """An engine that runs the calls of many threads together; safe to use from all of them.

    Whoever has waited longest goes next, with those behind it whose images have the same height and width: no size
    waits for ever. What a run fails with is raised by the calls that were in it, and by no other.

    Args:
        engine: runs.
        most: images of a run; a call of more is run alone, and so are images of which two have more pixels than eight
            of 256 x 256.
        wait_s: how long a call that found all lanes taken goes on waiting for companions although one is free,
            counted from when it came; it runs sooner where its run is full or calls that cannot join it come.
            0: with those that are there.
        lanes: runs at a time.
        clock: of seconds.
        ran: is told how many images each run had.
    """

    def __init__(
        self,
        engine: Engine,
        most: int,
        wait_s: float,
        lanes: int,
        clock: Callable[[], float] = time.monotonic,
        ran: Callable[[int], None] = lambda images: None,
    ) -> None:
        self.name: EngineChoice = engine.name
        self._engine = Counted(engine, ran)
        self._most, self._wait_s, self._lanes, self._clock = max(1, most), wait_s, max(1, lanes), clock
        self._waiting: deque[_Call] = deque()
        self._running = 0
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """Calls that no run has taken yet."""
        return len(self._waiting)

    @property
    def waiting_images(self) -> int:
        """Their images."""
        with self._changed:
            return sum(len(call.images) for call in self._waiting)

    def run(self, images: Images) -> Output:
        """Run the graph on (N, H, W, 3) uint8, in company or alone; see `serving.engine.Engine`.

        Raises:
            BusyError: the thread that ran it was ended.
            Exception: whatever the engine raises.
        """
        call, group = _Call(images), list[_Call]()
        try:
            with self._changed:
                self._join(call)
                while not (call.done or self._take(call, group)):
                    self._changed.wait(self._patience(call))
            if group:
                _carry_out(self._engine, group)
        finally:
            self._leave(call, group)
        return call.result()

    def _join(self, call: "_Call") -> None:
        kinds = {other.kind for other in self._waiting}
        call.at_once = call.kind not in kinds and self._running + len(kinds) < self._lanes
        call.waits_until = self._clock() + self._wait_s
        self._waiting.append(call)
        if self._running < self._lanes:  # who waits for companions may have them now, or must wait no longer
            self._changed.notify_all()

    def _take(self, call: "_Call", group: "list[_Call]") -> bool:
        """Take the calls of the next run from the queue, where it is this call's turn to lead it."""
        if not self._may_lead(call):
            return False
        company = self._company(call)
        full = sum(len(other.images) for other in company) >= self._most_of(call)
        alone = len(company) == len(self._waiting)
        if alone and not (full or call.at_once) and self._clock() < call.waits_until:
            return False
        group.extend(company)
        self._running += 1
        self._waiting = deque(other for other in self._waiting if other not in company)
        if self._waiting and self._running < self._lanes:
            self._changed.notify_all()
        return True

    def _may_lead(self, call: "_Call") -> bool:
        return self._running < self._lanes and bool(self._waiting) and self._waiting[0] is call

    def _patience(self, call: "_Call") -> float | None:
        """For how many seconds it may wait unless something changes; None: for as long as that takes."""
        return max(0.0, call.waits_until - self._clock()) if self._may_lead(call) else None

    def _company(self, call: "_Call") -> "list[_Call]":
        """The call, and those behind it that fit into its run, in the order in which they came."""
        company, count = [call], len(call.images)
        for other in self._waiting:
            if other is call or other.kind != call.kind:
                continue
            count += len(other.images)
            if count > self._most_of(call):
                break
            company.append(other)
        return company

    def _most_of(self, call: "_Call") -> int:
        return max(1, min(self._most, _MOST_PIXELS // max(1, call.pixels)))

    def _leave(self, call: "_Call", group: "list[_Call]") -> None:
        """Whatever happened, nobody waits for this call, and nobody for the run that it led."""
        with self._changed:
            if call in self._waiting:
                self._waiting.remove(call)
            if group:
                self._running -= 1
            for other in group:
                if not other.done:
                    other.error = BusyError("the engine's run was ended; send the request again")
            self._changed.notify_all()


class _Call:
    """What a caller wants, and what came of it."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.kind = (images.shape[1:], images.dtype.str)
        self.pixels = int(np.prod(images.shape[1:3]))
        self.at_once = False
        self.waits_until = 0.0
        self.output: Output | None = None
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.output is not None or self.error is not None

    def result(self) -> Output:
        if self.error is not None:
            raise self.error
        assert self.output is not None, "only what is done is asked"
        return self.output


def _carry_out(engine: Engine, group: Sequence[_Call]) -> None:
    try:
        if len(group) == 1:
            group[0].output = engine.run(group[0].images)
            return
        probabilities, embedding = engine.run(np.concatenate([call.images for call in group]))
        start = 0
        for call in group:
            end = start + len(call.images)
            call.output = probabilities[start:end], embedding[start:end]
            start = end
    except Exception as error:  # the caller's own thread raises it, and so does that of each other
        for call in group:
            call.output, call.error = None, error


def agreement(engine: Engine, spec: VersionSpec, image: NDArray[np.uint8], most: int) -> float:
    """The smallest part of a mask's pixels that an image has alike alone and in company, in runs of 2 to `most`.

    Args:
        engine: as it is, not batching.
        spec: of its version; says what the mask is.
        image: (H, W, 3) uint8, with foreground and background; its mirror images are the company.
        most: images of the largest run.
    """
    views = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    images = np.stack([views[index % len(views)] for index in range(most)])
    alone = np.concatenate([_masks(engine.run(one[None])[0], spec) for one in images[: len(views)]])
    lowest = 1.0
    for count in range(2, most + 1):
        masks = _masks(engine.run(images[:count])[0], spec)
        lowest = min(lowest, *(float((masks[i] == alone[i % len(views)]).mean()) for i in range(count)))
    return lowest


def agrees(engine: Engine, spec: VersionSpec, image: NDArray[np.uint8], most: int) -> bool:
    """Whether images may be run together: the mask of one does not depend on its company; see `agreement`."""
    return most < 2 or agreement(engine, spec, image, most) >= MIN_AGREEMENT


def _masks(probabilities: NDArray[np.float32], spec: VersionSpec) -> NDArray[np.uint8]:
    """(N, H, W), one class index a pixel."""
    classes = probabilities[:, 0] >= spec.threshold if spec.binary else probabilities.argmax(axis=1)
    return np.asarray(classes, np.uint8)

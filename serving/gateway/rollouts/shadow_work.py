"""The process that answers for nobody: it has the candidate, takes twins of requests, and tells what came of them.

    context.Process(target=be_shadow, args=(pipe, address, folder, assignment, serving, threads, json_log))

It runs where nobody else wants the processor (SCHED_IDLE; nice 19 where there is none), and is the first that the
system ends when memory is short. A candidate that hangs, leaks or crashes does so here.
"""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from records.inference import open_inference_log
from records.settings import RecordsSettings
from resunet.errors import RecordsError, ResunetError
from resunet.memory import give_back_large_blocks
from resunet.metrics import dice
from serving.budget import WorkBudget
from serving.errors import BusyError
from serving.gateway.loading import Loaded, load
from serving.gateway.log_lines import write_log
from serving.gateway.rollouts.seen import Seen
from serving.gateway.rollouts.twins import Twin
from serving.logbook import Logbook
from serving.rollout.assignment import Assignment
from serving.rollout.cells import Answer
from serving.service import Call, Done, Service
from serving.settings import ServingSettings

_TELLS_SECONDS: Final = 0.5
_ANSWERS_SECONDS: Final = 600.0
_ORPHAN_SECONDS: Final = 5.0
_WAITING: Final = 4
# How readily the system ends it when memory is short: -1000 never, 1000 first of all.
_DISPENSABLE: Final = "800"
_log = logging.getLogger(__name__)


def be_shadow(
    owner: Connection,
    address: str,
    folder: Path,
    assignment: Assignment,
    serving: ServingSettings,
    threads: int,
    json_log: bool,
) -> None:
    """Be the shadow until the owner says that it is enough, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # of a terminal or a service, for all of the group: the owner decides
    write_log(json_log)
    give_back_large_blocks()
    stand_back()
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(owner, ended, address), name="shadow-owner", daemon=True).start()
    try:
        loaded = load(folder, serving, threads)
    except ResunetError as error:
        owner.send(f"it cannot be loaded: {error}")
        return
    log = open_inference_log(RecordsSettings.load())
    book = None if log is None else Logbook(log, loaded.identity, "shadow")
    candidate = Candidate(loaded, Service(loaded.predictor, loaded.identity, WorkBudget(1, _ANSWERS_SECONDS), book))
    seen, twins = Seen(), Queue[Twin](_WAITING)
    seen.direct(assignment)
    with Listener(address, "AF_UNIX") as listener:
        threading.Thread(target=_accept, args=(listener, twins), name="shadow-accepts", daemon=True).start()
        _log.info("version %s answers in the shadow", loaded.identity.version)
        _answer_all(candidate, twins, seen, owner.send, ended)
    if log is not None:
        log.close()


def stand_back() -> None:
    """Let this thread, and all that it will start, run only where nobody else wants the processor."""
    with suppress(OSError):
        os.nice(19)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_DISPENSABLE, encoding="ascii")


class Candidate:
    """A version that answers twins."""

    def __init__(self, loaded: Loaded, service: Service) -> None:
        self._spec, self._service = loaded.predictor.spec, service

    def answer(self, twin: Twin) -> tuple[Answer, NDArray[np.uint8] | None]:
        """How it does, and its mask; whatever it raises, it fails, as the champion did not.

        Raises:
            RecordsError: what it did cannot be written down: that is nobody's failure.
        """
        options = twin.options if self._spec.binary else type(twin.options)(None, twin.options.mask_format)
        call = Call(options, twin.received, time.monotonic() + _ANSWERS_SECONDS, caller=None)
        started = time.perf_counter()
        try:
            (done,) = self._service.answer([twin.kept.row], call, _itself)
        except (RecordsError, BusyError):
            raise
        except Exception as error:
            _log.warning("the candidate failed: %s", error if isinstance(error, ResunetError) else repr(error))
            return Answer(ok=False), None
        latency_ms = (time.perf_counter() - started) * 1000
        return Answer(True, latency_ms, done.prediction.confidence), done.prediction.mask


def agreement(one: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> float | None:
    """Dice between two masks of class indices: the mean over the classes, but for 0, that either holds.

    Args:
        one, other: (H, W); None where there is none.

    Returns:
        1 where neither holds anything; None where there are not two masks of one size.
    """
    if one is None or other is None or one.shape != other.shape:
        return None
    classes = sorted({*np.unique(one).tolist(), *np.unique(other).tolist()} - {0})
    return (
        float(np.mean([dice(*((mask == label).astype(np.uint8) for mask in (one, other))) for label in classes]))
        if classes
        else 1.0
    )


def _itself(done: Done) -> Done:
    return done


def _answer_all(
    candidate: Candidate, twins: "Queue[Twin]", seen: Seen, tell: Callable[[object], None], ended: threading.Event
) -> None:
    """Answer twins, and tell now and then what was seen."""
    told_at = 0.0
    while not ended.is_set():
        with suppress(Empty):
            twin = twins.get(timeout=_TELLS_SECONDS)
            try:
                answer, mask = candidate.answer(twin)
            except (RecordsError, BusyError) as error:
                _log.warning("a twin does not count: %s", error)
            else:
                dice_of_both = agreement(twin.kept.mask, mask)
                seen.record_shadow(twin.assigned, twin.champion, answer, dice_of_both)
                _log.info("twin", extra=_in_figures(twin, answer, dice_of_both))
        if time.monotonic() - told_at >= _TELLS_SECONDS and (evidence := seen.take()) is not None:
            told_at = time.monotonic()
            with suppress(OSError):
                tell(evidence)


def _in_figures(twin: Twin, answer: Answer, dice_of_both: float | None) -> dict[str, Any]:
    """What the log says of a request that both answered."""
    figures: dict[str, Any] = {"request_id": twin.kept.row.request_id}
    if dice_of_both is not None:
        figures["dice"] = round(dice_of_both, 4)
    for name, one in (("champion", twin.champion), ("candidate", answer)):
        figures[f"{name}_ok"] = one.ok
        if one.ok:
            figures[f"{name}_confidence"] = round(one.confidence, 4)
            figures[f"{name}_milliseconds"] = round(one.latency_ms, 2)
    return figures


def _accept(listener: Listener, twins: "Queue[Twin]") -> None:
    while True:
        try:
            pipe = listener.accept()
        except OSError:
            return
        threading.Thread(target=_receive, args=(pipe, twins), name="shadow-receives", daemon=True).start()


def _receive(pipe: Connection, twins: "Queue[Twin]") -> None:
    """Where twins come faster than they are answered this waits, and whoever sends leaves out what has no room."""
    with suppress(EOFError, OSError):
        while True:
            twins.put(pipe.recv())


def _wait_for_end(owner: Connection, ended: threading.Event, address: str) -> None:
    with suppress(EOFError, OSError):
        owner.recv()
        ended.set()
        return
    # The owner is gone, and nobody else ends a candidate that hangs, or clears its folder away.
    ended.set()
    time.sleep(_ORPHAN_SECONDS)
    shutil.rmtree(Path(address).parent, ignore_errors=True)
    os._exit(1)

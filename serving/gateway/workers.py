"""The owner's side of a gateway of several processes: all of them load a version, then all of them switch.

    workers = Workers(settings, serving, listener, keys)
    workers.start(lead, json_log=True)
    workers.prepare("production", folder)   # in all of them; the first failure is the failure of all
    workers.switch("production")
    workers.watch()                         # until a signal; one that dies is replaced

The workers share one listening socket. One that is new takes no connection before it has the versions that the others
have. What lies between the switch of the first and of the last is the way of a message through a pipe.
"""

import itertools
import logging
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from prometheus_client.multiprocess import mark_process_dead

from resunet.errors import ResunetError, VersionError
from serving.access.keys import KeyStore
from serving.access.limits import COUNTED
from serving.access.shared import SharedTables
from serving.gateway.fleet import Lane
from serving.gateway.metrics import SHARED
from serving.gateway.owner import Leading
from serving.gateway.settings import GatewaySettings
from serving.gateway.worker import ANNOUNCED, Done, Order, Verb, Wanted, work
from serving.rollout.assignment import Assignment
from serving.rollout.evidence import Evidence
from serving.settings import ServingSettings

_LOADS_SECONDS: Final = 300.0
_SWITCHES_SECONDS: Final = 10.0
_STARTS_SECONDS: Final = 60.0
_TELLS_SECONDS: Final = 0.5
_RESTART_SECONDS: Final = 1.0
_RETRIES_SECONDS: Final = 5.0
_LATEST_RETRY_SECONDS: Final = 300.0
_log = logging.getLogger(__name__)


@dataclass
class _Worker:
    """One process, and the pipe to it; `ended`: it did not end by itself."""

    number: int
    process: SpawnProcess
    pipe: Connection
    answers: dict[int, "Future[str | None]"] = field(default_factory=dict)
    sending: threading.Lock = field(default_factory=threading.Lock)
    ended: bool = False

    def end(self) -> None:
        """At once: it must not answer as it is, and another one comes in its place."""
        self.ended = True
        self.process.kill()

    def send(self, order: Order) -> None:
        """To one that died nothing is sent."""
        with self.sending, suppress(OSError):
            self.pipe.send(order)

    def ask(self, order: Order, number: int) -> "Future[str | None]":
        """Have an order carried out; what comes is None, or what went wrong."""
        self.answers[number] = answer = Future[str | None]()
        self.send(order)
        return answer

    def heard(self, done: Done) -> None:
        """It has carried an order out."""
        if (answer := self.answers.pop(done.number, None)) is not None:
            answer.set_result(done.failure)


@dataclass(frozen=True)
class _Idle:
    """A process that could not load what is live, and when its successor tries; on a monotonic clock, seconds."""

    until: float
    pause: float


class Workers:
    """All processes that answer; `prepare`, `switch` and `forget` are as of a `Fleet`.

    Args:
        settings: of the gateway.
        serving: of the versions that answer.
        listener: that all of them share.
        keys: once there were some, every process needs them, those too that are started later.

    Attributes:
        deaths: how many have ended by themselves so far.
    """

    def __init__(
        self, settings: GatewaySettings, serving: ServingSettings, listener: socket.socket, keys: KeyStore
    ) -> None:
        self._settings, self._serving, self._listener, self._keys = settings, serving, listener, keys
        self._context = multiprocessing.get_context("spawn")
        self._counted = SharedTables(COUNTED, settings.workers)
        self._orders = itertools.count(1)
        self._workers: dict[int, _Worker] = {}
        self._live: dict[Lane, Path] = {}
        self._ready: dict[Lane, Path] = {}
        self._idle: dict[int, _Idle] = {}
        self.deaths = 0
        self._changing = threading.RLock()
        self._stopping = threading.Event()
        self._lead: Leading | None = None
        self._directed: tuple[Assignment | None, str | None] = (None, None)
        self._seen: list[Evidence] = []
        self._seeing = threading.Lock()
        self._json_log = True
        self._metrics: tempfile.TemporaryDirectory[str] | None = None

    def start(self, lead: Leading, json_log: bool) -> None:
        """Start the processes; they answer from their first version on.

        Args:
            lead: its health is told to all of them, again and again; what one of them is asked for is asked of it.
            json_log: their log is for machines.
        """
        self._lead, self._json_log = lead, json_log
        self._metrics = tempfile.TemporaryDirectory(prefix="resunet-metrics-")
        os.environ[SHARED] = self._metrics.name  # of this process too, which has no metrics of its own
        for number in range(1, self._settings.workers + 1):
            self._workers[number] = self._spawned(number)
        threading.Thread(target=self._tell_health, name="gateway-health", daemon=True).start()

    def prepare(self, lane: Lane, folder: Path) -> None:
        """Have every process load a version and see that it answers as it must.

        Raises:
            VersionError: it must not serve in one of them.
        """
        self._ready.pop(lane, None)
        if failures := self._all("prepare", (lane, str(folder)), _LOADS_SECONDS):
            raise VersionError(next(iter(failures.values())))
        self._ready[lane] = folder

    def switch(self, lane: Lane) -> None:
        """Let the version that was prepared answer, everywhere; one that fails to is replaced."""
        with self._changing:
            self._live[lane] = self._ready.pop(lane)
            for number, failure in self._all("switch", (lane,), _SWITCHES_SECONDS).items():
                # It came between the two, or hangs: it must not answer with another version than the others.
                _log.error("worker %d does not switch (%s): it is ended", number, failure)
                self._workers[number].end()
            self._idle.clear()
            self._all("serve", (), _SWITCHES_SECONDS)

    def forget(self, lane: Lane) -> None:
        """Stop answering there."""
        with self._changing:
            self._live.pop(lane, None)
            self._ready.pop(lane, None)
            self._all("forget", (lane,), _SWITCHES_SECONDS)

    def direct(self, assignment: Assignment | None, twins: str | None) -> None:
        """Shares of a rollout hold from now on, everywhere; see `serving.gateway.process.Process.direct`."""
        with self._changing:
            self._directed = (assignment, twins)
            self._all("direct", self._directed, _SWITCHES_SECONDS)

    def take(self) -> list[Evidence]:
        """What all of them have told of the rollout since it was last taken."""
        with self._seeing:
            taken, self._seen = self._seen, []
            return taken

    def serve(self) -> None:
        """Let them take connections although they have no version yet."""
        self._all("serve", (), _SWITCHES_SECONDS)

    def watch(self) -> None:
        """Replace processes that die, until a signal ends the caller."""
        while not self._stopping.is_set():
            with self._changing:
                sentinels = {worker.process.sentinel: worker for worker in self._workers.values()}
            for sentinel in wait(list(sentinels), timeout=1.0):
                if self._stopping.is_set():
                    return
                died = sentinels[sentinel]  # type: ignore[index]
                if not died.ended:
                    _log.error("worker %d died (exit code %s); it is replaced", died.number, died.process.exitcode)
                    self.deaths += 1
                self._replace(died)
            self._try_again()

    def close(self) -> None:
        """End all of them, after what they have under way."""
        self._stopping.set()
        for worker in self._workers.values():
            with suppress(OSError):
                worker.process.terminate()
        ends = time.monotonic() + self._settings.drain_seconds + _SWITCHES_SECONDS
        for worker in self._workers.values():
            worker.process.join(max(0.1, ends - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        if self._metrics is not None:
            self._metrics.cleanup()

    def _spawned(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work,
            args=(
                theirs,
                self._listener,
                self._settings,
                self._serving,
                self._json_log,
                self._keys.look(),
                self._counted,
                number - 1,
            ),
            name=f"gateway-worker-{number}",
            daemon=True,
        )
        process.start()
        theirs.close()
        worker = _Worker(number, process, ours)
        threading.Thread(target=self._hear, args=(worker,), name=f"gateway-hears-{number}", daemon=True).start()
        return worker

    def _replace(self, died: _Worker) -> None:
        """A new process with the versions that the others have; until it is there, those answer."""
        time.sleep(_RESTART_SECONDS)  # one that dies at once must not take the machine with it
        died.process.join()
        died.pipe.close()
        mark_process_dead(died.process.pid)  # type: ignore[no-untyped-call]
        with self._changing:
            worker = self._workers[died.number] = self._spawned(died.number)
            live = dict(self._live)
        loaded = {lane for lane, folder in live.items() if self._loads(worker, lane, folder)}
        with self._changing:
            # What became live meanwhile it does not have: it was ended for that, and its successor will.
            changed = self._live.get("production") != live.get("production")
            if changed:
                return
            if "production" in live and "production" not in loaded:
                before = self._idle.get(worker.number)
                pause = _RETRIES_SECONDS if before is None else min(2 * before.pause, _LATEST_RETRY_SECONDS)
                self._idle[worker.number] = _Idle(time.monotonic() + pause, pause)
                return
            self._idle.pop(worker.number, None)
            self._one(worker, "direct", self._directed, _SWITCHES_SECONDS)
            self._one(worker, "serve", (), _SWITCHES_SECONDS)

    def _try_again(self) -> None:
        """Replace those that could not load what is live: a disk or a memory that was full may have room again."""
        with self._changing:
            for number, idle in self._idle.items():
                worker = self._workers[number]
                busy = worker.ended or worker.answers  # it may be loading what comes next
                if time.monotonic() >= idle.until and not busy:
                    worker.end()

    def _loads(self, worker: _Worker, lane: Lane, folder: Path) -> bool:
        failure = self._one(worker, "prepare", (lane, str(folder)), _LOADS_SECONDS)
        failure = failure or self._one(worker, "switch", (lane,), _SWITCHES_SECONDS)
        if failure:
            _log.error("worker %d cannot serve %s: %s", worker.number, lane, failure)
        return failure is None

    def _all(self, verb: Verb, arguments: tuple[object, ...], seconds: float) -> dict[int, str]:
        """Have all carry out an order at the same time; what went wrong in which of them, in words."""
        asked = [(worker, self._ask(worker, verb, arguments)) for worker in list(self._workers.values())]
        ends = time.monotonic() + seconds
        found = {worker.number: _answer(worker, answer, ends) for worker, answer in asked}
        return {number: failure for number, failure in found.items() if failure}

    def _one(self, worker: _Worker, verb: Verb, arguments: tuple[object, ...], seconds: float) -> str | None:
        return _answer(worker, self._ask(worker, verb, arguments), time.monotonic() + seconds + _STARTS_SECONDS)

    def _ask(self, worker: _Worker, verb: Verb, arguments: tuple[object, ...]) -> "Future[str | None]":
        number = next(self._orders)
        return worker.ask(Order(verb, arguments, number), number)

    def _hear(self, worker: _Worker) -> None:
        with suppress(EOFError, OSError):
            while True:
                message = worker.pipe.recv()
                match message:
                    case Done():
                        worker.heard(message)
                    case Evidence():
                        with self._seeing:
                            self._seen.append(message)
                    case Wanted():
                        # Not here: to do it the owner waits for what this thread hears.
                        threading.Thread(
                            target=self._tell, args=(worker, message), name="gateway-order", daemon=True
                        ).start()
                    case _ if message == ANNOUNCED:
                        self._led_by.announce()

    @property
    def _led_by(self) -> Leading:
        assert self._lead is not None, "workers start with it"
        return self._lead

    def _tell(self, worker: _Worker, wanted: Wanted) -> None:
        """Do what a worker was asked for, and have it answer."""
        told: dict[str, Any] | Exception
        try:
            told = self._led_by.order(wanted.verb, wanted.who, wanted.reason)
        except ResunetError as error:
            told = type(error)(str(error))
        except Exception:
            _log.exception("a rollout's %s failed in a way that was not foreseen", wanted.verb)
            told = VersionError("it failed in a way that was not foreseen; the gateway's log says more")
        worker.send(Order("told", (wanted.number, told)))

    def _tell_health(self) -> None:
        while not self._stopping.wait(_TELLS_SECONDS):
            self._keys.look()  # to know, when a process is replaced, that there were keys
            health = self._led_by.health()
            for worker in list(self._workers.values()):
                worker.send(Order("health", (health,)))


def _answer(worker: _Worker, answer: "Future[str | None]", ends: float) -> str | None:
    """What came of an order; None where it was carried out."""
    while (left := ends - time.monotonic()) > 0 and (worker.process.is_alive() or answer.done()):
        with suppress(TimeoutError):
            return answer.result(min(left, 0.2))
    return f"worker {worker.number} did not answer"

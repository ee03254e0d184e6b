"""A worker of a gateway of several processes: it answers, and does with its versions what the owner says.

The owner sends (number, verb, arguments) down a pipe and gets (number, failure) back. A pipe that ends is an owner that
is gone: the worker answers what it has under way and ends too.
"""

import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal

from records.garbage import collect_seldom
from resunet.errors import ResunetError, VersionError
from serving.access.shared import SharedTables
from serving.access.stores import Stores
from serving.errors import BusyError
from serving.gateway.log_lines import write_log
from serving.gateway.owner import Health
from serving.gateway.owner import Verb as RolloutVerb
from serving.gateway.process import Process
from serving.gateway.settings import GatewaySettings
from serving.handover import ended_cleanly
from serving.settings import ServingSettings

Verb = Literal["prepare", "switch", "forget", "health", "serve", "direct", "told"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What the owner wants; only those with a number are answered."""

    verb: Verb
    arguments: tuple[Any, ...] = ()
    number: int | None = None


@dataclass(frozen=True)
class Done:
    """An order was carried out, or why not."""

    number: int
    failure: str | None = None


@dataclass(frozen=True)
class Wanted:
    """Somebody asked this worker for something of the rollout; the owner answers with an order `told`."""

    number: int
    verb: RolloutVerb
    who: str
    reason: str


ANNOUNCED = "announced"
_TOLD_SECONDS: Final = 60.0


def work(
    owner: Connection,
    listener: socket.socket,
    settings: GatewaySettings,
    serving: ServingSettings,
    json_log: bool,
    needs_keys: bool,
    counted: SharedTables,
    number: int,
) -> None:
    """Be a worker until the owner is gone or a signal comes.

    Args:
        counted: what callers use up; this worker counts in the tables of its number.
        number: from 0.
    """
    collect_seldom()
    # The server raises the signal that ended it once more: unheeded, that would be the end before the log is closed.
    with ended_cleanly():
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # of a terminal, for all of the group: the owner passes on what it means
        write_log(json_log)
        worker = _Worker(owner, settings, serving, needs_keys, counted.stores(number))
        threading.Thread(target=worker.obey, name="gateway-orders", daemon=True).start()
        worker.serve(listener)


class _Worker:
    """Leads its process as far as the owner says."""

    def __init__(
        self,
        owner: Connection,
        settings: GatewaySettings,
        serving: ServingSettings,
        needs_keys: bool,
        counted: Sequence[Stores],
    ) -> None:
        self._owner = owner
        self._sending = threading.Lock()
        self._may_serve = threading.Event()
        self._health = Health("down", None, (), 0)
        self._numbers = itertools.count(1)
        self._asking: dict[int, SimpleQueue[dict[str, Any] | Exception]] = {}
        self._process = Process(settings, serving, self, needs_keys, counted)

    def serve(self, listener: socket.socket) -> None:
        self._may_serve.wait()
        try:
            self._process.serve(listener)
        finally:
            # Its owner says so too, when the whole group was told to end: that must not cut this short.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._process.close()

    def obey(self) -> None:
        try:
            while True:
                order: Order = self._owner.recv()
                if order.verb == "prepare":  # takes long, and nothing else waits for it
                    threading.Thread(target=self._answer, args=(order,), name="gateway-loads", daemon=True).start()
                else:
                    self._answer(order)
        except (EOFError, OSError):
            _log.warning("the gateway's owner is gone: this worker ends")
            self._process.stop()
            if not self._may_serve.is_set():
                os._exit(1)

    def _answer(self, order: Order) -> None:
        failure = self._carried_out(order)
        if order.number is not None:
            with suppress(OSError):  # whoever hears orders notices too that the owner is gone
                self._send(Done(order.number, failure))

    def _carried_out(self, order: Order) -> str | None:
        try:
            self._carry_out(order)
        except ResunetError as error:
            return str(error)
        except Exception as error:
            _log.exception("%s failed in a way that was not foreseen", order.verb)
            return f"{type(error).__name__}; the gateway's log says more"
        return None

    def _carry_out(self, order: Order) -> None:
        fleet = self._process.fleet
        match order.verb:
            case "prepare":
                lane, folder = order.arguments
                fleet.prepare(lane, Path(folder))
            case "switch":
                fleet.switch(*order.arguments)
            case "forget":
                fleet.forget(*order.arguments)
            case "health":
                (self._health,) = order.arguments
                self._process.metrics.refresh()
                self._process.look_at_keys()
                for evidence in self._process.take():
                    self._send(evidence)
            case "direct":
                self._process.direct(*order.arguments)
            case "told":
                number, told = order.arguments
                if (asking := self._asking.get(number)) is not None:
                    asking.put(told)
            case "serve":
                self._may_serve.set()
            case _:
                raise VersionError(f"an order that is not known: {order.verb}")

    def health(self) -> Health:
        """As the owner told it last."""
        return self._health

    def announce(self) -> None:
        """Tell the owner."""
        self._send(ANNOUNCED)

    def order(self, verb: RolloutVerb, who: str, reason: str) -> dict[str, Any]:
        """Have the owner do something with the rollout; its errors are raised here."""
        number, told = next(self._numbers), SimpleQueue[dict[str, Any] | Exception]()
        self._asking[number] = told
        try:
            self._send(Wanted(number, verb, who, reason))
            answer = told.get(timeout=_TOLD_SECONDS)
        except Empty:
            raise BusyError("the gateway's owner does not answer; ask again later") from None
        finally:
            self._asking.pop(number, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _send(self, message: object) -> None:
        with self._sending:
            self._owner.send(message)

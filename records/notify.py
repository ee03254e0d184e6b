"""Telling people, by Apprise: mail, chat, webhooks.

    RESUNET_NOTIFY=mailto://user:password@mail.example/?to=team@example,json://hooks.example/mlflow

    messenger = Messenger(NotifySettings.load().notify.get_secret_value())
    messenger.tell(Message("the gateway is degraded", "version 7 …", "warning"))        # returns at once
    messenger.deliver(Message("drift", "…", attachments=(picture,)))    # waits; {1, 2}: the addresses that took it

A message goes to each address in a thread of its own: a mail server that is away holds up nothing, and is told of in
the log. A command that ends waits for its messages, but not for ever. No address is ever shown: it may hold a password
or a token.
"""

import atexit
import logging
import os
import re
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, SecretStr

from records.environment import EnvironmentSettings

if TYPE_CHECKING:
    import apprise

DEADLINE_SECONDS: Final = 30.0
# Another address begins where a comma, a blank or a new line is followed by `scheme://`; an address may hold commas.
_NEXT: Final = re.compile(r"[\s,;]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
# What may print an address, or a part of one, while it sends.
_TALKATIVE: Final = ("apprise", "urllib3.connectionpool")

# Apprise waits 4 s for an answer, and takes a slower address for one that is away: it then gets the message again.
READ_SECONDS: Final = 20.0
# An address that says itself how long to wait.
_OWN_WAIT: Final = re.compile(r"[?&]rto=", re.IGNORECASE)
_LARGEST_ATTACHMENT: Final = 10_000_000

_logger = logging.getLogger(__name__)
_silent = threading.local()
_watchers: set[threading.Thread] = set()


@dataclass(frozen=True)
class Message:
    """What somebody is told.

    Attributes:
        subject: one line.
        body: text.
        kind: how urgent it is.
        lost: what is said in the log, before the subject, of one that could not be delivered.
        attachments: files that go with it where the address takes files; they stay until it is out. One that cannot be
            read, or is larger than 10 MB, is left out: the words go without it.
    """

    subject: str
    body: str
    kind: Literal["info", "warning", "failure"] = "info"
    lost: str = "It was"
    attachments: tuple[Path, ...] = ()


class NotifySettings(EnvironmentSettings):
    """The part of a program's settings that says who is told."""

    notify: SecretStr = Field(
        default=SecretStr(""),
        description="Apprise addresses, comma-separated, that are told of each decision and of what goes wrong",
    )


class _Sending(threading.Thread):
    """One message to one address, in a thread that nobody has to wait for."""

    def __init__(self, number: int, hub: "apprise.Apprise", message: Message) -> None:
        super().__init__(name="resunet-notify", daemon=True)
        self.number = number
        self.delivered = False
        self._hub = hub
        self._message = message

    def run(self) -> None:
        with _silenced():
            import apprise
            from apprise.attachment.file import AttachFile

            try:
                sent = self._hub.notify(
                    title=self._message.subject,
                    body=self._message.body,
                    notify_type=apprise.NotifyType(self._message.kind),
                    body_format=apprise.NotifyFormat.TEXT,
                    attach=[AttachFile(str(path)) for path in self._files()] or None,  # type: ignore[no-untyped-call]
                )
            except Exception:
                # Each kind of address has a library of its own, whose words may quote the address.
                return
            self.delivered = bool(sent)

    def _files(self) -> Iterator[Path]:
        """The attachments that can be sent: one that cannot would take the words with it."""
        for path in self._message.attachments:
            with suppress(OSError), path.open("rb") as file:
                if 0 < os.fstat(file.fileno()).st_size <= _LARGEST_ATTACHMENT:
                    yield path.absolute()


class Messenger:
    """Sends messages; it does not raise, and `tell` does not wait.

    Args:
        addresses: of Apprise, comma-separated; one that makes no sense is told of in the log.
        deadline_s: seconds after which a message counts as lost, and an ending command waits no longer.
        variable: where the addresses are from, for the log.
    """

    def __init__(self, addresses: str, deadline_s: float = DEADLINE_SECONDS, variable: str = "RESUNET_NOTIFY") -> None:
        self._variable = variable
        split = [one for one in _NEXT.split(addresses.strip(" \t\r\n,;")) if one]
        self._deadline_s = deadline_s
        self._count = len(split)
        self._hubs = {number: hub for number, one in enumerate(split, 1) if (hub := self._hub(number, one))}

    def _hub(self, number: int, address: str) -> "apprise.Apprise | None":
        """Apprise with one address and no deadline of its own: it then sends in the thread that calls it."""
        with _silenced():
            import apprise

            hub = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False, service_timeout=0))
            known = hub.add([address])
            if not _OWN_WAIT.search(address):
                for server in hub:
                    server.socket_read_timeout = READ_SECONDS
        if not known:
            _logger.warning(
                "%s: address %d of %d is not one that Apprise understands, and nobody is told there; it is not shown, "
                "since it may hold a password",
                self._variable,
                number,
                self._count,
            )
        return hub if known else None

    @property
    def count(self) -> int:
        """How many addresses there are; they are numbered from 1 on."""
        return self._count

    def deliver(self, message: Message, to: Collection[int] | None = None) -> frozenset[int]:
        """Send a message and wait for what comes of it, until the deadline.

        Args:
            to: numbers of the addresses; None: all of them.

        Returns:
            The numbers of those that took it. Of the others one may still take it after the deadline.
        """
        sendings = [_Sending(number, hub, message) for number, hub in self._hubs.items() if to is None or number in to]
        ends = time.monotonic() + self._deadline_s
        started = []
        for sending in sendings:
            with suppress(RuntimeError):  # no more threads, or the interpreter is ending
                sending.start()
                started.append(sending)
        for sending in started:
            sending.join(max(0.0, ends - time.monotonic()))
        return frozenset(sending.number for sending in started if sending.delivered)

    def tell(self, message: Message) -> None:
        """Start to send a message to every address."""
        if not self._hubs:
            return
        sendings = [_Sending(number, hub, message) for number, hub in self._hubs.items()]
        watcher = threading.Thread(target=self._watch, args=(sendings, message), name="resunet-notify", daemon=True)
        _watchers.add(watcher)
        try:
            for sending in sendings:
                sending.start()
            watcher.start()
        except RuntimeError as error:
            _watchers.discard(watcher)
            _logger.warning("%s: not everybody could be told (%s): %s", self._variable, error, message.subject)

    def _watch(self, sendings: Sequence[_Sending], message: Message) -> None:
        ends = time.monotonic() + self._deadline_s
        for sending in sendings:
            sending.join(max(0.0, ends - time.monotonic()))
            if not sending.delivered:
                late = sending.is_alive()
                _logger.warning(
                    "%s: address %d of %d %s. %s: %s",
                    self._variable,
                    sending.number,
                    self._count,
                    f"took no message within {self._deadline_s:g} s" if late else "is away, or takes no message",
                    message.lost,
                    message.subject,
                )
        _watchers.discard(threading.current_thread())


@atexit.register
def finish() -> None:
    """Wait until all messages are out or given up; a command that ends does so by itself."""
    with suppress(KeyboardInterrupt):
        for watcher in tuple(_watchers):
            with suppress(RuntimeError):  # another thread is about to start it
                watcher.join()


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep what this thread's libraries say out of the log while the block runs."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_heard)  # a filter is added once, however often this runs
    _silent.on = True
    try:
        yield
    finally:
        _silent.on = False


def _heard(record: logging.LogRecord) -> bool:
    return not getattr(_silent, "on", False)

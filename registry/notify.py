"""Telling people of decisions, by Apprise: mail, chat, webhooks.

    RESUNET_NOTIFY=mailto://user:password@mail.example/?to=team@example,json://hooks.example/mlflow

    tell = notifier(RegistrySettings.load())
    tell(Told("promote", "resunet", "7", "Staging", "Production", "ada", "new stain"))     # returns at once

A message goes out after the decision is made and written down, to each address in a thread of its own: a mail server
that is away holds up nothing, and is told of in the log. A command that ends waits for its messages, but not for ever.
No address is ever shown: it may hold a password or a token.
"""

import atexit
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from registry.changes import Notify, Told
from registry.history import OVERRIDDEN, REFUSED
from registry.settings import RegistrySettings

if TYPE_CHECKING:
    import apprise

DEADLINE_SECONDS: Final = 30.0
_TITLE_LETTERS: Final = 200
# Another address begins where a comma, a blank or a new line is followed by `scheme://`; an address may hold commas.
_NEXT: Final = re.compile(r"[\s,;]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
# What may print an address, or a part of one, while it sends.
_TALKATIVE: Final = ("apprise", "urllib3.connectionpool")

_logger = logging.getLogger(__name__)
_silent = threading.local()
_watchers: set[threading.Thread] = set()


def notifier(settings: RegistrySettings, deadline_s: float = DEADLINE_SECONDS) -> Notify:
    """What is told of each decision. It neither waits nor raises.

    Args:
        settings: names the addresses; without any nobody is told. One that makes no sense is told of in the log.
        deadline_s: seconds after which a message counts as lost, and an ending command waits no longer.
    """
    addresses = [one for one in _NEXT.split(settings.notify.get_secret_value().strip(" \t\r\n,;")) if one]
    if not addresses:
        return lambda told: None
    return _Messenger(addresses, deadline_s).tell


def subject(told: Told) -> str:
    """One line on a decision; it begins with OVERRIDE where somebody went past gates that block."""
    line = f"{told.model} version {told.version}, {told.from_stage} → {told.to_stage}, by {told.actor}"
    begins = "OVERRIDE" if told.action == OVERRIDDEN else f"[resunet] {told.action}"
    return " ".join(f"{begins}: {line}".split())[:_TITLE_LETTERS]


def body(told: Told) -> str:
    """All that is known of a decision."""
    lines = [
        f"what:   {told.action}",
        f"model:  {told.model} version {told.version}",
        f"stage:  {told.from_stage} → {told.to_stage}",
        f"who:    {told.actor}",
        f"reason: {told.reason or 'none given'}",
    ]
    if told.action == OVERRIDDEN:
        lines.insert(0, "Gates blocked this version, and somebody let it past them.\n")
    return "\n".join(lines)


class _Sending(threading.Thread):
    """One message to one address, in a thread that nobody has to wait for."""

    def __init__(self, number: int, hub: "apprise.Apprise", told: Told) -> None:
        super().__init__(name="resunet-notify", daemon=True)
        self.number = number
        self.delivered = False
        self._hub = hub
        self._told = told

    def run(self) -> None:
        with _silenced():
            import apprise

            kind = {OVERRIDDEN: apprise.NotifyType.WARNING, REFUSED: apprise.NotifyType.FAILURE}
            try:
                sent = self._hub.notify(
                    title=subject(self._told),
                    body=body(self._told),
                    notify_type=kind.get(self._told.action, apprise.NotifyType.INFO),
                    body_format=apprise.NotifyFormat.TEXT,
                )
            except Exception:
                # Each kind of address has a library of its own, whose words may quote the address.
                return
            self.delivered = bool(sent)


class _Messenger:
    """The addresses, and how long one may take."""

    def __init__(self, addresses: Sequence[str], deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._count = len(addresses)
        self._hubs = {number: hub for number, one in enumerate(addresses, 1) if (hub := self._hub(number, one))}

    def _hub(self, number: int, address: str) -> "apprise.Apprise | None":
        """Apprise with one address and no deadline of its own: it then sends in the thread that calls it."""
        with _silenced():
            import apprise

            hub = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False, service_timeout=0))
            known = hub.add([address])
        if not known:
            _logger.warning(
                "RESUNET_NOTIFY: address %d of %d is not one that Apprise understands, and nobody is told there; it "
                "is not shown, since it may hold a password",
                number,
                self._count,
            )
        return hub if known else None

    def tell(self, told: Told) -> None:
        """Start to send a message to every address."""
        sendings = [_Sending(number, hub, told) for number, hub in self._hubs.items()]
        watcher = threading.Thread(target=self._watch, args=(sendings, told), name="resunet-notify", daemon=True)
        _watchers.add(watcher)
        try:
            for sending in sendings:
                sending.start()
            watcher.start()
        except RuntimeError as error:
            _watchers.discard(watcher)
            _logger.warning("RESUNET_NOTIFY: not everybody could be told (%s): %s", error, subject(told))

    def _watch(self, sendings: Sequence[_Sending], told: Told) -> None:
        ends = time.monotonic() + self._deadline_s
        for sending in sendings:
            sending.join(max(0.0, ends - time.monotonic()))
            if not sending.delivered:
                late = sending.is_alive()
                _logger.warning(
                    "RESUNET_NOTIFY: address %d of %d %s. The decision stands; it was: %s",
                    sending.number,
                    self._count,
                    f"took no message within {self._deadline_s:g} s" if late else "is away, or takes no message",
                    subject(told),
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

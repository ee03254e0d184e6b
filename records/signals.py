"""Being asked to end: SIGTERM, or Ctrl-C.

    with asked_to_end() as asked:
        while not asked:
            time.sleep(0.5)

A list, not a `threading.Event`: an event has a lock, and a handler runs between any two instructions of the main
thread. One that comes while the wait, or another handler, holds that lock waits for it for ever. Two signals at once
are nothing rare: `make` passes on what the terminal has sent to all.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def asked_to_end() -> Iterator[Sequence[str]]:
    """Names of the signals that have asked, in their order; main thread only. The handlers before come back after."""
    asked: list[str] = []
    before = {
        number: signal.signal(number, lambda sign, _: asked.append(signal.Signals(sign).name))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

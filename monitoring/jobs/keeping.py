"""Keep a lease while a job runs, and know when it is lost.

with kept(engine, lease, timedelta(minutes=1), database_time, asked) as held:
    while running and held(): …

A thread renews it. Where the database is away nobody can tell whose it is: then it counts as lost a little before it
runs out, by this machine's clock from when the last renewal was asked for, so that the command has ended when another
schedule may start one.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from monitoring.lifeline import CLOSING_S
from records.watch.leases import Lease, beat
from resunet.errors import RecordsError

_A_LEASE: Final = 6
# To end a command takes this long at most; of a short lease a quarter has to do.
_MARGIN_S: Final = CLOSING_S + 1


@contextmanager
def kept(
    engine: Engine, lease: Lease, length: timedelta, clock: Callable[[Engine], datetime], asked: float
) -> Iterator[Callable[[], bool]]:
    """Renew a lease until the block is left.

    Args:
        length: that it was taken for.
        clock: tells the database's time.
        asked: `time.monotonic()` from before it was taken.

    Yields:
        whether the lease is still this one's.
    """
    seconds = length.total_seconds()
    trusted = seconds - min(_MARGIN_S, seconds / 4)
    over, lost = threading.Event(), threading.Event()
    until = [asked + trusted]

    def renew() -> None:
        while not over.wait(seconds / _A_LEASE):
            began = time.monotonic()
            with suppress(RecordsError):
                if not beat(engine, lease, clock(engine), length):
                    lost.set()
                    return
                until[0] = began + trusted

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lambda: not lost.is_set() and time.monotonic() < until[0]
    finally:
        over.set()

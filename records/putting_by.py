"""Masks and images of a batch to the disk, several at a time: a disk brings many files home as fast as one.

waiting = put_by(stores, [(answer_id, attached), …])
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from records.rows import Attached
from records.stores import Stores, Waiting

_THREADS: Final = 4
# Fewer are written sooner than threads are started.
_WORTH_IT: Final = 8

_Row = tuple[str, Attached]


def put_by(stores: Stores, rows: Sequence[_Row]) -> list[Waiting]:
    """Put the blobs of rows by, all or none.

    Raises:
        RecordsError: a file cannot be written.
    """
    waiting = [Waiting()] * len(rows)
    places = iter([place for place, (_, attached) in enumerate(rows) if attached != Attached()])

    def work() -> None:
        # A list's iterator gives each place once, whichever thread asks.
        for place in places:
            waiting[place] = stores.put_by(*rows[place])

    try:
        if len(rows) >= _WORTH_IT and any(attached != Attached() for _, attached in rows):
            with ThreadPoolExecutor(_THREADS) as pool:
                for worker in _started(pool, work):
                    worker.result()
        # All of it where they are few or where no thread could be started; else nothing is left.
        work()
    except BaseException:
        for put in waiting:
            stores.clear(put)
        raise
    return waiting


def _started(pool: ThreadPoolExecutor, work: Callable[[], None]) -> "list[Future[None]]":
    workers: list[Future[None]] = []
    # A process on its way out starts no threads any more.
    with suppress(RuntimeError):
        for _ in range(_THREADS):
            workers.append(pool.submit(work))
    return workers

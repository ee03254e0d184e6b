"""Masks and images of a batch to the disk, several at a time: a disk brings many files home as fast as one.

waiting = put_by(stores, [(answer_id, attached), …])
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from records.rows import Attached
from records.stores import Stores, Waiting

_THREADS: Final = 4
# Fewer are written sooner than threads are started.
_WORTH_IT: Final = 8


def put_by(stores: Stores, rows: Sequence[tuple[str, Attached]]) -> list[Waiting]:
    """Put the blobs of rows by, all or none.

    Raises:
        RecordsError: a file cannot be written.
    """
    waiting: list[Waiting] = []
    try:
        if len(rows) < _WORTH_IT:
            waiting += (stores.put_by(*row) for row in rows)
            return waiting
        with ThreadPoolExecutor(_THREADS) as pool:
            started = _started(pool, stores, rows)
            # One that failed is told when the others have ended.
            waiting += (future.result() for future in started if future.exception() is None)
            for future in started:
                future.result()
        waiting += (stores.put_by(*row) for row in rows[len(started) :])
    except BaseException:
        for put in waiting:
            stores.clear(put)
        raise
    return waiting


def _started(pool: ThreadPoolExecutor, stores: Stores, rows: Sequence[tuple[str, Attached]]) -> "list[Future[Waiting]]":
    started: list[Future[Waiting]] = []
    # A process on its way out starts no threads any more: the rest goes without.
    with suppress(RuntimeError):
        for row in rows:
            started.append(pool.submit(stores.put_by, *row))
    return started

"""Waiting for something that may never end, for so long and no longer.

facts = wait_for(10.0, lambda: read(version))      # raises TimeoutError; what was begun goes on without anybody
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

A = TypeVar("A")


def wait_for(seconds: float, ask: Callable[[], A]) -> A:
    """The answer of a function, or its error.

    Raises:
        TimeoutError: it has not ended by then. Its thread is not waited for when the process ends.
    """
    answer: Future[A] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="resunet-patience", daemon=True).start()
    return answer.result(seconds)

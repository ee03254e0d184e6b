"""A report that ends when the schedule that started it is gone, however it went.

    with lifeline() as end:                      # in the schedule
        subprocess.Popen(command, stdin=end)
    end_with_starter(5.0)                        # in the report, first of all

The schedule holds one end of a pipe, the report reads from the other: the system closes the first with the
process that holds it, `kill -9` included.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

# What a report that has to stop gets to close its MLflow run before it is killed.
CLOSING_S = 5.0


@contextlib.contextmanager
def lifeline() -> Iterator[int]:
    """Yield the end for the other process's standard input; the line is cut when the block is left."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)


def end_with_starter(grace_s: float) -> None:
    """From now on, stop this process by SIGTERM when its standard input ends, and hard after the grace."""
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        while os.read(0, 1024):
            pass
        # To the main thread: another one would not wake it from a wait.
        signal.pthread_kill(main, signal.SIGTERM)
        time.sleep(grace_s)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()

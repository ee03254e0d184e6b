"""Folders for pictures while messages are sent: made when one is needed, gone when it is over.

    class Reports(Scratch): …
    with Reports(…) as reports:
        self._new_folder()      # in it

Nothing is made before: where the disk is full, messages that say so go out all the same.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self


class Scratch:
    """Has folders while it is open."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _new_folder(self) -> Path:
        """An empty one.

        Raises:
            OSError: the disk takes none.
        """
        return Path(self._open.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))

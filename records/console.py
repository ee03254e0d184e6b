"""How every command ends: a failure prints one sentence and exits 2, a traceback only where it is asked for."""

import os
import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from records.garbage import collect_seldom
from resunet.errors import ResunetError

if TYPE_CHECKING:
    from records.settings import RecordsSettings

TRACEBACK_FILE = "traceback.txt"


def run(app: typer.Typer) -> None:
    """Run a Typer application; a failure becomes a message on stderr and exit code 2.

    A `ResunetError` is told in its own words. Any other exception was not foreseen: its traceback is left in
    RESUNET_HOME. RESUNET_DEBUG=1 shows the traceback of either.
    """
    collect_seldom()
    try:
        app()
    except ResunetError as error:
        _end(error, str(error))
    except Exception as error:
        _end(error, None)


def _end(error: Exception, sentence: str | None) -> None:
    settings = _settings()
    debug = settings is not None and settings.debug
    if debug:
        print(_traceback(error), file=sys.stderr)
    if sentence is None:
        kept = None if settings is None else _keep(error, settings.home)
        where = f"is in {kept}" if kept else "RESUNET_DEBUG=1 shows"
        where = "is above" if debug else where
        sentence = (
            f"this was not foreseen: {_first_words(error)}. Where that does not say what to mend, report it with its "
            f"traceback, which {where}"
        )
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {sentence}", markup=False, style="red")
    sys.exit(2)


def _settings() -> "RecordsSettings | None":
    # Here, not at the top: `--help` needs none of it.
    from records.settings import RecordsSettings

    try:
        return RecordsSettings.load()
    except ResunetError:
        return None


def _first_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    told = next(iter(_without_secrets(str(error)).strip().splitlines()), "")[:300]
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def _keep(error: Exception, home: Path) -> Path | None:
    """Write the traceback over the last one; None where that is not possible."""
    path = home / TRACEBACK_FILE
    with suppress(OSError):
        # For its owner alone: it repeats messages that others wrote.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as file:
            file.write(_traceback(error))
        return path
    return None


def _traceback(error: Exception) -> str:
    return _without_secrets("".join(traceback.format_exception(error)))


def _without_secrets(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)

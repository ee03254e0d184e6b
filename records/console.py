"""How every command ends: a mendable failure prints one sentence and exits 2, never a traceback."""

import sys

import typer
from rich.console import Console

from resunet.errors import ResunetError


def run(app: typer.Typer) -> None:
    """Run a Typer application; a `ResunetError` becomes a message on stderr and exit code 2."""
    try:
        app()
    except ResunetError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {error}", markup=False, style="red")
        sys.exit(2)

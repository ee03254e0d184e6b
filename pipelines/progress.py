"""One progress bar for all long steps; silent without a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int], None]


@contextmanager
def progress_bar(
    console: Console | None, description: str, total: int | None, done: int = 0, of_bytes: bool = False
) -> Iterator[Advance]:
    """Show a bar while the block runs.

    Args:
        console: where to draw; None, or one that is no terminal, draws nothing.
        total: how much there is to do, in items or bytes; None if unknown.
        done: how much was done before.
        of_bytes: count in bytes, else in items.

    Yields:
        A function that is told how much was done since it was last called.
    """
    if console is None or not console.is_terminal:
        yield lambda _: None
        return
    counter = DownloadColumn() if of_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counter, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda amount: progress.advance(task, amount)

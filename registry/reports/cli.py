"""`show`, `compare` and `changelog` of `python -m registry`."""

# Only what `--help` needs is imported here: MLflow takes seconds.
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter
from rich.console import Console

from registry import tables
from registry.settings import RegistrySettings
from resunet.errors import SettingsError, StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from registry.reports.reader import Reader

Name = Annotated[str, typer.Argument(help="registered model, such as resunet")]
Version = Annotated[str, typer.Argument(help="version number")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


@contextmanager
def _reading() -> Iterator[tuple["MlflowClient", "Reader"]]:
    from registry.connection import tracking
    from registry.reports.opening import open_reader

    with tracking() as client:
        yield client, open_reader(client)


def show(
    name: Name,
    version: Version,
    files: Annotated[bool, typer.Option("--files", help="fetch its files, and check them byte by byte")] = False,
    as_json: Json = False,
) -> None:
    """Show one version: where it came from, how good it is, who decided what on it, and who asks it now.

    Exit code: 2 where its files were looked for and cannot be read, or are not those that were made.

    Example: python -m registry show resunet 7
    """
    from registry.reports.show import Shown
    from registry.reports.show import show as gather
    from registry.reports.show_table import say_version

    with _reading() as (client, reader):
        shown = gather(client, reader, name, version, files)
    if as_json:
        typer.echo(TypeAdapter(Shown).dump_json(shown, indent=1).decode())
    else:
        say_version(tables.make_console(), shown)
    if shown.problem:
        raise StoreError(shown.problem)


def compare(
    name: Name,
    first: Annotated[str, typer.Argument(help="version number; such as that of the live version")],
    second: Annotated[str, typer.Argument(help="version number; differences are this one minus the first")],
    html: Annotated[
        Path | None, typer.Option(help="write a page that needs no network, with images where they differ most")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, max=50, help="images on that page; 0: none")] = 6,
    data: Annotated[
        Path | None, typer.Option(help="data set of the images; default: RESUNET_DATA, else where the run had it")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show two versions side by side: scores, slices, data, settings, requirements, size and speed.

    Example: python -m registry compare resunet 6 7 --html 6-7.html
    """
    from registry.reports.compare import Comparison
    from registry.reports.compare import compare as gather
    from registry.reports.compare_table import say_comparison
    from registry.reports.examples import draw_examples
    from registry.reports.page import render

    settings = RegistrySettings.load()
    console = tables.make_console()
    if html is not None and not html.parent.is_dir():
        raise SettingsError(f"--html: there is no folder {html.parent}; make it, or write elsewhere")
    with (
        _reading() as (client, reader),
        gather(client, reader, name, first, second, settings.trust) as (found, old, new),
    ):
        if html is not None:
            with Console(stderr=True).status("drawing images where they differ most"):
                drawn = draw_examples(found, old, new, examples, data or settings.data)
            _write(html, render(found, drawn, datetime.now(UTC)))
    if as_json:
        typer.echo(TypeAdapter(Comparison).dump_json(found, indent=1).decode())
    else:
        say_comparison(console, found)
    if html is not None:
        tables.say_notices(Console(stderr=True), [*drawn.notices, f"page: {html}"])


def changelog(
    name: Name,
    since: Annotated[str, typer.Option(help="only what happened since this version last went live")] = "",
) -> None:
    """Write release notes as Markdown: what went live when, by whom, why, and what changed.

    Example: python -m registry changelog resunet --since 3 > CHANGES.md
    """
    from registry.reports.changelog import changelog as write

    with _reading() as (client, reader):
        typer.echo(write(client, reader, name, since), nl=False)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; write elsewhere") from error


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of `python -m registry`."""
    for command in (show, compare, changelog):
        app.command()(command)

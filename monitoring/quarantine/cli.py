"""`python -m monitoring quarantine`: labelled live images on their way to a training, and who let them pass."""

# Only what `--help` needs is imported here.
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast, get_args

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from monitoring.quarantine.custody import Person, Question
    from records.batch import Batch
    from records.labels import Source
    from records.stores import Stores

app = typer.Typer(
    no_args_is_help=True,
    help="Labelled live images: collect them, look at them, and release them for training or turn them down.",
)

_REFUSED: Final = 3

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="As `quarantine list` shows it.")]
Model = Annotated[str, typer.Option(help="Registered model.")]
By = Annotated[str | None, typer.Option(help="Who decides. [default: the system's user]")]
Reason = Annotated[str, typer.Option(help="Why; it is kept for an auditor.")]


@app.command()
def collect(
    model: Model = "resunet",
    window: Annotated[str, typer.Option(help="Images that were answered in so long, up to now.")] = "30d",
    until: Annotated[
        str | None, typer.Option(help="End of the window, ISO 8601; UTC unless it says so. [default: now]")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="Labels of these: audit, picked, client; repeatable. [default: audit and picked]"),
    ] = None,
    group_by: Annotated[
        str,
        typer.Option(help="What stays in one split besides copies: none, slice (say, one slide each), day and slice."),
    ] = "none",
) -> None:
    """Gather labelled images that are in no batch yet into a new one, and have `pipelines prepare` look at it.

    Needs images and true masks that were kept (RESUNET_KEEP_IMAGES, RESUNET_KEEP_LABELS) in this RESUNET_HOME. Labels
    that clients sent are collected only if asked for, into a batch of their own. Nothing is trained on before somebody
    has released it.

    Exit code: 0 collected, 3 collected and `prepare` refuses a batch, 2 there is nothing to collect, or an error.
    """
    from monitoring.quarantine.custody import collect as run
    from monitoring.quarantine.words import batch_table, left
    from resunet.errors import DataError

    question = _question(model, window, until, source, group_by)
    with _open() as (engine, stores, home):
        done = run(engine, stores, home, question, datetime.now(UTC))
    told = left(done.found)
    if not done.batches:
        raise DataError("; ".join([f"there is nothing to collect of {model} in {question.window}", *told]))
    console = Console(highlight=False)
    console.print(batch_table(done.batches))
    for line in told:
        console.print(line, markup=False, soft_wrap=True)
    if any(batch.refusals for batch in done.batches):
        raise typer.Exit(_REFUSED)


@app.command(name="list")
def list_batches(
    model: Annotated[str | None, typer.Option(help="Of this model alone. [default: of all]")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also what was turned down, and what was trained on.")] = False,
) -> None:
    """Show the batches that wait: for somebody to decide on them, or for a training."""
    from monitoring.quarantine.words import batch_table
    from records.quarantine import read_batches

    with _open() as (engine, _stores, _home):
        found = read_batches(engine, model)
    shown = [batch for batch in found if every or batch.state == "quarantined" or not (batch.decision and batch.uses)]
    shown = [batch for batch in shown if every or not batch.is_turned_down]
    if shown:
        Console(highlight=False).print(batch_table(shown))
        return
    more = f"; --all shows {len(found)} that are decided on" if found else ""
    typer.echo(f"no batch waits: `python -m monitoring quarantine collect` makes one{more}")


@app.command()
def show(
    batch: BatchId,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a sheet of the images with label and answer.", file_okay=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=400, help="Images, those that agree least first.")] = 48,
) -> None:
    """Show a batch: the labels that agree least with the model first, since false ones are among them.

    The sheet shows pixels of clients, and lies outside of retention and `records forget`: delete it after you looked.
    """
    from monitoring.quarantine.sheet import SHEET_FILE, draw
    from monitoring.quarantine.words import batch_table, image_table
    from records.quarantine import find_batch
    from resunet.errors import SettingsError

    console = Console(highlight=False)
    with _open() as (engine, stores, _home):
        found = find_batch(engine, batch)
        console.print(batch_table([found]))
        console.print(image_table(found, limit))
        if out is None:
            return
        try:
            out.mkdir(parents=True, exist_ok=True, mode=0o700)
            drawn = draw(found, stores, out / SHEET_FILE, limit)
        except OSError as error:
            raise SettingsError(
                f"--out {out} cannot be written: {error.strerror}. Name a folder that you may write to"
            ) from error
    console.print(f"{drawn} images: {out / SHEET_FILE}", markup=False, soft_wrap=True)


@app.command()
def check(
    batch: BatchId,
    without: Annotated[list[str] | None, typer.Option(help="Take this image out, for good; repeatable.")] = None,
    reason: Annotated[str, typer.Option(help="Why they are taken out.")] = "",
) -> None:
    """Have `pipelines prepare` look at a batch again, without what is kept no more and what you take out.

    Exit code: 0 it may be released, 3 `prepare` refuses it, 2 an error.
    """
    from monitoring.quarantine.custody import check as run

    with _open() as (engine, stores, home):
        found = run(engine, stores, home, batch, without=without or (), why=reason, now=datetime.now(UTC))
    _say(found)
    if found.refusals:
        raise typer.Exit(_REFUSED)


@app.command()
def release(
    batch: BatchId,
    reason: Reason,
    by: By = None,
    of_clients: Annotated[
        bool, typer.Option("--of-clients", help="You know that these labels were sent by clients.")
    ] = False,
) -> None:
    """Let a batch be trained on, in your name: the next `pipelines retrain` takes it.

    Its images and true masks are copied to RESUNET_HOME/released, which no retention clears; `records forget` does.

    Example: python -m monitoring quarantine release 20260322-1a2b3c --by ada --reason "looked at each of them"
    """
    from monitoring.quarantine.custody import release as run

    with _open() as (engine, stores, _home):
        found = run(engine, stores, batch, _person(by, reason), datetime.now(UTC), of_clients=of_clients)
    _say(found)


@app.command()
def reject(batch: BatchId, reason: Reason, by: By = None) -> None:
    """Turn a batch down, in your name: its labels are not collected again unless they are drawn anew."""
    from monitoring.quarantine.custody import reject as run

    with _open() as (engine, stores, _home):
        found = run(engine, stores, batch, _person(by, reason), datetime.now(UTC))
    _say(found)


@app.command()
def withdraw(batch: BatchId, reason: Reason, by: By = None) -> None:
    """Take a release back, in your name: no retraining takes the batch any more, and its copies here are deleted.

    The decision stays, and the withdrawal stands beside it; the same labels are not collected again. Versions that were
    trained on the batch are named: what is to become of them is for you to say (`python -m registry rollback`,
    `archive`).
    """
    from monitoring.quarantine.custody import withdraw as run

    with _open() as (engine, stores, _home):
        here = batch in stores.released.batches()
        found = run(engine, stores, batch, _person(by, reason), datetime.now(UTC))
    _say(found)
    if not here:
        typer.echo("no copies of it are in this RESUNET_HOME: where they are, `records upkeep` deletes them in a day")


def register(parent: typer.Typer) -> None:
    """Make these commands part of another's."""
    parent.add_typer(app, name="quarantine")


def _question(model: str, window: str, until: str | None, source: list[str] | None, group_by: str) -> "Question":
    from monitoring.quarantine.collect import GroupBy
    from monitoring.quarantine.custody import Question
    from monitoring.window import Window, parse_duration, parse_end
    from records.labels import SOURCES
    from resunet.errors import SettingsError

    wrong = [name for name in source or () if name not in SOURCES]
    if wrong:
        raise SettingsError(f"{wrong[0]!r} is no source of labels: choose from {', '.join(SOURCES)}")
    if group_by not in get_args(GroupBy):
        raise SettingsError(f"--group-by {group_by!r}: choose from {', '.join(get_args(GroupBy))}")
    now = datetime.now(UTC)
    asked = Window.ending(now if until is None else parse_end(until, now), parse_duration(window))
    sources = cast("tuple[Source, ...]", tuple(dict.fromkeys(source or ("audit", "picked"))))
    return Question(model, asked, sources, cast(GroupBy, group_by))


def _person(by: str | None, reason: str) -> "Person":
    import getpass

    from monitoring.quarantine.custody import Person

    if by is None:
        try:
            by = getpass.getuser()
        except (OSError, KeyError, ImportError):
            by = ""
    return Person(by.strip(), reason.strip())


def _say(batch: "Batch") -> None:
    from monitoring.quarantine.words import known, labels

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"batch {batch.batch_id}: {batch.state}, {len(batch.images)} images, {labels(batch)}", markup=False)
    for line in known(batch):
        console.print(line, markup=False)


@contextmanager
def _open() -> "Iterator[tuple[Engine, Stores, Path]]":
    """The inference log, the stores of this home, and the home, as long as the block lasts."""
    from monitoring.live import open_log
    from records.sealing import open_keyring
    from records.settings import RecordsSettings
    from records.stores import Stores

    settings = RecordsSettings.load()
    keyring = open_keyring(settings)
    engine = open_log(settings)
    try:
        yield engine, Stores.of(settings.home, keyring), settings.home
    finally:
        engine.dispose()

"""`python -m records`: look after what is written down."""

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from records.forget import Forgotten

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look after the inference log and the decisions.")


@app.command()
def redrain() -> None:
    """Give predictions that the database refused another try: after an upgrade, or when the cause is mended.

    Takes what is stored now out of RESUNET_HOME/spool/rejected, and may run beside a server. The database is
    RESUNET_INFERENCE_LOG, else RESUNET_DATABASE.

    Exit code: 0 nothing is left, 2 something is (which stays where it is) or an error.
    """
    from records.log_database import open_log
    from records.redrain import redrain as again
    from records.sealing import open_keyring
    from records.settings import RecordsSettings
    from resunet.errors import RecordsError

    settings = RecordsSettings.load()
    engine = open_log(settings.inference_log or settings.database_url)
    try:
        done = again(engine, settings.home, open_keyring(settings))
    finally:
        engine.dispose()
    typer.echo(f"{done.stored} rejected predictions are in the database now")
    if done.left:
        reasons = "; ".join(f"{count} because {reason}" for reason, count in done.left.items())
        raise RecordsError(
            f"{sum(done.left.values())} are still rejected: {reasons}. They stay in "
            f"{settings.home / 'spool' / 'rejected'}: mend their cause or their line and run this again"
        )


@app.command()
def upgrade() -> None:
    """Bring the database of decisions to this release: RESUNET_DATABASE, else the SQLite file in RESUNET_HOME.

    Then the log of predictions, if there is one (RESUNET_INFERENCE_LOG, else beside the decisions): it is added to.

    Back it up first: there is no way back but that. For SQLite stop the server and copy the file, with the file of the
    same name and `-wal` if there is one; for PostgreSQL use pg_dump. All of it is done or, where it fails, nothing.
    Servers of model versions go on logging meanwhile, and need no upgrade themselves.

    Exit code: 0 the database is of this release now, 2 an error.
    """
    from records import failures, sketches
    from records.database import describe, explained, make_engine
    from records.database import upgrade as bring_up
    from records.ledger import HEAD
    from records.log_database import open_log, stored_format
    from records.settings import RecordsSettings
    from records.tables import prepare

    settings = RecordsSettings.load()
    engine = make_engine(settings.database_url)
    try:
        done = bring_up(engine)
        with explained(engine), engine.connect() as connection:
            log = settings.inference_log or (settings.database_url if stored_format(connection) is not None else None)
    finally:
        engine.dispose()
    if not done.steps:
        typer.echo(f"{describe(engine)} is at revision {HEAD} already: nothing was changed")
    elif done.before is None:
        typer.echo(f"{describe(engine)} was empty: its tables were made, at revision {HEAD}")
    else:
        typer.echo(f"{describe(engine)} was upgraded from revision {done.before} to {HEAD}")
        for step in done.steps:
            typer.echo(f"  {step}")
    if log is not None:
        opened = open_log(log)
        try:
            sketches.prepare(opened)
            prepare(opened, failures.request_failures)
        finally:
            opened.dispose()
        typer.echo(f"{describe(opened)} has all tables and columns of the log of predictions")


@app.command()
def upkeep() -> None:
    """Delete the masks and images of RESUNET_HOME that are past their retention, too much, or forgotten.

    A running server does the same by itself; this is for a home where none runs any more, and for schedules. The
    database is RESUNET_INFERENCE_LOG, else RESUNET_DATABASE.

    Exit code: 0 it is done, 2 an error.
    """
    from datetime import UTC, datetime

    from records.log_database import open_log
    from records.sealing import open_keyring
    from records.settings import RecordsSettings
    from records.stores import Stores
    from records.upkeep import Retention, Upkeep

    settings = RecordsSettings.load()
    retention = Retention.of(settings)
    stores = Stores.of(settings.home, open_keyring(settings))
    engine = open_log(settings.inference_log or settings.database_url)
    try:
        told = Upkeep(engine, settings.home, stores, retention, lambda: datetime.now(UTC)).run()
    finally:
        engine.dispose()
    for line in told:
        typer.echo(line)
    masks, images = retention.masks.days, retention.images.days
    typer.echo(f"masks older than {masks} days and images older than {images} days are deleted")


@app.command(name="new-key")
def new_key() -> None:
    """Make a key to seal masks and images with, and print it: for RESUNET_BLOB_KEY, or a line of RESUNET_BLOB_KEY_FILE.

    It is kept nowhere else. Whoever loses it has lost what it sealed.
    """
    from records.sealing import new_key as make

    typer.echo(make())


@app.command()
def forget(
    request: Annotated[str | None, typer.Option(help="a request's id")] = None,
    client: Annotated[str | None, typer.Option(help="a client's name, as its requests gave it")] = None,
    key: Annotated[str | None, typer.Option(help="an API key's id: all that was asked with it")] = None,
    actor: Annotated[str | None, typer.Option(help="who asks for it", show_default="you")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Forget a request, a client or a key: masks, images and labels are deleted, rows made anonymous, up to now.

    Runs beside servers, and again after it was cut off; there is no way back. The database is RESUNET_INFERENCE_LOG,
    else RESUNET_DATABASE; the files are those in RESUNET_HOME. What stays is in docs/privacy.md.

    Exit code: 0 it is forgotten, 2 an error, or the answer was no.
    """
    from records.forget import forget as run
    from records.forget import survey
    from records.log_database import open_log
    from records.sealing import open_keyring
    from records.settings import RecordsSettings
    from records.subject import Subject, clients_asked_with_keys
    from resunet.errors import RecordsError

    if sum(given is not None for given in (request, client, key)) != 1:
        raise RecordsError("what is to be forgotten? Give --request, --client or --key, one of them")
    if not (request or client or key):
        raise RecordsError("which client, request or key is to be forgotten? Its name is empty")
    settings = RecordsSettings.load()
    keyring = open_keyring(settings)
    engine = open_log(settings.inference_log or settings.database_url)
    try:
        if request is not None:
            subjects = [Subject("request", request)]
        else:
            # With an API key a row's client begins with the key's id: the same name is another client then.
            bound = clients_asked_with_keys(engine, settings.home, client, key)
            subjects = [Subject("client", one) for one in ([] if client is None else [client]) + bound]
            if key is not None and not subjects:
                raise RecordsError(f"nothing was asked with the key {key}: `python -m serving keys list` shows ids")
        if not yes:
            for subject in subjects:
                found = survey(engine, settings.home, subject)
                told = f"{found.predictions} predictions in the database, {found.waiting} that wait for it"
                typer.echo(f"{subject.kind} {subject.text}: {told}")
            try:
                yes = typer.confirm("forget them for good?")
            except typer.Abort:
                yes = False
            if not yes:
                raise RecordsError("nothing was forgotten: answer y, or give --yes")
        for subject in subjects:
            _say(run(engine, settings.home, subject, actor or _you(), keyring))
    finally:
        engine.dispose()


def _say(done: "Forgotten") -> None:
    typer.echo(
        f"{done.predictions} predictions in the database and {done.waiting} that waited for it are anonymous now"
    )
    typer.echo(f"{done.masks} masks, {done.images} images and {done.labels} labels are deleted")
    if done.trained:
        versions = ", ".join(f"{model} version {number}" for model, _, number in map(_parts, sorted(done.trained)))
        typer.echo(f"it was trained on by {versions}, and by what was trained from these: train anew, and archive them")
    if done.held:
        typer.echo(f"of these, {done.held} stay in the spool of a running server, without effect, until it is drained")
    if done.unreadable:
        typer.echo(f"{done.unreadable} lines in spool/rejected can be read by nobody, and name nobody: look at them")


def _parts(version: str) -> tuple[str, str, str]:
    return version.rpartition(" ")


def _you() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"

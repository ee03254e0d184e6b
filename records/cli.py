"""`python -m records`: look after what is written down."""

import typer

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
    from records.settings import RecordsSettings
    from resunet.errors import RecordsError

    settings = RecordsSettings.load()
    engine = open_log(settings.inference_log or settings.database_url)
    try:
        done = again(engine, settings.home)
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

    Back it up first: there is no way back but that. For SQLite stop the server and copy the file, with the file of the
    same name and `-wal` if there is one; for PostgreSQL use pg_dump. All of it is done or, where it fails, nothing.
    Servers of model versions go on logging meanwhile, and need no upgrade themselves.

    Exit code: 0 the database is of this release now, 2 an error.
    """
    from records.database import describe, make_engine
    from records.database import upgrade as bring_up
    from records.ledger import HEAD
    from records.settings import RecordsSettings

    engine = make_engine(RecordsSettings.load().database_url)
    try:
        done = bring_up(engine)
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

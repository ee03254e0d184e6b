"""`python -m records`: look after what is written down."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look after the inference log.")


# With a callback a single command keeps its name: others will stand beside it.
@app.callback()
def main() -> None:
    """Look after the inference log."""


@app.command()
def redrain() -> None:
    """Give predictions that the database refused another try: after an upgrade, or when the cause is mended.

    Takes what is stored now out of RESUNET_HOME/spool/rejected, and may run beside a server. The database is
    RESUNET_INFERENCE_LOG, else RESUNET_DATABASE.

    Exit code: 0 nothing is left, 2 something is (which stays where it is) or an error.
    """
    from records.database import open_database
    from records.redrain import redrain as again
    from records.settings import RecordsSettings
    from resunet.errors import RecordsError

    settings = RecordsSettings.load()
    engine = open_database(settings.inference_log or settings.database_url)
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

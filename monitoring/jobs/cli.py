"""`python -m monitoring schedule` and `jobs`."""

# Only what `--help` needs is imported here.
from typing import Annotated

import typer

_ROUTES = "Report on these rows: production, canary, shadow, batch; repeatable. [default: all but batch]"


def register(app: typer.Typer) -> None:
    """Add the commands to a program."""

    @app.command()
    def schedule(
        window: Annotated[str, typer.Option(help="Length of a window, on UTC hours or days: 1h, 24h, 7d.")] = "24h",
        every: Annotated[
            str | None,
            typer.Option(
                help="From one window's end to the next; shorter than --window, they overlap. [default: --window]"
            ),
        ] = None,
        watermark: Annotated[
            str, typer.Option(help="A window closes this long after its end; later rows are late.")
        ] = "10m",
        back: Annotated[
            str, typer.Option(help="Windows that were missed are made up if they ended within this.")
        ] = "7d",
        model: Annotated[str, typer.Option(help="Registered model.")] = "resunet",
        version: Annotated[int | None, typer.Option(help="Version to look at; instead of --stage.")] = None,
        stage: Annotated[
            str, typer.Option(help="Look at the version of this stage; Production: which answered most of a window.")
        ] = "Production",
        min_rows: Annotated[
            int, typer.Option(min=2, help="With fewer live rows a window has no verdict, and no place in the trend.")
        ] = 20,
        alpha: Annotated[
            float, typer.Option(min=1e-4, max=0.5, help="Share of windows without drift that may raise an alarm.")
        ] = 0.01,
        min_effect: Annotated[
            float, typer.Option(min=0.0, max=1.0, help="Smallest difference that is worth an alarm.")
        ] = 0.1,
        min_share: Annotated[
            float, typer.Option(min=0.0, max=1.0, help="Smallest share of images like none of the reference.")
        ] = 0.02,
        route: Annotated[list[str] | None, typer.Option(help=_ROUTES)] = None,
        once: Annotated[bool, typer.Option("--once", help="Run what is due now, then exit (for cron).")] = False,
        only_errors: Annotated[
            bool, typer.Option("--only-errors", help="With --once, only an error exits with something else than 0.")
        ] = False,
        limit: Annotated[str, typer.Option(help="A report that takes longer is stopped as hung.")] = "10m",
        retrain_limit: Annotated[
            str, typer.Option(help="A retraining that an alert has ordered is stopped as hung after so long.")
        ] = "12h",
        grace: Annotated[str, typer.Option(help="How long a running job may go on after SIGTERM or Ctrl-C.")] = "20s",
        lease: Annotated[
            str, typer.Option(help="A job whose schedule was not heard of for so long is taken over by another.")
        ] = "1m",
    ) -> None:
        """Report each window once when it is closed, and run the other jobs, until SIGTERM or Ctrl-C.

        What is due, what ran and who runs it is kept in the database of the predictions (RESUNET_INFERENCE_LOG, else
        RESUNET_DATABASE): windows that were missed are made up once, and of several schedules on several machines one
        runs a job. In one RESUNET_HOME a second one exits 2. `python -m monitoring jobs` shows how they are.

        Exit code: 0 when it was stopped. With --once: 2 an error, 3 drift, 2 too few rows, else 0.
        """
        from monitoring.alerts.policy import orders_retraining
        from monitoring.alerts.recipients import AlertSettings
        from monitoring.jobs.alarm_rate import alarms_a_month
        from monitoring.jobs.commands import Commands
        from monitoring.jobs.reach import Reach
        from monitoring.jobs.table import Reporting, commands_of, jobs_of
        from monitoring.jobs.turns import Turns, holder_name
        from monitoring.live import open_log
        from monitoring.schedule import run_schedule, single
        from monitoring.window import parse_duration
        from records.settings import RecordsSettings
        from records.watch.jobs import database_time

        longest, patience, term = parse_duration(limit), parse_duration(grace), parse_duration(lease)
        training = parse_duration(retrain_limit)
        options = ("--alpha", str(alpha), "--min-effect", str(min_effect), "--min-share", str(min_share))
        reporting = Reporting(
            window=window,
            every=every,
            watermark=watermark,
            back=back,
            model=model,
            version=version,
            stage=stage,
            routes=tuple(route or ()),
            min_rows=min_rows,
            options=options,
        )
        settings = RecordsSettings.load()
        retrain = training if orders_retraining(AlertSettings.load().alerts, model) else None
        jobs = jobs_of(reporting, known=commands_of(app), home=settings.home, limit=longest, retrain=retrain)
        with single(settings.home, reporting.name) as lock:
            commands = Commands(lock)
            turns = Turns(commands.run, database_time, holder_name(), term)
            reach = Reach(lambda: open_log(RecordsSettings.load()))
            if not once:
                typer.echo(alarms_a_month(reporting.rules, alpha), err=True)
            code = run_schedule(jobs, turns, commands, reach, grace=patience, once=once, only_errors=only_errors)
        raise typer.Exit(code)

    @app.command()
    def jobs(
        patience: Annotated[str, typer.Option(help="A job is overdue when it was due so long ago.")] = "15m",
        as_json: Annotated[bool, typer.Option("--json", help="JSON instead of the table.")] = False,
        remove: Annotated[str | None, typer.Option(help="Forget a job that no schedule has any more.")] = None,
    ) -> None:
        """Show the jobs of all schedules on the database: last run, outcome, next due, who runs them, heartbeat.

        Exit code: 0 all is well, 3 a job failed or is overdue or none has ever run, 2 an error.
        """
        import json

        from rich.console import Console

        from monitoring.jobs import status
        from monitoring.live import open_log
        from monitoring.window import parse_duration
        from records.settings import RecordsSettings
        from records.watch import jobs as table
        from resunet.errors import SettingsError

        late = parse_duration(patience)
        engine = open_log(RecordsSettings.load())
        try:
            if remove is not None and not table.remove(engine, remove, table.database_time(engine)):
                raise SettingsError(
                    f"there is no job {remove!r}, or it runs now: `python -m monitoring jobs` shows names and holders"
                )
            states, now = table.jobs_state(engine), table.database_time(engine)
        finally:
            engine.dispose()
        console = Console(highlight=False)
        if as_json:
            console.print_json(json.dumps(status.as_json(states, now, late)))
        elif states:
            console.print(status.table(states, now, late))
        else:
            console.print("no job has ever run on this database: start `python -m monitoring schedule`")
        bad = status.troubles(states, now, late)
        for line in bad if not as_json else ():
            console.print(line, markup=False, soft_wrap=True)
        raise typer.Exit(3 if bad or not states else 0)

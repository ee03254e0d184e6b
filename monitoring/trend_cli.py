"""`python -m monitoring trend`."""

# Only what `--help` needs is imported here: MLflow takes seconds.
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trend)


def trend(
    window: Annotated[str, typer.Option(help="Length of one window: 6h, 24h, 7d.")] = "24h",
    windows: Annotated[int, typer.Option(min=8, max=400, help="How many of them to look at, the last ones.")] = 28,
    model: Annotated[str, typer.Option(help="Registered model.")] = "resunet",
    version: Annotated[int | None, typer.Option(help="Version to look at; instead of --stage.")] = None,
    stage: Annotated[str, typer.Option(help="Look at the newest version in this stage.")] = "Production",
    until: Annotated[
        str | None, typer.Option(help="End of the last window, ISO 8601. [default: the last that is over, in UTC]")
    ] = None,
    min_rows: Annotated[int, typer.Option(min=2, help="A window with fewer rows is left out.")] = 20,
    alpha: Annotated[
        float, typer.Option(min=1e-3, max=0.5, help="Share of evaluations without a trend that may raise an alarm.")
    ] = 0.005,
    min_change: Annotated[
        float, typer.Option(min=0.0, help="Smallest change worth an alarm, in standard deviations of the images.")
    ] = 0.25,
    route: Annotated[
        list[str] | None,
        typer.Option(help="Look at rows on production, canary, shadow, batch; repeatable. [default: all but batch]"),
    ] = None,
    counts: Annotated[
        bool,
        typer.Option("--counts", help="Let alerts take note of it, in place of the schedule's of the same windows."),
    ] = False,
    brief: Annotated[bool, typer.Option("--brief", help="One line instead of the table.")] = False,
) -> None:
    """Look for slow drift: whether windows that follow each other change in one direction.

    Exit code: 0 no trend, 3 a trend, 2 too few windows with enough rows, or an error.
    """
    from monitoring.live import open_log, routes_of
    from monitoring.settings import MonitoringSettings
    from monitoring.tracking import connect, find_version
    from monitoring.trend import TrendQuestion, run_trend
    from monitoring.trend_words import trend_table
    from monitoring.window import last_end, parse_duration, parse_end
    from records.settings import RecordsSettings
    from records.watch.reports import Kind

    length, now = parse_duration(window), datetime.now(UTC)
    end = last_end(now, length) if until is None else parse_end(until, now)
    client, settings = connect(patient=counts), MonitoringSettings.load()
    watched = find_version(client, model, version=None if version is None else str(version), stage=stage)
    question = TrendQuestion(
        watched,
        end,
        length,
        windows,
        routes=routes_of(route),
        min_rows=min_rows,
        alpha=alpha,
        min_change=min_change,
        seed=settings.seed,
    )
    kind: Kind = "trend" if counts else "trend by hand"
    engine = open_log(RecordsSettings.load())
    try:
        answer = run_trend(question, client=client, engine=engine, experiment=settings.experiment, kind=kind)
    finally:
        engine.dispose()
    few = answer.verdict == "too few rows"
    console = Console(stderr=few, soft_wrap=True, highlight=False)
    if not (brief or few):
        Console(highlight=False).print(trend_table(answer))
    console.print(answer.summary, markup=False)
    raise typer.Exit({"no drift": 0, "too few rows": 2, "drift": 3}[answer.verdict])

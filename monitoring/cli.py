"""`python -m monitoring report`; `schedule` and `jobs` are in monitoring.jobs.cli."""

# Only what `--help` needs is imported here: MLflow and Evidently take seconds.
import os
import signal
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monitoring.alerts.cli import register as register_alerts
from monitoring.jobs.cli import register as register_jobs
from monitoring.performance.cli import register as register_performance
from monitoring.quarantine.cli import register as register_quarantine
from monitoring.trend_cli import register as register_trend
from monitoring.window import MIN_ROWS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Compare what a version sees with what it was trained on, once or on a schedule.",
)

EXIT_CODES = {"no drift": 0, "too few rows": 2, "drift": 3}

Window = Annotated[str, typer.Option(help="How far back to look: 30m, 24h, 7d.")]
Model = Annotated[str, typer.Option(help="Registered model.")]
Version = Annotated[int | None, typer.Option(help="Version to look at; instead of --stage.")]
Stage = Annotated[str, typer.Option(help="Look at the newest version in this stage.")]
MinRows = Annotated[int, typer.Option(min=2, help="With fewer live rows there is no verdict.")]
Alpha = Annotated[
    float, typer.Option(min=1e-4, max=0.5, help="Share of windows without drift that may raise an alarm.")
]
MinEffect = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Smallest gap between the cumulative distributions that is worth an alarm."),
]
MinShare = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Smallest share of images unlike any of the reference that is worth an alarm."),
]
Route = Annotated[
    list[str] | None,
    typer.Option(help="Look at these rows: production, canary, shadow, batch; repeatable. [default: all but batch]"),
]
Counts = Annotated[
    bool,
    typer.Option("--counts", help="Let alerts take note of it, in the place of the schedule's on the same window."),
]


@app.command()
def report(
    window: Window = "24h",
    model: Model = "resunet",
    version: Version = None,
    stage: Stage = "Production",
    until: Annotated[
        str | None,
        typer.Option(help="End of the window, ISO 8601; UTC unless it says otherwise. [default: now]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report's files, besides MLflow.", file_okay=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The data set that was trained on, for pictures.", file_okay=False, exists=True),
    ] = None,
    min_rows: MinRows = MIN_ROWS,
    alpha: Alpha = 0.01,
    min_effect: MinEffect = 0.1,
    min_share: MinShare = 0.02,
    route: Route = None,
    counts: Counts = False,
    brief: Annotated[bool, typer.Option("--brief", help="One line instead of the table.")] = False,
    tied: Annotated[bool, typer.Option("--tied", hidden=True, help="Stop when standard input ends.")] = False,
) -> None:
    """Compare a window of live images with the version's training data.

    Reads the predictions that the server logged to RESUNET_INFERENCE_LOG (else RESUNET_DATABASE), runs
    Evidently, and keeps page, picture and figures in the MLflow experiment `resunet-monitoring`.

    What the schedule reports counts for policies of alerts; what is asked for by hand does with --counts alone.

    Exit code: 0 no drift, 3 drift, 2 too few rows or an error.
    """
    from monitoring.lifeline import CLOSING_S, end_with_starter
    from monitoring.live import routes_of
    from monitoring.window import Window as TimeWindow
    from monitoring.window import parse_duration, parse_end

    _stop_politely()
    if tied:
        end_with_starter(CLOSING_S)
    now = datetime.now(UTC)
    end = now if until is None else parse_end(until, now)
    asked = TimeWindow.ending(end, parse_duration(window))
    routes = routes_of(route)
    if out is not None:
        _check_folder(out)

    # One line a file is for notebooks.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from monitoring.answer import Question, too_few
    from monitoring.drift import Rule
    from monitoring.live import open_log
    from monitoring.parts.words import tables
    from monitoring.report import Places, run_report
    from monitoring.settings import MonitoringSettings
    from monitoring.tracking import connect, find_version
    from monitoring.words import drift_table, summary
    from records.images import ImageStore
    from records.sealing import open_keyring
    from records.settings import RecordsSettings

    settings, records, client = MonitoringSettings.load(), RecordsSettings.load(), connect(patient=counts)
    watched = find_version(client, model, version=None if version is None else str(version), stage=stage)
    question = Question(
        version=watched,
        window=asked,
        routes=routes,
        min_rows=min_rows,
        rule=Rule(alpha, min_effect, min_share, settings.seed),
        sample_rows=settings.sample_rows,
    )
    answer = run_report(
        question,
        client=client,
        open_engine=lambda: open_log(records),
        experiment=settings.experiment,
        places=Places(
            folder=out,
            workspace=settings.workspace or records.home / "evidently",
            data=data,
            kept=ImageStore(records.home / "images", open_keyring(records)).get,
        ),
        kind="window" if counts else "window by hand",
    )
    console = Console(soft_wrap=brief, highlight=False)
    if answer.drift.verdict == "too few rows":
        Console(stderr=True, soft_wrap=True, highlight=False).print(too_few(answer), markup=False)
    elif brief:
        console.print(f"{summary(answer.drift)} [{answer.headline}, run {answer.run_id}]", markup=False)
    else:
        if answer.drift.columns:
            console.print(drift_table(answer.drift, answer.headline))
        for table in tables(answer.parts, drifted=answer.drift.verdict == "drift"):
            console.print(table)
        for line in (*answer.notes, summary(answer.drift)):
            console.print(line, markup=False)
        console.print(f"MLflow experiment {settings.experiment}, run {answer.run_id}", markup=False)
        if out is not None:
            console.print(f"files: {out}", markup=False, soft_wrap=True)
    raise typer.Exit(EXIT_CODES[answer.drift.verdict])


def _check_folder(folder: Path) -> None:
    """Find out before the work, not after it, that a folder cannot take the report."""
    from resunet.errors import SettingsError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"--out {folder} cannot be written: {error.strerror}. Name a folder that you may write to"
        ) from error


def _stop_politely() -> None:
    """Leave through the code that closes the MLflow run, also on SIGTERM."""

    def leave(_signal: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)


for register in (register_trend, register_jobs, register_performance, register_alerts, register_quarantine):
    register(app)

"""`python -m monitoring label`, `performance` and `pick`."""

# Only what `--help` needs is imported here: MLflow, pandas and matplotlib take seconds.
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from monitoring.performance.version_files import HeldOutScores
    from monitoring.tracking import WatchedVersion
    from monitoring.window import Window as TimeWindow
    from records.stores import Stores
    from resunet.errors import ResunetError

# Of refused rows that are told one by one.
_TOLD = 1000

Model = Annotated[str, typer.Option(help="Registered model.")]
Window = Annotated[str, typer.Option(help="How far back to look: 24h, 7d, 30d.")]
Until = Annotated[str | None, typer.Option(help="End of the window, ISO 8601; UTC unless it says so. [default: now]")]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command()(label)
    app.command()(performance)
    app.command()(pick)


def label(
    csv: Annotated[Path, typer.Option("--csv", help="Columns request_id, and mask (a PNG's path) or dice.")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder that masks are relative to. [default: the file's]", file_okay=False)
    ] = None,
    source: Annotated[str, typer.Option(help="Where a row names none: audit, picked or client.")] = "client",
    model: Model = "resunet",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Find out what would happen, and write nothing.")] = False,
) -> None:
    """Write down labels that came later: each is scored against the mask that was answered to its request.

    `audit` is for images that were drawn at random, and counts in window figures; `picked` for those that were chosen
    because of what they look like; `client` for what clients sent. The columns source and model override the options.
    A label is written once however often the file is run; one of the same request and source is replaced.

    Exit code: 0 all rows are written, 2 some were refused (the others are written) or an error.
    """
    from rich.progress import track

    from monitoring.performance.label_file import Defaults, read_label_file
    from monitoring.performance.labelling import label_all, outcome_table
    from records.labels import SOURCES
    from records.settings import RecordsSettings
    from resunet.errors import DataError, SettingsError

    known = {name: name for name in SOURCES}
    if source not in known:
        raise SettingsError(f"{source!r} is no source of labels: choose from {', '.join(SOURCES)}")
    rows = read_label_file(csv)
    defaults = Defaults(masks or csv.parent, known[source], model)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    engine, stores = _open()
    try:
        shown = track(rows, "Labelling", console=errors, transient=True, disable=not errors.is_terminal)
        now = datetime.now(UTC)
        keep = RecordsSettings.load().keep_labels
        done = label_all(shown, defaults, engine=engine, stores=stores, keep=keep, now=now, dry_run=dry_run)
    finally:
        engine.dispose()
    for one in done.refused[:_TOLD]:
        errors.print(f"line {one.number}, request {one.request_id or '(none)'}: {one.why}", markup=False, style="red")
    Console(highlight=False).print(outcome_table(done, dry_run=dry_run))
    if done.refused:
        raise DataError(
            f"{len(done.refused)} of {len(rows)} rows were refused"
            + ("" if dry_run else "; the others are written")
            + ": mend them and run the file again"
        )


def performance(
    window: Window = "7d",
    model: Model = "resunet",
    version: Annotated[int | None, typer.Option(help="This version alone. [default: all that answered]")] = None,
    by: Annotated[str, typer.Option(help="Also by slice, by route, or by both: slice,route.")] = "",
    route: Annotated[
        list[str] | None,
        typer.Option(help="Answers on these routes; repeatable. [default: all but batch]"),
    ] = None,
    picked: Annotated[
        bool, typer.Option("--picked", help="Count picked images too, by the probability they were picked with.")
    ] = False,
    client: Annotated[
        bool, typer.Option("--client", help="Show labels that clients sent instead: no sample of anything.")
    ] = False,
    until: Until = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for page, sheet of the worst and matrix.", file_okay=False)
    ] = None,
    worst: Annotated[int, typer.Option(min=1, max=200, help="Images on the sheet of the worst.")] = 12,
    windows: Annotated[
        int | None,
        typer.Option(min=1, max=366, help="Each of the last so many windows; what is new is kept."),
    ] = None,
) -> None:
    """Measure what versions were worth in a window, by the labels of its images.

    A late label counts in the window in which its image was answered. Only random audits count unless --picked or
    --client asks for others. Figures go to the MLflow experiment `resunet-monitoring`; images only to --out.

    Exit code: 0 measured, 2 there are no labels that count (with --windows 0), or an error.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from monitoring.performance.report import PerformanceQuestion, log_figures, measure_window, write_files
    from monitoring.performance.rounds import measure_round
    from monitoring.performance.words import notes, performance_table
    from monitoring.settings import MonitoringSettings
    from monitoring.tracking import connect
    from resunet.errors import SettingsError

    groupings = tuple(part.strip() for part in by.split(",") if part.strip())
    if windows is not None and out is not None:
        raise SettingsError("--out is for one window: leave --windows out, and say with --until which")
    settings, asked, routes = MonitoringSettings.load(), _window(window, until), _routes(route)
    if windows is not None:
        asked = _over(asked, window, until)
    number = None if version is None else str(version)
    question = PerformanceQuestion(model, asked, groupings, number, routes, picked=picked, client=client)
    console = Console(highlight=False)
    engine, stores = _open()
    try:
        if windows is not None:
            mlflow = connect(patient=True)
            found = measure_round(
                question, window, windows, engine=engine, client=mlflow, experiment=settings.experiment
            )
            console.print(found.line, markup=False, soft_wrap=True)
            return
        done = measure_window(question, engine)
        if out is not None:
            try:
                write_files(done, out, stores, worst)
            except OSError as error:
                raise _unwritable(out, error) from error
    finally:
        engine.dispose()
    console.print(performance_table(done.measured, done.headline))
    for note in notes(done.weighing):
        console.print(note, markup=False)
    runs = log_figures(done, connect(), settings.experiment)
    console.print(f"MLflow experiment {settings.experiment}, run {', '.join(runs)}", markup=False, soft_wrap=True)
    if out is not None:
        console.print(f"files: {out}", markup=False, soft_wrap=True)


def pick(
    out: Annotated[Path, typer.Option(help="New folder for images, masks to correct and labels.csv.", file_okay=False)],
    n: Annotated[int, typer.Option("--n", min=1, max=2000, help="How many images.")] = 50,
    window: Window = "7d",
    until: Until = None,
    model: Model = "resunet",
    version: Annotated[int | None, typer.Option(help="Answers of this version; instead of --stage.")] = None,
    stage: Annotated[str, typer.Option(help="Answers of the newest version in this stage.")] = "Production",
    random: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share drawn uniformly at random: the audits of window figures.")
    ] = 0.3,
    route: Annotated[
        list[str] | None, typer.Option(help="Answers on these routes; repeatable. [default: all but batch]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same draws again. [default: new ones]")] = None,
) -> None:
    """Choose the kept images that are most worth labelling, and write them with the model's masks as drafts.

    Uncertain ones, ones far from the version's reference, and these unlike each other; beside them a share at random,
    by which windows are measured. Correct the masks, then: python -m monitoring label --csv OUT/labels.csv

    Needs images that were kept (RESUNET_KEEP_IMAGES). What is written lies outside of retention and `records forget`.

    Exit code: 0 chosen, 2 there is nothing to choose from, or an error.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import secrets
    import tempfile

    from monitoring.performance.export import LABELS_FILE
    from monitoring.performance.pick import PickQuestion
    from monitoring.performance.pick import pick as run
    from monitoring.performance.version_files import reference_space
    from monitoring.performance.words import pick_table
    from monitoring.tracking import connect, find_version

    asked, routes = _window(window, until), _routes(route)
    client = connect()
    watched = find_version(client, model, version=None if version is None else str(version), stage=stage)
    question = PickQuestion(watched, asked, n, random, routes, secrets.randbits(32) if seed is None else seed)
    engine, stores = _open()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            space = reference_space(watched, Path(scratch), client.tracking_uri)
            scores = _scores(watched, Path(scratch), client.tracking_uri)
        done = run(question, engine, stores, space, out, datetime.now(UTC), scores=scores)
    finally:
        engine.dispose()
    console = Console(highlight=False)
    console.print(pick_table(done.chosen, f"{watched}, {asked}: pick {done.pick_id}"))
    for note in done.notes:
        console.print(note, markup=False)
    then = f"correct the masks in {out / 'masks'}, then: python -m monitoring label --csv {out / LABELS_FILE}"
    console.print(then, markup=False, soft_wrap=True)


def _scores(version: "WatchedVersion", folder: Path, tracking_uri: str) -> "HeldOutScores | None":
    """How the version's test images were scored; None where this release does not understand it."""
    from monitoring.performance.version_files import held_out_scores
    from resunet.errors import VersionError

    try:
        return held_out_scores(version, folder, tracking_uri)
    except VersionError:
        return None


def _open() -> "tuple[Engine, Stores]":
    """The inference log, and the masks and images of this home."""
    from monitoring.live import open_log
    from records.sealing import open_keyring
    from records.settings import RecordsSettings
    from records.stores import Stores

    settings = RecordsSettings.load()
    keyring = open_keyring(settings)
    return open_log(settings), Stores.of(settings.home, keyring)


def _window(length: str, until: str | None) -> "TimeWindow":
    from monitoring.window import Window, parse_duration, parse_end

    now = datetime.now(UTC)
    return Window.ending(now if until is None else parse_end(until, now), parse_duration(length))


def _over(asked: "TimeWindow", length: str, until: str | None) -> "TimeWindow":
    """The last window that is over, end to end, where nobody says which."""
    from monitoring.window import Window, last_end, parse_duration

    long = parse_duration(length)
    return asked if until is not None else Window.ending(last_end(asked.end, long), long)


def _routes(given: list[str] | None) -> tuple[str, ...]:
    from monitoring.live import LIVE_ROUTES
    from records.schema import ROUTES
    from resunet.errors import SettingsError

    wrong = [name for name in given or () if name not in ROUTES]
    if wrong:
        raise SettingsError(f"{wrong[0]!r} is not a route: choose from {', '.join(ROUTES)}")
    return tuple(given or LIVE_ROUTES)


def _unwritable(folder: Path, error: OSError) -> "ResunetError":
    from resunet.errors import SettingsError

    return SettingsError(f"--out {folder} cannot be written: {error.strerror}. Name a folder that you may write to")

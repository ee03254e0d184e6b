"""The command `retrain`; it imports what it needs only when it runs."""

import signal
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console

from pipelines.options import Groups, Slices, Where


def retrain(
    model_name: Annotated[str, typer.Option(help="Registered model.")] = "resunet",
    data: Annotated[
        str, typer.Option(help="Data set; default: RESUNET_DATA, else where the run of the live version had it.")
    ] = "",
    where: Where = "",
    groups: Groups = "",
    slices: Slices = "",
    start: Annotated[str, typer.Option(help="From the weights in `production`, or from `scratch`.")] = "production",
    epochs: Annotated[int, typer.Option(help="As of train.")] = 0,
    max_minutes: Annotated[float, typer.Option(help="Plan the training for this long; 0: by epochs alone.")] = 0,
    max_steps: Annotated[int, typer.Option(help="Stop after this many steps; 0: no such limit.")] = 0,
    crop: Annotated[int, typer.Option(help="Side of a training crop, pixels; 0: as the live version had it.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Crops a step; 0: as the live version had it.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same weights.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Peak of the schedule.")] = 4e-3,
    reason: Annotated[str, typer.Option(help="Why; kept in the run and in the records.")] = "",
    by: Annotated[str, typer.Option(help="Who decides.", show_default="you")] = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where nothing was released since the last time.")
    ] = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="Ask for Production after Staging; the gates decide.")
    ] = False,
    version: Annotated[
        str,
        typer.Option(help="Train nothing: put this one forward, which one that was cut off has registered."),
    ] = "",
    order: Annotated[str, typer.Option(hidden=True)] = "",
    result: Annotated[Path | None, typer.Option(help="Also write what came of it here, as JSON.")] = None,
) -> None:
    """Train on the live version's data set and on the live images that were released, and put it in Staging.

    Labelled live images come from `python -m monitoring quarantine`, where a named person has released them. What is
    trained starts from the version in Production, goes to Staging if its gates let it, and no further by itself.

    Exit code: 0 it is done, or nothing was released since the last time; 3 a gate, or what is in Staging, is in its
    way; 4 another retraining is under way; 2 an error.
    """
    from pipelines.retraining.asked import RetrainOptions, Start
    from pipelines.retraining.retrain import retrain as run
    from records.home_lock import BUSY_EXIT
    from resunet.errors import BusyError, SettingsError

    if start not in get_args(Start):
        raise SettingsError(f"start: {start!r} is neither production nor scratch")
    signal.signal(signal.SIGTERM, _leave)
    lengths = {"epochs": epochs, "max_minutes": max_minutes, "max_steps": max_steps, "crop": crop}
    fit = {name: value for name, value in {**lengths, "batch_size": batch_size}.items() if value}
    in_vain = [*fit, *(["start"] if start != "production" else []), *(["anyway"] if anyway else [])]
    if version and in_vain:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in in_vain)
        raise SettingsError(f"--version {version} trains nothing, it puts that one forward: leave {names} out")
    fit |= {"seed": seed, "learning_rate": learning_rate}
    options = RetrainOptions(
        model_name, data, where, groups, slices, cast(Start, start), fit, anyway, promote, reason, by, version, order
    )
    try:
        done = run(options, Console())
    except BusyError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BUSY_EXIT) from None
    if result is not None:
        result.write_text("null" if done is None else done.to_json(), encoding="utf-8")
    if done is None:
        typer.echo(
            f"nothing was released for {model_name} since the last retraining: `python -m monitoring quarantine list` "
            "shows what waits; --anyway trains all the same"
        )
        return
    typer.echo(done.outcome)
    if not done.as_wished:
        raise typer.Exit(3)


def _leave(_signal: int, _frame: object) -> None:
    """On SIGTERM, through the code that closes the run and deletes what lies in clear."""
    raise SystemExit(128 + signal.SIGTERM)

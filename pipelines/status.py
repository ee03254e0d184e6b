"""`resunet status`: one screen on a model, from the registry, the inference log and this machine's disk."""

# Only what `--help` needs is imported here: MLflow takes seconds.
import os
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from records.watch.overview import Rollout, Stages

_ERROR: Final = 2
_LOOK: Final = 3
_TIMEOUT_SECONDS: Final = "10"
_LONGEST: Final = "365d"


def status(
    model: Annotated[str, typer.Option(help="Registered model.")] = "resunet",
    window: Annotated[str, typer.Option(help=f"How far back to look: 24h, 7d; at most {_LONGEST}.")] = "7d",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of the screen.")] = False,
) -> None:
    """Show how a model is: stages, traffic, drift, Dice, alerts, jobs and disk, on one screen.

    Reads the registry (MLFLOW_TRACKING_URI), the predictions (RESUNET_INFERENCE_LOG, else RESUNET_DATABASE) and
    RESUNET_HOME, and changes nothing. What is not there yet is said; what cannot be read takes nothing else down. The
    gateway shows the same at /status.

    Exit code: 0 all is well, 3 something needs a look (an alert fires, the last window or the trend drifts, the
    gateway failed requests in this hour or the one before, a job failed or is overdue, nothing is in Production),
    2 something could not be read, or an error.

    Example: resunet status --window 24h
    """
    import json
    from datetime import UTC, datetime

    from rich.console import Console

    from monitoring.window import parse_duration
    from pipelines.status_screen import screen
    from records.settings import RecordsSettings
    from records.watch import overview
    from resunet.errors import SettingsError

    length = parse_duration(window)
    if length > parse_duration(_LONGEST):
        raise SettingsError(f"--window {window} is too long for one screen: ask for {_LONGEST} at most")
    settings = RecordsSettings.load()
    engine = overview.log_to_read(settings)
    try:
        seen = overview.read_overview(
            engine,
            settings.home,
            model,
            datetime.now(UTC),
            length,
            stages=lambda: _stages(model),
            rollout=lambda: _rollout(settings.home),
        )
    finally:
        if engine is not None:
            engine.dispose()
    console = Console(highlight=False)
    if as_json:
        typer.echo(json.dumps(overview.as_json(seen), indent=2, allow_nan=False))
    else:
        console.print(screen(seen))
    raise typer.Exit(_ERROR if seen.failures else _LOOK if seen.concerns else 0)


def _stages(model: str) -> "Stages":
    """What the registry says; a registry that is not there is not made."""
    from datetime import UTC, datetime
    from pathlib import Path

    from sqlalchemy import make_url

    # MLflow's own default waits for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_SECONDS)
    from mlflow import MlflowClient

    from records.watch.overview import Stage, Stages
    from registry.connection import tracking_uri
    from registry.versions import ModelState, read_model
    from resunet.errors import SettingsError

    def stage(state: ModelState, name: str) -> Stage | None:
        version = next(iter(state.in_stage(name)), None)
        if version is None:
            return None
        row = state.versions[version]
        return Stage(version, datetime.fromtimestamp(row.changed_ms / 1000, UTC), _dice(row.tags.get("dice", "")))

    with tracking_uri() as uri:
        if uri.startswith("sqlite:") and not Path(str(make_url(uri).database)).is_file():
            raise SettingsError("no registry is known here: set MLFLOW_TRACKING_URI to the tracking server")
        state = read_model(MlflowClient(uri), model)
    return Stages(stage(state, "Production"), stage(state, "Staging"))


def _dice(tag: str) -> float | None:
    try:
        return float(tag)
    except ValueError:
        return None


def _rollout(home: "Path") -> "Rollout | None":
    """The last one of the gateway that has this home."""
    from records.watch.overview import Rollout
    from serving.rollout.file import RolloutFile

    found = RolloutFile.of_home(home).read().rollout
    return None if found is None else Rollout(found.phase, found.candidate.number, found.canary, found.shadow)

"""The whole path in one command: data, training, gates, promotion, serving, live images, drift report.

    python -m pipelines demo                      # synthetic nuclei
    python -m pipelines demo --data my/images     # your folder of images and masks

Every step is a command that a user would type; this only types them, in order, against real servers: the tracking
server has the gates in it, as `make server` has. Each data folder has a registered model of its own: versions that
were tested on different images cannot be compared.
"""

import base64
import io
import math
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from mlflow import MlflowClient
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table

from pipelines.data.data_step import folder_name
from pipelines.data.dataset import read_dataset
from pipelines.demo_promotion import Steps, promote_in_demo
from pipelines.servers import GUARDED, ServerError, free_port, port_is_free, scoring_server, tracking_server
from records.settings import RecordsSettings
from registry.policy import load_policy
from registry.settings import RegistrySettings
from registry.versions import read_model
from resunet.images import read_image

MODEL = "resunet"
LIVE_IMAGES = 40
TURNS = tuple(Image.Transpose)
DRIFT_EXIT = 3
UI_PORT = 5000
SERVING_PORT = 5001


@dataclass(frozen=True)
class Workplace:
    """Where the demo keeps what it makes: all below one folder that git ignores."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "demo"

    def groups(self, data: Path) -> Path:
        """Where near-duplicates of a data folder are grouped: one file each, as two folders may share file names."""
        return self.folder / f"groups-{folder_name(data)}.csv"

    @property
    def database(self) -> str:
        return f"sqlite:///{(self.home / 'records.db').absolute()}"

    @property
    def variables(self) -> dict[str, str]:
        """What commands and server have to agree on; evidence is measured on the data set of the training."""
        return {"RESUNET_HOME": str(self.home), "RESUNET_DATABASE": self.database, "RESUNET_DATA": ""}


def demo(data: Path | None, minutes: float, epochs: int, width: int, console: Console, keep_open: bool) -> None:
    """Run every step and print where to look.

    Args:
        data: the data set's folder; None makes synthetic nuclei.
        minutes: training time at most.
        epochs: of training on synthetic nuclei at most; where they fit into the minutes, every demo on a machine trains
            the same version.
        width: of the network.
        console: where the summary goes.
        keep_open: leave the UI up until interrupted.

    Raises:
        ResunetError: a step failed; its own message is above.
    """
    place = Workplace(RecordsSettings.load().home.absolute())
    place.folder.mkdir(parents=True, exist_ok=True)
    # A mistake in it is told before the server is, which would only fail to start.
    load_policy(RegistrySettings.load().policy)
    started = time.monotonic()
    # As an exception it ends the step under way and closes the servers, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    server = tracking_server(place.home / "mlflow", _preferred(UI_PORT), app=GUARDED, environment=place.variables)
    with server as tracking:
        variables = {**os.environ, **place.variables, "MLFLOW_TRACKING_URI": tracking}
        steps = Steps({**variables, "RESUNET_INFERENCE_LOG": place.database}, console)
        chosen = _prepare(steps, place, data)
        model = model_of(data)
        steps.run(
            "train, evaluate, register",
            "pipelines",
            *("train", "--data", str(chosen), "--groups", str(place.groups(chosen)), "--model-name", model),
            *("--width", str(width), "--max-minutes", str(minutes)),
            *(("--epochs", str(epochs)) if data is None else ()),
        )
        client = MlflowClient(tracking_uri=tracking)
        number = max(read_model(client, model).versions, key=int)
        live = promote_in_demo(steps, client, model, number)
        reports = _serve_and_watch(steps, place, chosen, model, tracking)
        _summarise(console, client, model, (number, live), tracking, reports, time.monotonic() - started)
        if keep_open:
            console.print("\nThe UI stays up until you press Ctrl-C; [bold]make server[/] brings it back later.")
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                console.print("stopped")


def model_of(data: Path | None) -> str:
    """The registered model of a data folder, `resunet-<folder>`; `resunet` for the synthetic nuclei."""
    if data is None:
        return MODEL
    return f"{MODEL}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', data.resolve().name).strip('-.') or 'data'}"


def _preferred(port: int) -> int:
    return port if port_is_free(port) else free_port()


def _prepare(steps: Steps, place: Workplace, data: Path | None) -> Path:
    chosen = data or place.home / "data" / "synthetic"
    if data is None:
        steps.run("make a synthetic data set", "pipelines", "synthesize", str(chosen))
    arguments = ("prepare", "--data", str(chosen), "--groups", str(place.groups(chosen)))
    steps.run("check the data", "pipelines", *arguments, "--mend")
    return chosen


def _serve_and_watch(
    steps: Steps, place: Workplace, data: Path, model: str, tracking: str
) -> list[tuple[str, Path, int]]:
    """Serve the Production version, post live images and report: first as trained on, then shifted."""
    log = place.folder / "models-serve.log"
    uri = f"models:/{model}/Production"
    reports = []
    serving = scoring_server(uri, tracking, log=log, port=_preferred(SERVING_PORT), environment=steps.variables)
    steps.console.rule("[bold]serve", align="left")
    steps.console.print(f"mlflow models serve -m {uri} --env-manager local", style="dim")
    with serving as scoring:
        for kind in ("normal", "shifted"):
            began = datetime.now(UTC)
            _post(scoring, list(_live_images(data, shifted=kind == "shifted")), kind)
            steps.console.print(f"posted {LIVE_IMAGES} {kind} images to {scoring}/invocations")
            out = place.folder / f"drift-{kind}"
            # A moment that is named: by the time that the command looks, seconds have passed.
            until = datetime.now(UTC)
            seconds = math.ceil((until - began).total_seconds())
            code = steps.run(
                f"drift report on the {kind} images",
                "monitoring",
                *("report", "--model", model, "--window", f"{seconds}s", "--until", until.isoformat()),
                *("--out", str(out)),
                allowed=(0, DRIFT_EXIT),
            )
            reports.append((kind, out, code))
    return reports


def _live_images(data: Path, *, shifted: bool) -> Iterator[Image.Image]:
    """Images as they are, training images among them, or as a mis-set camera would deliver them.

    Of a small data set some come again, turned: the same bytes twice would be told as copies.
    """
    samples = read_dataset(data).samples
    samples = tuple(random.Random(0).sample(samples, min(len(samples), LIVE_IMAGES)))
    for index in range(LIVE_IMAGES):
        again, place = divmod(index, len(samples))
        picture = Image.fromarray(read_image(samples[place].image))
        if again:
            picture = picture.transpose(TURNS[(again - 1) % len(TURNS)])
        if shifted:
            picture = ImageEnhance.Brightness(picture).enhance(1.8)
        yield picture


def _post(scoring: str, pictures: list[Image.Image], client: str) -> None:
    for start in range(0, len(pictures), 8):
        rows = []
        for picture in pictures[start : start + 8]:
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            rows.append([base64.b64encode(buffer.getvalue()).decode(), client])
        body = {"dataframe_split": {"columns": ["image", "client"], "data": rows}}
        answer = httpx.post(f"{scoring}/invocations", json=body, timeout=120)
        if answer.status_code != 200:
            raise ServerError(f"the scoring server answered {answer.status_code}: {answer.text[:300]}")


def _summarise(
    console: Console,
    client: MlflowClient,
    model: str,
    versions: tuple[str, str],
    tracking: str,
    reports: list[tuple[str, Path, int]],
    seconds: float,
) -> None:
    """Print where to look; `versions` are the one that was trained and the one that is live."""
    trained, version = versions
    tags = client.get_model_version(model, version).tags
    run = client.get_model_version(model, version).run_id
    experiment = client.get_run(str(run)).info.experiment_id
    table = Table(title="What you have now", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("version", f"{model} {version}, in Production")
    if trained != version:
        table.add_row("", f"{model} {trained}, in Staging: kept out by its gates")
    table.add_row("Dice on the test split", tags.get("dice", "?"))
    table.add_row("model in the UI", f"{tracking}/#/models/{model}/versions/{version}")
    table.add_row("run, pictures, model card", f"{tracking}/#/experiments/{experiment}/runs/{run}/artifacts")
    for kind, folder, code in reports:
        table.add_row(f"{kind} images", "drift" if code == DRIFT_EXIT else "no drift")
        table.add_row("  report and picture", str(folder))
    table.add_row("took", f"{seconds:.0f} s")
    console.print(table)

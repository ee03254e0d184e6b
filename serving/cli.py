"""`python -m serving`: look at a version the way a server does, and serve one that was verified first."""

import errno
import os
import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from resunet.errors import SettingsError
from resunet.images import read_image
from resunet.masks import encode_png
from serving.access.cli import app as keys
from serving.golden import check_golden
from serving.predictor import Predictor
from serving.requirements import model_requirements
from serving.rollout.cli import app as rollout
from serving.settings import ServingSettings

app = typer.Typer(no_args_is_help=True, help="Run a version's files as a server would.")
app.add_typer(keys, name="keys")
app.add_typer(rollout, name="rollout")

VersionFolder = Annotated[Path, typer.Argument(help="folder of a version: the one that holds version.json")]
EngineOption = Annotated[str, typer.Option(help="auto, onnxruntime, openvino or cuda", envvar="RESUNET_ENGINE")]


@app.command()
def check(version: VersionFolder, engine: EngineOption = "auto", runs: int = 20) -> None:
    """Load a version, compare its golden output, and time one 256x256 image."""
    predictor = Predictor.load(version, engine)
    check_golden(predictor, version)
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    times = []
    for _ in range(max(runs, 1) + 1):
        started = time.perf_counter()
        predictor.predict(image)
        times.append((time.perf_counter() - started) * 1000)
    table = Table(show_header=False)
    table.add_row("architecture", f"{predictor.spec.architecture}, width {predictor.spec.width}")
    table.add_row("engine", f"{predictor.engine.name}, {predictor.spec.precision}")
    table.add_row("golden output", "reproduced")
    table.add_row("first 256x256 image", f"{times[0]:.0f} ms")
    table.add_row("median of the next", f"{statistics.median(times[1:]):.1f} ms")
    Console().print(table)


@app.command()
def predict(
    image: Annotated[Path, typer.Argument(help="PNG, JPEG, TIFF or BMP")],
    mask: Annotated[Path, typer.Argument(help="PNG to write")],
    version: Annotated[Path, typer.Option(help="folder of a version")],
    engine: EngineOption = "auto",
    threshold: Annotated[float | None, typer.Option(help="binary versions: 0 to 1")] = None,
) -> None:
    """Segment one image file without a server."""
    _check_mask(image, mask)
    prediction = Predictor.load(version, engine).predict(read_image(image), threshold)
    try:
        mask.write_bytes(encode_png(prediction.mask))
    except OSError as error:
        raise _unwritable(mask, error.strerror) from error
    Console().print(f"{mask}: {prediction.width} x {prediction.height}, confidence {prediction.confidence:.3f}")


def _check_mask(image: Path, mask: Path) -> None:
    """Find out before the work, not after it, that a mask cannot be written, or would be written over the image."""
    if mask.suffix.lower() != ".png":
        raise SettingsError(f"the mask is written as PNG: name it something.png, not {str(mask)!r}")
    try:
        # Links are followed; two names of one file count as well.
        if image.exists() and mask.exists() and image.samefile(mask):
            raise SettingsError(f"the mask {mask} is the image itself, which would be lost: name another file")
        if mask.is_dir():
            raise _unwritable(mask, "it is a folder")
        if not mask.parent.is_dir():
            raise _unwritable(mask, f"there is no folder {mask.parent}")
    except OSError as error:
        raise _unwritable(mask, error.strerror) from error
    if not os.access(mask if mask.exists() else mask.parent, os.W_OK):
        raise _unwritable(mask, os.strerror(errno.EACCES))


def _unwritable(mask: Path, why: str | None) -> SettingsError:
    return SettingsError(f"the mask {mask} cannot be written: {why}. Name a .png in a folder that you may write to")


@app.command()
def requirements(pyproject: Path = Path("pyproject.toml")) -> None:
    """Print the pip requirements of a version's own environment."""
    for line in model_requirements(pyproject):
        typer.echo(line)


@app.command()
def verify_and_serve(
    model_uri: Annotated[str, typer.Argument(help="models:/<name>/<stage or version> or models:/<name>@<alias>")],
    port: Annotated[int | None, typer.Option("--port", "-p", help="as of mlflow models serve: 5000")] = None,
    host: Annotated[str | None, typer.Option("--host", "-h", help="as of mlflow models serve: 127.0.0.1")] = None,
    env_manager: Annotated[str | None, typer.Option(help="as of mlflow models serve: virtualenv")] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-w", help="as of mlflow models serve: 1")] = None,
    timeout: Annotated[int | None, typer.Option("--timeout", "-t", help="as of mlflow models serve: 60")] = None,
) -> None:
    """Check a registered version's files and their signature, and only then let MLflow install and serve it.

    Whom to trust: RESUNET_TRUSTED_KEY and its like. Exit code: 2 it is refused; else that of the server.

    Example: python -m serving verify-and-serve models:/resunet/Production -p 5001 --env-manager uv
    """
    from serving.handover import ended_cleanly, serve
    from serving.verify import verified_copy

    named = {"port": port, "host": host, "env-manager": env_manager, "workers": workers, "timeout": timeout}
    options = [word for name, value in named.items() if value is not None for word in (f"--{name}", str(value))]
    with ended_cleanly(), verified_copy(model_uri, ServingSettings.load().trust) as version:
        who = version.identity
        told = f"version {who.version} of {who.name}, {who.digest}: its files are those that {version.signer} signed"
        Console(stderr=True).print(told, markup=False, highlight=False, soft_wrap=True)
        code = serve(version.root, options)
    raise typer.Exit(code)


@app.command()
def up(
    model: Annotated[str | None, typer.Option("--model-uri", "-m", help="models:/<name>/<stage> to follow")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", help="0: any that is free")] = None,
    host: Annotated[str | None, typer.Option("--host", "-h", help="127.0.0.1 unless there are keys")] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-w", help="processes that answer: 1")] = None,
    poll: Annotated[float | None, typer.Option(help="seconds within which a change is followed")] = None,
    stop_when_archived: Annotated[
        bool | None, typer.Option("--stop-when-archived", help="with nothing live, answer nothing any more")
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="certificate chain (PEM): serve HTTPS", dir_okay=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="its private key (PEM)", dir_okay=False)] = None,
    allow_public: Annotated[
        bool | None, typer.Option("--allow-public", help="listen on a public address although there are no keys")
    ] = None,
    keep_images: Annotated[
        float | None, typer.Option(help="share of the answers whose image is kept; else RESUNET_KEEP_IMAGES: none")
    ] = None,
    rollout_policy: Annotated[
        Path | None, typer.Option(help="how versions are rolled out (YAML)", dir_okay=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="come up although nothing is live yet")] = False,
) -> None:
    """Serve what is live in the registry, and follow it: a new version answers within seconds, no request is lost.

    A drop-in for `mlflow models serve`: the same routes and bodies, and more. Options that are not given come from
    RESUNET_GATEWAY_<OPTION>. It ends when it is interrupted, after the requests under way.

    Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 python -m serving up -m models:/resunet/Production
    """
    from serving.gateway.settings import GatewaySettings
    from serving.gateway.up import run

    given = {
        "model": model,
        "port": port,
        "host": host,
        "workers": workers,
        "poll_seconds": poll,
        "stop_when_archived": stop_when_archived,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "allow_public": allow_public,
        "rollout_policy": rollout_policy,
    }
    if keep_images is not None:  # of the log, in whichever process it is opened
        os.environ["RESUNET_KEEP_IMAGES"] = str(keep_images)
    settings = GatewaySettings.load(**{name: value for name, value in given.items() if value is not None})
    run(settings, ServingSettings.load(), wait)

"""The commands of `python -m pipelines`; each imports what it needs only when it runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.options import Data, Groups, Slices, Where
from pipelines.retraining.command import retrain

app = typer.Typer(no_args_is_help=True, help=__doc__ and "Steps from a folder of images to a registered version.")


@app.command()
def train(
    data: Data = "",
    where: Where = "",
    architecture: Annotated[str, typer.Option(help="resunet or resunetpp.")] = "resunet",
    width: Annotated[int, typer.Option(help="Channels of the first level; cost grows with its square.")] = 16,
    epochs: Annotated[
        int,
        typer.Option(help="Each image is seen once an epoch, as one crop. 0: 100, or as many as --max-minutes takes."),
    ] = 0,
    max_minutes: Annotated[float, typer.Option(help="Plan the run for this long; 0: by epochs alone.")] = 0,
    max_time: Annotated[float, typer.Option(help="The same as --max-minutes.", hidden=True)] = 0,
    max_steps: Annotated[int, typer.Option(help="Stop after this many steps; 0: no such limit.")] = 0,
    schedule: Annotated[str, typer.Option(help="`schedule_taken` of an earlier run, to repeat it exactly.")] = "",
    crop: Annotated[int, typer.Option(help="Side of a training crop in pixels, a multiple of 8.")] = 160,
    batch_size: Annotated[int, typer.Option(help="Crops a step.")] = 8,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same weights, bit for bit.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Peak of the schedule.")] = 4e-3,
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 where it is faster here.")] = "auto",
    patience: Annotated[int, typer.Option(help="Stop after so many evaluations without a better Dice; 0: never.")] = 0,
    folds: Annotated[int, typer.Option(help="2 or more: cross-validate instead of making a version.")] = 0,
    model_name: Annotated[str, typer.Option(help="Registered model that the version is added to.")] = "resunet",
    groups: Groups = "",
    slices: Slices = "",
    parent: Annotated[str, typer.Option(help="Start from the weights of this version instead of random ones.")] = "",
    resume: Annotated[
        str, typer.Option(help="Run id of a training that was interrupted: go on where it stopped.")
    ] = "",
    memory_budget_mb: Annotated[
        int, typer.Option(help="Decoded images of all splits up to this stay in memory.")
    ] = 4096,
    workers: Annotated[int, typer.Option(help="Processes that read images ahead when they do not fit.")] = 2,
) -> None:
    """Train, evaluate and register a new version (or cross-validate with --folds)."""
    from pipelines.runs.train import TrainOptions
    from pipelines.runs.train import train as run
    from pipelines.training.settings import FitSettings
    from serving.handover import ended_cleanly

    fit = FitSettings.checked(
        architecture=architecture,
        width=width,
        epochs=epochs,
        max_minutes=max_minutes or max_time,
        max_steps=max_steps,
        schedule=schedule,
        crop=crop,
        batch_size=batch_size,
        seed=seed,
        learning_rate=learning_rate,
        precision=precision,
        patience=patience,
        memory_budget_mb=memory_budget_mb,
        workers=workers,
    )
    with ended_cleanly():  # so that the run is marked as ended
        run(TrainOptions(data, where, groups, slices, folds, model_name, parent, resume, fit), Console())


@app.command()
def prepare(
    data: Data = "",
    groups: Groups = "",
    slices: Slices = "",
    mend: Annotated[
        bool, typer.Option("--mend", help="Put near-duplicates into one group (writes groups.csv).")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Where the report goes as JSON; default: RESUNET_HOME/reports.")
    ] = None,
    part: Annotated[
        bool, typer.Option("--part", help="It is to be added to a larger data set: a split of it may be empty.")
    ] = False,
) -> None:
    """Check a data set before anything trains on it; exits 2 when a metric on it would be a lie."""
    from pipelines.data.data_step import data_folder, report_file
    from pipelines.data.prepare import prepare as run
    from pipelines.data.slice_filter import parse_slices

    root = data_folder(data)
    run_report = run(
        root,
        groups_file=Path(groups) if groups else None,
        slices=parse_slices(slices),
        mend=mend,
        console=Console(stderr=True),
        part=part,
    )
    Console().print(run_report.table())
    path = report or report_file(root)
    run_report.write(path)
    typer.echo(f"report: {path}")
    if run_report.refused:
        raise typer.Exit(2)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="models:/resunet/3, models:/resunet/Production or a version's folder.")],
    data: Data = "",
    where: Where = "",
    groups: Groups = "",
    slices: Slices = "",
    out: Annotated[
        Path | None, typer.Option(help="Also write the scores: all of them (.json), or a row an image (.csv).")
    ] = None,
) -> None:
    """Score a version on a data set's test split, overall and by slice, with 95 % intervals."""
    from pipelines.runs.evaluate_version import evaluate_version

    evaluate_version(model, data, where, groups, Console(), out=out, slices=slices)


@app.command()
def evidence(
    name: Annotated[str, typer.Argument(help="Registered model, such as resunet.")],
    version: Annotated[str, typer.Argument(help="Version number.")],
    stage: Annotated[str, typer.Option(help="Whose gates are to be answered: Staging or Production.")] = "Production",
    data: Annotated[
        str, typer.Option(help="Data set; default: RESUNET_DATA, else where the version's run had it.")
    ] = "",
    where: Where = "",
    groups: Groups = "",
    slices: Slices = "",
    only: Annotated[str, typer.Option(help="Kinds to measure, comma-separated; default: what the gates need.")] = "",
    by: Annotated[str, typer.Option(help="Who has it measured; default: you.")] = "",
    candidate: Annotated[str, typer.Option(hidden=True)] = "",
    champion: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure what the gates before a stage need to know of a version, and keep it in the records."""
    from pipelines.evidence.command import EvidenceOptions, measure_evidence
    from registry.tables import local_actor

    options = EvidenceOptions(
        name, version, stage, data, where, groups, slices, candidate, champion, only, by or local_actor()
    )
    measure_evidence(options, Console(stderr=True))


app.command()(retrain)


@app.command("compare-examples")
def compare_examples(
    first: Annotated[Path, typer.Argument(help="Folder of a version's model.")],
    second: Annotated[Path, typer.Argument(help="Folder of another one.")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.")],
    image: Annotated[list[str], typer.Option(help="An image, as the data set names it: images/a.png. Several times.")],
    data: Data = "",
) -> None:
    """Draw what two versions make of the same images; `registry compare --html` asks for it."""
    from pipelines.compare_examples import draw_examples

    sheet = draw_examples(first, second, data, image, out)
    typer.echo(f"{len(sheet.examples)} of {len(image)} images in {out}")


@app.command()
def synthesize(
    folder: Annotated[Path, typer.Argument(help="Where the data set goes.")],
    count: Annotated[int, typer.Option(help="Images.")] = 120,
    seed: Annotated[int, typer.Option(help="Same seed, same images.")] = 0,
    brightness: Annotated[float, typer.Option(help="Factor on the light.")] = 1.0,
    blur: Annotated[float, typer.Option(help="Gaussian blur, sigma in pixels.")] = 0.0,
    noise: Annotated[float, typer.Option(help="Camera noise, sigma in grey levels.")] = 3.0,
    density: Annotated[float, typer.Option(help="Factor on the number of nuclei.")] = 1.0,
    stain: Annotated[str, typer.Option(help="fluorescence, histology or mixed.")] = "mixed",
) -> None:
    """Draw a data set of synthetic nuclei."""
    from pipelines.data.synthetic import Knobs, generate

    knobs = Knobs(stain=stain, brightness=brightness, blur=blur, noise=noise, density=density)  # type: ignore[arg-type]
    generate(folder, count, seed, knobs, Console(stderr=True))
    typer.echo(f"{count} images in {folder}")


@app.command()
def download(
    folder: Annotated[Path, typer.Argument(help="Where the data set goes: a new or an empty folder.")],
    url: Annotated[str, typer.Option(help="Another address of stage1_train.zip than the data set's own site.")] = "",
    sha256: Annotated[
        str, typer.Option(help="What the archive's sha256 must be; without it, the first download is trusted.")
    ] = "",
) -> None:
    """Fetch BBBC038 (Data Science Bowl 2018 nuclei), resuming what was begun, and bring it to the folder layout."""
    from pipelines.data.bbbc038 import ADDRESS, obtain

    obtain(folder, url or ADDRESS, sha256 or None, Console(stderr=True))


@app.command()
def pins(
    write: Annotated[bool, typer.Option("--write", help="Write conda.yaml instead of printing it.")] = False,
) -> None:
    """Derive conda.yaml from the pins of pyproject.toml."""
    from pipelines.pins import PROJECT, conda_environment, project_pins

    text = conda_environment(project_pins())
    if write:
        (PROJECT / "conda.yaml").write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)


@app.command()
def demo(
    data: Data = "",
    minutes: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="Training time at most; more gives a better network.")
    ] = 1.5,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs on synthetic nuclei, if they fit into the minutes.")] = 30,
    width: Annotated[
        int, typer.Option(min=1, max=256, help="Channels of the network's first level; fewer are quicker.")
    ] = 16,
    keep_open: Annotated[bool | None, typer.Option(help="Leave the UI up at the end (default: on a terminal).")] = None,
) -> None:
    """Run the whole path: data, training, promotion, serving, live images, drift report."""
    from pipelines.data.data_step import data_folder
    from pipelines.demo import demo as run

    console = Console()
    stays = console.is_terminal if keep_open is None else keep_open
    run(data_folder(data) if data else None, minutes, epochs, width, console, stays)


@app.command()
def server(
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1.")] = 5000,
) -> None:
    """Run the tracking server on what training and the demo left, until Ctrl-C."""
    from pipelines.serve_tracking import serve

    serve(port, Console())

"""`train`: from a data folder to a registered version.

    train(TrainOptions(data="nuclei", max_minutes=10), console)

Prepare, train, choose the file that will serve, calibrate, evaluate through that file, log, register. With folds
it cross-validates instead: nested runs, nothing registered, the test split never read.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.pins import PROJECT
from pipelines.runs.cross_validation import cross_validate, cut_folds
from pipelines.runs.fit_progress import fit_with_progress
from pipelines.runs.register import LoggedVersion, log_version, register_version, versions_of_run
from pipelines.runs.tracked_run import tracked_run
from pipelines.runs.tracking import log_data, log_environment, log_result, log_resumed_environment, log_settings, quiet
from pipelines.training.ancestry import Ancestor, fetch_ancestor
from pipelines.training.checkpoint import claimed
from pipelines.training.settings import FitSettings
from pipelines.version.build_version import BuiltVersion, build_version
from pipelines.version.export import WHOLE_SIDE_UNTILEABLE
from records.settings import RecordsSettings
from registry.signing import SigningSettings
from resunet.errors import DataError, SettingsError
from resunet.networks import ARCHITECTURES
from serving.pyfunc import VERSION_ARTIFACT
from serving.requirements import model_requirements

EXPERIMENT = "resunet-training"
_LOGGED = ("slices", "folds", "model_name", "parent")
_SHOWN_FILES = 5


@dataclass(frozen=True)
class TrainOptions:
    """What the command line and `mlflow run` pass on.

    Attributes:
        data: folder of images and masks; empty makes synthetic nuclei.
        where: slice filter, `modality=fluorescence`.
        groups: another place for `groups.csv` than the data folder.
        slices: columns of `metadata.csv` to slice by, comma-separated; empty takes its text columns of few values.
        folds: 2 or more cross-validates instead of making a version.
        model_name: registered model.
        parent: version number whose weights training starts from; empty starts from random weights.
        resume: run id of a training that was interrupted.
        fit: everything that decides the weights.
        tags: that the run has from its beginning, besides those of every training.
    """

    data: str = ""
    where: str = ""
    groups: str = ""
    slices: str = ""
    folds: int = 0
    model_name: str = "resunet"
    parent: str = ""
    resume: str = ""
    fit: FitSettings = field(default_factory=FitSettings)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedVersion:
    """What a training ends with: the registered version and the run that made it."""

    name: str
    version: str
    run_id: str


def train(options: TrainOptions, console: Console) -> TrainedVersion | None:
    """Train and register a version; None after cross-validation.

    Raises:
        DataError: the data cannot carry a metric; the message says how to mend it.
        SettingsError: options that contradict each other, or a run that cannot be resumed.
        TrackingError: the tracking server is away; the message says how to go on when it is back.
    """
    _check(options)
    quiet()
    with ExitStack() as claims:
        if options.resume:
            # Before anything is read, and before the run is marked as running: it may be.
            claims.enter_context(claimed(checkpoint_of(options.resume)))
        data = prepare_data(options.data, options.where, options.groups, console, options.slices)
        settings = options.fit.model_copy(update={"classes": data.classes})
        if options.folds:
            settings = settings.model_copy(update={"keep": "last"})
        parts = cut_folds(data, options.folds) if options.folds else []
        _refuse_uncomputable(settings, data, options.folds)
        run_id = claims.enter_context(_run(options, data))
        console.print(_hello(run_id, options), style="dim", soft_wrap=True)
        if options.resume:
            _tell_of_another_environment(run_id, console)
        else:
            claims.enter_context(claimed(checkpoint_of(run_id)))
            mlflow.set_tags(dict(options.tags))
            log_settings(settings, data, **{name: getattr(options, name) for name in _LOGGED})
            log_data(data)
            log_environment()
        if options.folds:
            cross_validate(parts, settings, data, console)
            return None
        return _train_version(options, settings, data, run_id, console)


def _check(options: TrainOptions) -> None:
    """Refuse before any work what would be refused after hours of it."""
    if options.folds == 1 or options.folds < 0:
        raise SettingsError("folds: 0 trains a version; 2 or more cross-validates")
    if options.resume and options.folds:
        raise SettingsError("resume: a cross-validation cannot be resumed; start it anew")
    if options.fit.patience and options.folds:
        raise SettingsError(
            "patience: what stops a fold by its held-out images flatters it; leave out --patience or --folds"
        )
    if options.parent and options.folds:
        raise SettingsError("parent: a cross-validation starts from random weights; leave out --parent or --folds")
    if not options.model_name.strip() or set(options.model_name) & set("/:"):
        raise SettingsError(f"model_name: {options.model_name!r} cannot be registered; give a name without / and :")
    signer = SigningSettings.load().signer
    if signer is not None:
        signer.check()
    if options.resume and not checkpoint_of(options.resume).exists():
        raise SettingsError(
            f"run {options.resume} has no checkpoint here ({checkpoint_of(options.resume)}): it ended, or it ran "
            "on another machine or with another RESUNET_HOME"
        )


def _hello(run_id: str, options: TrainOptions) -> str:
    return (
        f"run {run_id}" if options.folds or options.tags else f"run {run_id}; if it is interrupted: --resume {run_id}"
    )


def _tell_of_another_environment(run_id: str, console: Console) -> None:
    if changed := log_resumed_environment(mlflow.get_run(run_id).data.tags):
        console.print(
            f"resumed with {changed}: the weights may differ in the last bits from those of a run that was never "
            "interrupted",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def _refuse_uncomputable(settings: FitSettings, data: PreparedData, folds: int) -> None:
    """Refuse images that the trained network could not be measured on; in training it sees crops alone."""
    if ARCHITECTURES[settings.architecture].halo is not None:
        return
    measured = data.manifest["split"] != ("test" if folds else "train")
    large = data.manifest[["width", "height"]].max(axis=1) > WHOLE_SIDE_UNTILEABLE
    if files := data.manifest.loc[measured & large, "path"].tolist():
        named = ", ".join([*files[:_SHOWN_FILES], *(["…"] if len(files) > _SHOWN_FILES else [])])
        raise DataError(
            f"{settings.architecture} sees a whole image at once, at most {WHOLE_SIDE_UNTILEABLE} pixels a side, and "
            f"could not be measured on {len(files)} larger ones ({named}): scale them down, cut them, or train "
            "--architecture resunet, which takes any size"
        )


def _run(options: TrainOptions, data: PreparedData) -> AbstractContextManager[str]:
    return tracked_run(
        EXPERIMENT,
        name=f"{options.fit.architecture}-{data.fingerprint.removeprefix('sha256:')[:8]}",
        lost=_what_now,
        resume=options.resume,
        check=lambda run: _check_resumed(run, options, data),
    )


def _what_now(run_id: str) -> str:
    """What to do about a run whose tracking server went away."""
    checkpoint = checkpoint_of(run_id)
    if not checkpoint.exists():
        return "when it is back, start a new run"
    return (
        f"all that was learnt is in {checkpoint}: when the server is back, give the same command with --resume {run_id}"
    )


def _check_resumed(run: Run, options: TrainOptions, data: PreparedData) -> None:
    """A checkpoint knows neither its data nor its parent; going on with others would falsify the run."""
    fingerprint = run.data.tags.get("dataset_fingerprint")
    parent, slices = (run.data.params.get(name, "") for name in ("parent", "slices"))
    model = run.data.params.get("model_name", options.model_name)
    if fingerprint != data.fingerprint:
        raise SettingsError(
            f"run {run.info.run_id} was trained on other data than {data.root.name} holds now; give the same --data, "
            "--where and --groups, or start a new run"
        )
    if model != options.model_name:
        raise SettingsError(
            f"run {run.info.run_id} trains a version of {model}; give --model-name {model}, or start a new run"
        )
    if parent != options.parent:
        raise SettingsError(
            f"run {run.info.run_id} started from {f'version {parent}' if parent else 'random weights'}; give the same "
            "--parent, or start a new run"
        )
    if slices != options.slices:
        raise SettingsError(
            f"run {run.info.run_id} has {f'the slices {slices}' if slices else 'the slices of metadata.csv'}; give "
            "the same --slices, or start a new run"
        )


def checkpoint_of(run_id: str) -> Path:
    """Where an unfinished run keeps its checkpoint."""
    return RecordsSettings.load().home.absolute() / "checkpoints" / f"{run_id}.ckpt"


def _train_version(
    options: TrainOptions, settings: FitSettings, data: PreparedData, run_id: str, console: Console
) -> TrainedVersion:
    client = MlflowClient()
    checkpoint = checkpoint_of(run_id)
    if options.resume and (made := versions_of_run(client, options.model_name, run_id)):
        # It was cut off, or the answer of the registry was lost, after the last thing that mattered.
        checkpoint.unlink(missing_ok=True)
        version = str(made[0].version)
        console.print(
            f"run {run_id} is registered already, as {options.model_name} version {version}: nothing was left to do",
            markup=False,
            soft_wrap=True,
        )
        return TrainedVersion(options.model_name, version, run_id)
    with _ancestor(client, options, data, console) as ancestor:
        fitted = fit_with_progress(
            settings,
            data.split("train"),
            data.split("validation"),
            data.manifest,
            console,
            run_id,
            checkpoint=checkpoint,
            initial=ancestor.weights if ancestor else None,
        )
    with tempfile.TemporaryDirectory(prefix="resunet-version-") as folder:
        # MLflow names the artifact's folder after this one.
        directory = Path(folder) / VERSION_ARTIFACT
        directory.mkdir()
        built = build_version(directory, fitted, settings, data, ancestor, console)
        log_result(fitted, built)
        logged = log_version(
            built.directory,
            model_requirements(PROJECT / "pyproject.toml"),
            signing_key=SigningSettings.load().signer,
        )
    tags = _tags(data, settings, built, logged, options.parent)
    version = register_version(client, logged, options.model_name, run_id, tags)
    checkpoint.unlink(missing_ok=True)
    dice = built.evaluation.overall["dice"]
    console.print(
        f"[bold green]{options.model_name} version {version}[/]: Dice {dice.mean:.4f} "
        f"(95 % interval {dice.low:.4f} … {dice.high:.4f}) on {built.evaluation.images} test images"
    )
    return TrainedVersion(options.model_name, version, run_id)


@contextmanager
def _ancestor(
    client: MlflowClient, options: TrainOptions, data: PreparedData, console: Console
) -> Iterator[Ancestor | None]:
    """The version to start from, if any; its weights are on this machine until the block ends."""
    if not options.parent:
        yield None
        return
    test = data.manifest[data.manifest["split"] == "test"]
    with tempfile.TemporaryDirectory(prefix="resunet-parent-") as folder:
        yield fetch_ancestor(client, options.model_name, options.parent, test, Path(folder), data, console)


def _tags(
    data: PreparedData, settings: FitSettings, built: BuiltVersion, logged: LoggedVersion, parent: str
) -> dict[str, str]:
    commit = mlflow.active_run().data.tags.get("mlflow.source.git.commit", "")  # type: ignore[union-attr]
    return {
        "dice": f"{built.evaluation.overall['dice'].mean:.4f}",
        "dataset_fingerprint": data.fingerprint,
        "git_commit": commit or "unknown",
        "parent_version": parent or "none",
        "version_digest": logged.digest,
        "architecture": settings.architecture,
        "precision": built.spec.precision,
    }

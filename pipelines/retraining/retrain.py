"""`retrain`: a new version from the data set of the one in Production and the live images that were released since.

    done = retrain(RetrainOptions("resunet"), console)      # None: nothing was released since the last time
    done.version, done.stage, done.outcome

What is learnt starts from the weights in Production. The version goes to Staging if its gates let it, and to Production
only where that is asked for, and its gates let it. The evidence for Production is measured at once: the live images lie
together with the data set only as long as this runs (`records.workplace`).
"""

import hashlib
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast, get_args

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console
from sqlalchemy import Engine

from monitoring.jobs.homes import home_name
from monitoring.live import open_log
from pipelines.data.data_step import report_file
from pipelines.data.manifest import read_manifest
from pipelines.retraining.asked import Retrained, RetrainOptions
from pipelines.retraining.challenger import BATCHES_TAG, Stage, Wish, put_forward
from pipelines.retraining.live_data import Together, put_together
from pipelines.runs.run_tags import tags_of
from pipelines.runs.train import EXPERIMENT, TrainedVersion, TrainOptions, checkpoint_of, train
from pipelines.training.settings import FitSettings
from records.batch import LIVE_PREFIX, Batch, file_stem
from records.home_lock import alone
from records.quarantine import find_batch, note_use, released_batches, unused_batches
from records.released import ReleasedStore
from records.sealing import open_keyring
from records.settings import RecordsSettings
from records.workplace import workplace
from registry.connection import tracking
from registry.data_place import DATA_TAG, DataPlace, find_data
from registry.download import checked_download
from registry.evidence import VERSION_FOLDER
from registry.people import Actor
from registry.settings import RegistrySettings
from registry.tables import local_actor
from registry.versions import ModelState, read_model
from resunet.errors import DataError, SettingsError
from serving.version import MANIFEST_FILE, VersionSpec

# Of the run: why, by which order of an alert, the data set without the live images, and of which model by which home it
# is a retraining.
REASON_TAG: Final = "retrain.reason"
ORDER_TAG: Final = "retrain.order"
BASE_TAG: Final = "retrain.data_set"
_MODEL_TAG: Final = "retrain.model"
_HOME_TAG: Final = "retrain.home"
# What a retraining does as the training before it did, unless it is told otherwise.
_AS_BEFORE: Final = ("crop", "batch_size", "precision")
_LONGEST_REASON: Final = 400
_SHOWN: Final = 3
_BUSY: Final = "another retraining is under way in this RESUNET_HOME: wait until it has ended"


def retrain(options: RetrainOptions, console: Console) -> Retrained | None:
    """Retrain, register, ask the gates of Staging; None where nothing was released since the last time.

    Raises:
        BusyError: another retraining is under way.
        SettingsError: nothing is in Production, nobody knows where its data set is, or `version` is no retrained one.
        DataError: the data cannot be trained on, or an image was forgotten or withdrawn while it was.
        VersionError: the files of the version that it goes on from are not those that were made.
        ResunetError: what the training or the registry raise.
    """
    settings = RecordsSettings.load()
    engine = open_log(settings)
    try:
        wanted = options.anyway or bool(options.version) or bool(unused_batches(engine, options.model_name))
        if not wanted:
            return None
        with alone(settings.home / "retrain.lock", _BUSY), tracking() as client:
            return _Retraining(options, console, engine, client, settings).run()
    finally:
        engine.dispose()


class _Retraining:
    """One run; see the module."""

    def __init__(
        self, options: RetrainOptions, console: Console, engine: Engine, client: MlflowClient, settings: RecordsSettings
    ) -> None:
        self._options = options
        self._console = console
        self._engine = engine
        self._client = client
        self._settings = settings
        self._home_name = hashlib.sha256(home_name(settings.home, socket.gethostname()).encode()).hexdigest()[:16]

    def run(self) -> Retrained:
        options, name = self._options, self._options.model_name
        state = read_model(self._client, name)
        if options.version:
            return self._go_on(state)
        if state.live is None and options.start == "production":
            raise SettingsError(
                f"no version of {name} is in Production to go on from: promote one, or give --start scratch and --data"
            )
        run_id = "" if state.live is None else state.row(state.live).run_id
        base = self._base(tags_of(self._client, run_id), state)
        fit = self._fit(run_id, state.live)
        self._end_what_was_cut_off()
        batches = released_batches(self._engine, name)
        with self._together(base, batches) as together:
            parent = state.live if options.start == "production" and state.live is not None else ""
            try:
                trained = self._train(base, batches, together, fit, parent)
            finally:
                report_file(together.root).unlink(missing_ok=True)
            names = [batch.batch_id for batch in batches]
            now = datetime.now(UTC)
            forgotten = note_use(self._engine, trained.version, trained.run_id, now, names, together.split_keys)
            if forgotten:
                raise DataError(
                    f"{len(forgotten)} images were forgotten, or their batch taken back, while version "
                    f"{trained.version} of {name} was trained on them: it goes nowhere; archive it, and run this again"
                )
            live = {file_stem(answer) for answer in together.split_keys}
            return self._put_forward(trained.version, trained.run_id, batches, together, live)

    def _go_on(self, state: ModelState) -> Retrained:
        """Put a version forward that was trained before, with the data that it was trained on."""
        row = state.row(self._options.version)
        version, tags = row.version, tags_of(self._client, row.run_id)
        if BATCHES_TAG not in tags:
            raise SettingsError(
                f"version {version} of {state.name} was not made by a retraining: python -m registry promote "
                f"{state.name} {version} Staging"
            )
        batches = [find_batch(self._engine, name) for name in tags[BATCHES_TAG].split(",") if name]
        if self._options.order and tags.get(ORDER_TAG) != self._options.order:
            stage = cast("Stage", row.stage if row.stage in get_args(Stage) else "None")
            told = f"somebody has retrained it: version {version}"
            return Retrained(version, row.run_id, tuple(one.batch_id for one in batches), stage, told, as_wished=True)
        if any(version not in {use.model_version for use in batch.uses} for batch in batches):
            raise DataError(
                f"the retraining of version {version} of {state.name} was cut off before it was noted what it was "
                "trained on: archive it, and retrain"
            )
        with self._files(version) as root:
            paths = read_manifest(root / VERSION_FOLDER / MANIFEST_FILE)["path"]
        live = {Path(path).stem for path in paths if Path(path).name.startswith(LIVE_PREFIX)}
        self._refuse_taken_back(version, batches, live)
        with self._together(self._base(tags, state), batches) as together:
            return self._put_forward(version, row.run_id, batches, together, live)

    def _refuse_taken_back(self, version: str, batches: Sequence[Batch], live: Collection[str]) -> None:
        """Refuse a version where not all live images that it was trained on are known and released still."""
        now = [find_batch(self._engine, batch.batch_id) for batch in batches]
        left = {one.name for batch in now if batch.state == "released" for one in batch.images}
        gone = set(live) - left
        if gone:
            raise DataError(
                f"{len(gone)} of the images that version {version} of {self._options.model_name} was trained on were "
                "forgotten, or their batch taken back: it goes nowhere; archive it, and retrain with --anyway"
            )

    @contextmanager
    def _together(self, base: DataPlace, batches: Sequence[Batch]) -> Iterator[Together]:
        """The data set and the batches in a folder, as long as the block lasts."""
        store = ReleasedStore(self._settings.home, open_keyring(self._settings))
        with workplace(self._settings.home, "retrain") as folder:
            root = folder / "retraining"
            root.mkdir()
            together = put_together(root, base, batches, store)
            self._tell(base, batches, together)
            yield together

    def _put_forward(
        self, version: str, run_id: str, batches: Sequence[Batch], together: Together, live: Collection[str]
    ) -> Retrained:
        names = tuple(batch.batch_id for batch in batches)
        why = f"retrained on {len(names)} released batches"
        why += f": {self._options.reason}"[:_LONGEST_REASON] if self._options.reason else ""
        wish = Wish(Actor(self._options.by or local_actor()), why, self._options.promote)
        where = put_forward(
            self._client,
            self._options.model_name,
            version,
            wish,
            together.root,
            self._console,
            self._settings.home,
            lambda: self._refuse_taken_back(version, batches, live),
        )
        outcome = where.outcome
        if together.left_out:
            shown = ", ".join(f"{name}: {why}" for name, why in list(together.left_out.items())[:_SHOWN])
            outcome += f"; {len(together.left_out)} live images were left out ({shown})"
        return Retrained(version, run_id, names, where.stage, outcome, where.as_wished)

    def _base(self, tags: Mapping[str, str], state: ModelState) -> DataPlace:
        options = self._options
        # That of a retrained version was put together for a while: what it was put together from is meant.
        noted = {DATA_TAG: tags.get(BASE_TAG, tags.get(DATA_TAG, ""))}
        override = Path(options.data) if options.data else RegistrySettings.load().data
        place = find_data(noted, override, f"version {state.live or '(none)'} of {state.name}")
        typed = {key: getattr(options, key) for key in ("where", "groups", "slices")}
        return DataPlace(**asdict(place) | {key: value for key, value in typed.items() if value})

    def _fit(self, run_id: str, live: str | None) -> FitSettings:
        known: dict[str, object] = {}
        if live is not None:
            with suppress(MlflowException):
                params = self._client.get_run(run_id).data.params
                known = {name: params[name] for name in _AS_BEFORE if name in params}
            with self._files(live) as root:
                spec = VersionSpec.read(root / VERSION_FOLDER)
            known |= {"architecture": spec.architecture, "width": spec.width}
        return FitSettings.checked(**known | dict(self._options.fit))

    def _files(self, version: str) -> AbstractContextManager[Path]:
        """A version's model, its files checked, as long as the block lasts."""
        return checked_download(self._client, self._options.model_name, version, RegistrySettings.load().trust)

    def _tell(self, base: DataPlace, batches: Sequence[Batch], together: Together) -> None:
        for name, why in together.left_out.items():
            self._say(f"{name} is left out: {why}", "yellow")
        self._say(f"{Path(base.data).name} and {together.live} live images of {len(batches)} released batches", "dim")

    def _train(
        self, base: DataPlace, batches: Sequence[Batch], together: Together, fit: FitSettings, parent: str
    ) -> TrainedVersion:
        tags = {
            BATCHES_TAG: ",".join(batch.batch_id for batch in batches),
            REASON_TAG: self._options.reason[:_LONGEST_REASON],
            ORDER_TAG: self._options.order,
            BASE_TAG: base.to_tag(),
            _MODEL_TAG: self._options.model_name,
            _HOME_TAG: self._home_name,
        }
        options = TrainOptions(
            data=str(together.root),
            slices=together.slices,
            model_name=self._options.model_name,
            parent=parent,
            fit=fit,
            tags=tags,
        )
        trained = train(options, self._console)
        assert trained is not None
        return trained

    def _end_what_was_cut_off(self) -> None:
        """Close the runs of retrainings that were cut off here, and delete their checkpoints: they do not go on."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return
        mine = f"tags.`{_HOME_TAG}` = '{self._home_name}' and attributes.status != 'FINISHED'"
        for run in self._client.search_runs([experiment.experiment_id], mine):
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
            for suffix in (".ckpt", ".lock"):
                checkpoint_of(run.info.run_id).with_suffix(suffix).unlink(missing_ok=True)

    def _say(self, sentence: str, style: str) -> None:
        self._console.print(sentence, style=style, markup=False, soft_wrap=True)

"""A small world for drift tests: a tracking store with a version in Production, and rows of live images."""

import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from small_versions import evaluation

from records.console import run
from records.digests import list_files, version_digest, write_digests
from records.inference import InferenceLog, PredictionRow
from records.log_database import open_log
from registry.evidence import Evaluation
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
UNTIL = ("--until", NOON.isoformat())
# Mean and standard deviation; width and height are all 256, as in many a training set.
USUAL = {name: (50.0 + 3 * place, 4.0) for place, name in enumerate(IMAGE_DESCRIPTORS)} | {
    "foreground_fraction": (0.2, 0.03),
    "component_count": (40.0, 8.0),
    "confidence": (0.9, 0.03),
    "boundary_uncertainty": (0.3, 0.05),
}

Report = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Scene:
    """`uri` of a local tracking store; `home` holds the records database `log`."""

    uri: str
    home: Path
    log: str

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "RESUNET_HOME": str(self.home),
            "RESUNET_INFERENCE_LOG": self.log,
            "COLUMNS": "140",
        }

    def other_log(self, name: str) -> "Scene":
        """The same store beside an empty database."""
        home = self.home / name
        url = f"sqlite:///{home / 'records.db'}"
        open_log(url).dispose()
        return Scene(self.uri, home, url)


def draw_descriptors(rng: np.random.Generator, count: int, moved: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Descriptors of like images; `moved` adds so many standard deviations to a column."""
    frame = pd.DataFrame({name: rng.normal(mean, std, count) for name, (mean, std) in USUAL.items()}, dtype="float64")
    frame[["width", "height"]] = 256.0
    for name, shift in (moved or {}).items():
        frame[name] += shift * USUAL[name][1]
    return frame


def reference_frame(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """A version's reference: 70 % train rows without prediction descriptors, the others held out."""
    frame = draw_descriptors(rng, count)
    place = np.arange(count)
    split = np.where(place < 0.7 * count, "train", np.where(place % 2, "test", "validation"))
    frame.insert(0, "split", split)
    frame.insert(0, "path", [f"images/{number}.png" for number in place])
    frame.loc[split == "train", list(PREDICTION_DESCRIPTORS)] = np.nan
    frame["embedding"] = [rng.normal(size=64).astype("float32").tolist() for _ in range(count)]
    return frame


def evaluated(rng: np.random.Generator, count: int, too_sure: float) -> Evaluation:
    """How test images were scored that are like the live ones: Dice is below the confidence by so much, in the mean."""
    confidence = np.clip(rng.normal(*USUAL["confidence"], count), 0, 1)
    dice = np.clip(confidence - too_sure + rng.normal(0, 0.03, count), 0, 1)
    measured = evaluation({f"images/{place}.png": float(value) for place, value in enumerate(dice)})
    sure = zip(measured.per_image, confidence, strict=True)
    return measured.model_copy(
        update={"per_image": [score.model_copy(update={"confidence": float(stated)}) for score, stated in sure]}
    )


def register(
    client: MlflowClient,
    name: str,
    reference: pd.DataFrame,
    stage: str = "Production",
    manifest: pd.DataFrame | None = None,
    scores: Evaluation | None = None,
) -> str:
    """Register a version that holds a reference, as training does, and return its number."""
    if not any(model.name == name for model in client.search_registered_models()):
        client.create_registered_model(name)
    experiment = client.get_experiment_by_name("training")
    home = experiment.experiment_id if experiment else client.create_experiment("training")
    run = client.create_run(home).info.run_id
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "artifacts/version").mkdir(parents=True)
        reference.to_parquet(root / "artifacts/version/reference.parquet")
        if manifest is not None:
            manifest.to_parquet(root / "artifacts/version/manifest.parquet")
        if scores is not None:
            scores.write(root / "artifacts/version")
        (root / "MLmodel").write_text("flavors: {}\n")
        digest = write_digests(root)
        assert digest == version_digest(list_files(root))
        client.log_artifacts(run, str(root), "model")
    source = f"{client.get_run(run).info.artifact_uri}/model"
    entry = client.create_model_version(name, source, run, tags={"version_digest": digest})
    if stage != "None":
        client.transition_model_version_stage(name, entry.version, stage, archive_existing_versions=True)
    client.set_terminated(run)
    return str(entry.version)


def post(
    scene: Scene,
    frame: pd.DataFrame,
    *,
    version: str,
    name: str = "resunet",
    route: str = "production",
    status: str = "ok",
    end: datetime = NOON,
    digest: str = "",
    slices: Sequence[str | None] | None = None,
    images: str | None = None,
    kept: Sequence[bytes] = (),
) -> None:
    """Log predictions, one a minute before `end`, through the platform's own spool.

    Args:
        slices: of each row.
        images: what they are called: two versions that are posted the same ones have answered the same images.
        kept: the bytes of the images, to be kept.
    """
    rows = []
    for place, values in enumerate(frame.to_dict("records")):
        event = end - timedelta(seconds=30 + 60 * place)
        key = (
            f"{images} {place}"
            if images
            else hashlib.sha256(f"{name} {version} {route} {status} {event} {place}".encode()).hexdigest()[:20]
        )
        described = status == "ok"
        rows.append(
            PredictionRow(
                request_id=key,
                event_time=event,
                model_name=name,
                model_version=version,
                model_digest=digest,
                route=route,
                status=status,
                slice=None if slices is None else slices[place],
                image_digest=f"sha256:{images} {place}" if images else None,
                width=256 if described else None,
                height=256 if described else None,
                image=kept[place] if kept else None,
                descriptors={k: values[k] for k in IMAGE_DESCRIPTORS} if described else {},
                prediction_descriptors={k: values[k] for k in PREDICTION_DESCRIPTORS} if described else {},
                embedding=values["embedding"].tobytes() if described and "embedding" in values else None,
            )
        )
    log = InferenceLog.open(scene.log, scene.home, keep_images=1.0 if kept else 0.0)
    log.append(rows)
    assert log.close(deadline_s=20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A local tracking store with `resunet` version 1 in Production."""
    folder = tmp_path_factory.mktemp("drift")
    before, here = (mlflow.get_tracking_uri(), mlflow.get_registry_uri()), Path.cwd()
    # A local store puts artifacts below the working folder.
    os.chdir(folder)
    scene = Scene(f"sqlite:///{folder / 'mlflow.db'}", folder, "")
    mlflow.set_tracking_uri(scene.uri)
    mlflow.set_registry_uri(scene.uri)
    register(scene.client, "resunet", reference_frame(np.random.default_rng(0), 300))
    yield scene
    os.chdir(here)
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


@pytest.fixture
def scene(store: Scene, request: pytest.FixtureRequest) -> Scene:
    """The store, and a database of the test's own."""
    return store.other_log(request.node.name.replace("[", "-").replace("]", ""))


@pytest.fixture
def report(scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Report]:
    """Runs `python -m monitoring report` in this process; gives exit code, stdout and stderr."""
    from monitoring.cli import app

    before = signal.getsignal(signal.SIGTERM)
    for name, value in scene.environment.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["monitoring", "report", *arguments])
        with pytest.raises(SystemExit) as stopped:
            run(app)
        output = capsys.readouterr()
        code = stopped.value.code
        return code if isinstance(code, int) else 0, output.out, output.err

    yield call
    signal.signal(signal.SIGTERM, before)


def live(seed: int, count: int, *, embedding: float = 0.0, **moved: float) -> pd.DataFrame:
    """Like images as a server describes them; each descriptor, and all of the embedding, is moved as far as told."""
    rng = np.random.default_rng(seed)
    frame = draw_descriptors(rng, count, moved)
    frame["embedding"] = list(rng.normal(embedding, 1, (count, 64)).astype("<f4"))
    return frame


def last_run(client: MlflowClient, experiment: str = "resunet-monitoring") -> Run:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    reports = "tags.resunet_report = 'drift'"
    return client.search_runs([found.experiment_id], reports, order_by=["attributes.start_time DESC"])[0]

"""Small registered versions: real MLflow models with real digests, around a stand-in for the network."""

from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from records.digests import write_digests
from registry.evidence import VERSION_FOLDER, Evaluation, ImageScore, Interval, Lineage
from registry.signing import sign

IMAGES = tuple(f"images/{number:02d}.png" for number in range(12))


def scores(dice: float, spread: float = 0.05) -> dict[str, float]:
    """A Dice an image: half above and half below `dice`."""
    return {path: dice + (spread if index % 2 else -spread) for index, path in enumerate(IMAGES)}


def evaluation(dice: Mapping[str, float], fingerprint: str = "sha256:test-split") -> Evaluation:
    mean = sum(dice.values()) / len(dice)
    return Evaluation(
        fingerprint=fingerprint,
        images=len(dice),
        overall={"dice": Interval(mean=mean, low=mean - 0.02, high=mean + 0.02)},
        per_image=[
            ImageScore(path=path, dice=d, iou=d, precision=d, recall=d, boundary_f1=d, confidence=d)
            for path, d in dice.items()
        ],
        serving_file="model.onnx",
        precision="fp32",
        engine="onnxruntime",
    )


def lineage(measured: Evaluation) -> Lineage:
    """That of a version whose test images nobody learnt from."""
    return Lineage(fingerprint=measured.fingerprint, test_images=measured.images, trained_images=100)


def with_digests(measured: Evaluation) -> Evaluation:
    """The digests that files of these names have; a file that was moved is still the same one."""
    named = [
        score.model_copy(update={"sha256": f"image {Path(score.path).name}", "mask_sha256": Path(score.path).name})
        for score in measured.per_image
    ]
    return measured.model_copy(update={"per_image": named})


def register(
    client: MlflowClient,
    name: str,
    folder: Path,
    measured: Evaluation | None,
    private_key: Path | None = None,
) -> str:
    """Log a model made in `folder` (which is new) and register it.

    Returns:
        the version's number.
    """
    version = folder / VERSION_FOLDER
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(f"not a network: {folder.name}".encode())
    (folder / "MLmodel").write_text("flavors: {}\n")
    if measured is not None:
        measured.write(version)
    digest = write_digests(folder)
    if private_key is not None:
        sign(folder, private_key)
    return register_folder(client, name, folder, digest, measured)


def register_folder(client: MlflowClient, name: str, folder: Path, digest: str, measured: Evaluation | None) -> str:
    """Log `folder` as it is, and register it."""
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    if not [model for model in client.search_registered_models() if model.name == name]:
        client.create_registered_model(name)
    model = client.create_logged_model(experiment, name="model")
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    tags = {"version_digest": digest, "git_commit": "0123456789abcdef"}
    if measured is not None:
        tags |= {
            "dice": f"{measured.overall['dice'].mean:.4f}",
            "dataset_fingerprint": measured.fingerprint,
        }
    made = client.create_model_version(name, f"models:/{model.model_id}", tags=tags, model_id=model.model_id)
    return str(made.version)

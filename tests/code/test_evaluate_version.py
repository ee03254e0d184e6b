"""A version on a data set: what it may be measured on, where the scores go, its reference and its card."""

import io
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from labelled_images import truth_of
from mlflow import MlflowClient
from mlflow_state import mlflow_state_kept
from PIL import Image
from rich.console import Console
from version_factory import draw, register_version, write_version

from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.data.labelled import LabelledImages
from pipelines.data.manifest import fingerprint, write_manifest
from pipelines.runs.evaluate_version import evaluate_version
from pipelines.training.fit import Evaluated, Fitted
from pipelines.training.schedule import Schedule
from pipelines.training.settings import FitSettings
from pipelines.version.evaluate import evaluate
from pipelines.version.evaluation_report import write_scores
from pipelines.version.model_card import CardFacts, model_card
from pipelines.version.reference import build_reference, write_reference
from pipelines.version.serving_file import Candidate, ServingChoice
from records.digests import DIGESTS_FILE, write_digests
from registry.evidence import Evaluation
from registry.signing import keygen
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import DataError, SettingsError, VersionError
from resunet.networks import build_network
from serving.predictor import Predictor
from serving.version import MANIFEST_FILE


def _write_dataset(root: Path, count: int, first_seed: int = 0, foreground: int = 255) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows = ["file,stain"]
    for seed in range(first_seed, first_seed + count):
        rgb = draw(64, 72, seed)
        Image.fromarray(rgb).save(root / "images" / f"{seed}.png")
        Image.fromarray(truth_of(rgb) * np.uint8(foreground)).save(root / "masks" / f"{seed}.png")
        rows.append(f"{seed}.png,{'b' if seed == first_seed else 'a'}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare_data(str(_write_dataset(tmp_path_factory.mktemp("data") / "spots", 40)))


def _trained_on(prepared: PreparedData, root: Path) -> Path:
    write_version(root)
    write_manifest(prepared.manifest, root / MANIFEST_FILE)
    return root


def test_a_version_in_a_folder_is_evaluated_on_the_test_split(prepared: PreparedData, tmp_path: Path) -> None:
    root = _trained_on(prepared, tmp_path / "version")
    shown = io.StringIO()
    evaluation = evaluate_version(str(root), str(prepared.root), console=Console(file=shown, width=200))
    test = prepared.manifest[prepared.manifest["split"] == "test"]
    assert [s.path for s in evaluation.per_image] == test["path"].tolist()
    assert evaluation.fingerprint == fingerprint(test)
    interval = evaluation.overall["dice"]
    assert f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})" in shown.getvalue()
    again = evaluate_version(str(root), str(prepared.root))
    assert again == evaluation


def test_the_scores_of_every_image_go_to_a_file(prepared: PreparedData, tmp_path: Path) -> None:
    root = _trained_on(prepared, tmp_path / "version")
    table, whole = tmp_path / "scores.csv", tmp_path / "scores.json"
    for out in (table, whole):
        evaluation = evaluate_version(str(root), str(prepared.root), out=out)
    assert Evaluation.parse(whole.read_bytes()) == evaluation
    rows = pd.read_csv(table)
    manifest = prepared.manifest.set_index("path").loc[rows["path"]]
    assert rows["dice"].tolist() == pytest.approx([s.dice for s in evaluation.per_image])
    for digest in ("sha256", "mask_sha256"):
        assert rows[digest].tolist() == manifest[digest].tolist()
    for wrong in (tmp_path / "scores.txt", tmp_path / "nowhere" / "scores.csv"):
        with pytest.raises(SettingsError, match="out: "):
            evaluate_version(str(root), str(prepared.root), out=wrong)
    with pytest.raises(SettingsError, match="cannot be written"):
        write_scores(evaluation, _folder(tmp_path / "taken.csv"))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_an_evaluation_is_logged_to_a_run_of_its_own_and_the_gates_read_none_of_it(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking_uri: str
) -> None:
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    model = tmp_path / "model"
    _trained_on(prepared, model / "artifacts" / "version")
    digest = write_digests(model)
    evaluation = evaluate_version(str(model), str(prepared.root), console=Console(file=io.StringIO(), width=200))
    assert not (tmp_path / "home" / "records.db").exists()
    client = MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'resunet-evaluation'")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.version_digest = '{digest}'")
    assert run.data.metrics["test_dice"] == pytest.approx(evaluation.overall["dice"].mean)
    assert run.data.tags["version_digest"] == digest
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"evaluation.json", "per_image.csv"}


def test_a_registered_version_is_evaluated_only_with_its_list_of_files_and_a_signature_that_is_asked_for(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow_state_kept():
        uri, model = register_version(_trained_on(prepared, tmp_path / "version"), tmp_path / "store")
        mlflow.set_tracking_uri(uri)
        monkeypatch.setenv("RESUNET_TRUSTED_KEY", str(keygen(tmp_path / "keys")[1]))
        with pytest.raises(VersionError, match=f"{model}: model.sig is missing"):
            evaluate_version(model, str(prepared.root))
        with pytest.raises(VersionError, match="bare folder, which nobody signed"):
            evaluate_version(str(tmp_path / "version"), str(prepared.root))
        monkeypatch.delenv("RESUNET_TRUSTED_KEY")
        with pytest.raises(SettingsError, match=f"{model}/artifacts/version is no model.*give the model itself"):
            evaluate_version(f"{model}/artifacts/version", str(prepared.root))
        (listed,) = (tmp_path / "store").rglob(DIGESTS_FILE)
        listed.unlink()
        for place in (model, str(listed.parent)):
            with pytest.raises(VersionError, match=f"{place}: {DIGESTS_FILE} is missing"):
                evaluate_version(place, str(prepared.root))


@pytest.mark.parametrize("registered", [True, False])
def test_a_tracking_database_that_cannot_be_opened_is_named_at_once(
    registered: bool, prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/1/mlflow.db")
    model = "models:/resunet/1" if registered else str(_trained_on(prepared, tmp_path / "version"))
    with pytest.raises(SettingsError, match="/proc/1 cannot be written to"):
        evaluate_version(model, str(prepared.root))


@pytest.mark.parametrize("names", ["background,bright,dim", "background,dim,other"])
def test_classes_of_another_order_or_name_are_refused(prepared: PreparedData, tmp_path: Path, names: str) -> None:
    write_version(tmp_path / "three", classes=3)
    write_manifest(prepared.manifest, tmp_path / "three" / MANIFEST_FILE)
    root = _write_dataset(tmp_path / "data", 40, foreground=1)
    (root / "classes.txt").write_text(names.replace(",", "\n"))
    with pytest.raises(
        DataError, match=f"the version knows the classes background, dim, bright; data has {names[:10]}"
    ):
        evaluate_version(str(tmp_path / "three"), str(root))
    (root / "classes.txt").write_text("background\ndim\nbright\n")
    assert evaluate_version(str(tmp_path / "three"), str(root)).images > 0


def test_images_that_were_trained_on_are_no_test(prepared: PreparedData, tmp_path: Path) -> None:
    leaking = replace(prepared, manifest=prepared.manifest.assign(split="train"))
    root = _trained_on(leaking, tmp_path / "version")
    with pytest.raises(DataError, match="trained on by this version"):
        evaluate_version(str(root), str(prepared.root))


def test_images_that_an_ancestor_was_trained_on_are_no_test(prepared: PreparedData, tmp_path: Path) -> None:
    root = _trained_on(prepared, tmp_path / "version")
    prepared.manifest.assign(split="train", version="1").to_parquet(root / "ancestors.parquet", index=False)
    with pytest.raises(DataError, match="ancestor"):
        evaluate_version(str(root), str(prepared.root))


def test_other_classes_a_missing_model_and_a_stray_folder_are_told_apart(
    prepared: PreparedData, tmp_path: Path
) -> None:
    write_version(tmp_path / "three", classes=3)
    write_manifest(prepared.manifest, tmp_path / "three" / MANIFEST_FILE)
    with pytest.raises(DataError, match="the version knows the classes background, dim, bright"):
        evaluate_version(str(tmp_path / "three"), str(prepared.root))
    with pytest.raises(VersionError, match="not a version"):
        evaluate_version(str(tmp_path), str(prepared.root))
    with pytest.raises(SettingsError, match="models:/<name>"):
        evaluate_version(str(tmp_path / "nowhere"), str(prepared.root))


def test_the_reference_predicts_held_out_images_only(
    prepared: PreparedData, predictor: Predictor, tmp_path: Path
) -> None:
    splits = dict(zip(prepared.manifest["path"], prepared.manifest["split"], strict=True))
    rows = build_reference(predictor, prepared.dataset.samples, splits)
    write_reference(rows, tmp_path / "reference.parquet")
    read = pd.read_parquet(tmp_path / "reference.parquet")
    assert list(read.columns) == ["path", "split", *IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS, "embedding"]
    assert len(read) == 40
    assert read[list(IMAGE_DESCRIPTORS)].notna().all(axis=None)
    train = read["split"] == "train"
    assert read.loc[train, [*PREDICTION_DESCRIPTORS, "embedding"]].isna().all(axis=None)
    assert read.loc[~train, [*PREDICTION_DESCRIPTORS, "embedding"]].notna().all(axis=None)
    image = next(iter(LabelledImages(prepared.split("test"))))
    row = read[read["path"] == image.path].iloc[0]
    expected = predictor.predict(image.rgb)
    assert row["embedding"].dtype == np.float32
    np.testing.assert_allclose(row["embedding"], expected.embedding)
    assert row[list(PREDICTION_DESCRIPTORS)].to_dict() == pytest.approx(expected.prediction_descriptors)


def test_the_card_says_what_was_measured_and_what_was_not(prepared: PreparedData, predictor: Predictor) -> None:
    evaluation = evaluate(
        predictor,
        LabelledImages(prepared.split("test")),
        fingerprint="x",
        known_slices=["stain=a", "stain=b", "stain=c|d"],
    )
    candidates = [
        Candidate("fp32", "onnxruntime", 12.3, 0.9, 1, 1, 1, "", 6, 0.9),
        Candidate("int8", "onnxruntime", 8.1, 0.85, 0.99, 0.91, 1, "costs 0.0500 Dice", 4, 0.9),
    ]
    choice = ServingChoice(Path("model.onnx"), "fp32", {}, candidates, 6, 0.9)
    history = [Evaluated(10, 1.0, 0.5, 0.71, 1e-3, 3.0), Evaluated(20, 2.0, 0.4, 0.75, 1e-4, 6.0)]
    network = build_network("resunet", 4)
    fitted = Fitted(network, history, Schedule.of_steps(20), 20, 6.0, "schedule", "bf16")
    facts = CardFacts(
        FitSettings(width=4, seed=9), fitted, prepared, predictor.spec, evaluation, choice, "abc123", parent="2"
    )
    card = model_card(facts)
    assert "environment.txt" not in card
    known = model_card(replace(facts, environment="Python 3.11.7, 2 threads"))
    assert "It was made with Python 3.11.7, 2 threads; `environment.txt` of its run names all packages." in known
    interval = evaluation.overall["dice"]
    assert f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})" in card
    assert prepared.fingerprint in card
    assert "not evaluated, for want of a test image: `stain=" in card.lower()
    assert "| int8 | onnxruntime | 8.1 | 4 | 0.8500 | 0.9000 | 99.0000% | 0.9100 | no: costs 0.0500 Dice |" in card
    assert "abc123" in card and "-P seed=9" in card and "-P parent=2" in card
    assert "-P epochs=100" in card
    assert "-P precision=bf16" in card and f"-P learning_rate={facts.settings.learning_rate}" in card
    assert "| length asked for | 100 epochs |" in card
    assert "| clip norm (of AdamW's parameters; Muon's hidden kernels have none) | 1 |" in card
    assert "not for diagnosis" in card
    assert "Licence of the weights: not stated" in card
    assert "Licence of the weights: CC0" in model_card(replace(facts, licence="CC0"))
    assert str(prepared.root.parent) not in card  # no path of this machine
    assert "nan" not in card

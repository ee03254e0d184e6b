"""Cross-validation: folds that keep groups together, nested runs, and a test split that nobody opens."""

import json
import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import pytest
from dataset_factory import add, group_in, make, picture, write
from mlflow import MlflowClient

from pipelines.data.data_step import prepare_data
from pipelines.runs.cross_validation import cut_folds, fold_of
from resunet.errors import DataError

PROJECT = Path(__file__).resolve().parents[2]


def test_every_image_but_those_of_the_test_split_is_in_one_fold(tmp_path: Path) -> None:
    data = prepare_data(str(make(tmp_path / "data", 40)))
    parts = cut_folds(data, 3)
    files = [sample.file for part in parts for sample in part]
    held_out = {sample.file for sample in data.split("test")}
    assert len(files) == len(set(files)) and held_out
    assert set(files) == {sample.file for sample in data.dataset.samples} - held_out


def test_a_group_is_never_in_two_folds(tmp_path: Path) -> None:
    root = make(tmp_path / "data", 40)
    names = [group_in("train"), group_in("validation")]
    rows = []
    for index, name in enumerate(names * 4):
        rows.append(f"{add(root, f'g{index}', picture(100 + index)).removeprefix('images/')},{name}")
    write(root / "groups.csv", "\n".join(["file,group", *rows]) + "\n")
    parts = cut_folds(prepare_data(str(root)), 4)
    for name in names:
        assert len([part for part in parts if any(sample.group == name for sample in part)]) == 1


def test_a_fold_does_not_depend_on_the_other_images(tmp_path: Path) -> None:
    def folds(count: int) -> dict[str, int]:
        parts = cut_folds(prepare_data(str(make(tmp_path / f"{count}", count))), 2)
        return {sample.file: fold for fold, part in enumerate(parts) for sample in part}

    few, many = folds(24), folds(40)
    assert len(many) > len(few) and many | few == many
    assert {fold_of(f"group:{name}", 5) for name in range(50)} == set(range(5))


def test_more_folds_than_the_images_fill_are_refused(tmp_path: Path) -> None:
    data = prepare_data(str(make(tmp_path / "data")))
    with pytest.raises(DataError, match="do not fill 500 folds"):
        cut_folds(data, 500)


def test_folds_by_the_million_are_refused_before_they_are_made(tmp_path: Path) -> None:
    data = prepare_data(str(make(tmp_path / "data")))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="do not fill 1000000 folds"):
            cut_folds(data, 1_000_000)
        # A million lists would be 64 MB.
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_folds_are_nested_runs_and_the_test_split_is_never_read(tracking_uri: str, tmp_path: Path) -> None:
    """Its files are deleted as soon as `prepare` has seen them: whoever would open one, fails."""
    program = textwrap.dedent(
        """
        import sys
        from pipelines.runs import train
        from pipelines.cli import app
        from records.console import run

        prepare = train.prepare_data

        def prepare_and_delete(*arguments, **named):
            data = prepare(*arguments, **named)
            for sample in data.split("test"):
                sample.image.unlink()
                sample.mask.unlink()
            return data

        train.prepare_data = prepare_and_delete
        run(app)
        """
    )
    options: dict[str, object] = {"folds": 2, "width": 4, "epochs": 25, "crop": 32, "batch_size": 8}
    options |= {"model_name": "cross-validated", "slices": "stain"}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    root = make(tmp_path / "data", 30)
    rows = [
        f"{path.name},{'abc'[index % 3]},{'xy'[index % 2]}" for index, path in enumerate((root / "images").iterdir())
    ]
    write(root / "metadata.csv", "\n".join(["file,site,stain", *rows]) + "\n")
    variables = {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_EXPERIMENT_NAME": "folds",
        "RESUNET_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", program, "train", "--data", str(root), *words],
        cwd=PROJECT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "mean ± sd" in ran.stdout and "whole held-out images" in ran.stdout
    assert "--resume" not in ran.stdout
    assert len(list((root / "images").iterdir())) < 30

    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_experiment_by_name("folds")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in runs if run not in nested]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    assert sorted(run.data.params["fold"] for run in nested) == ["1", "2"]
    scores = [run.data.metrics["fold_dice"] for run in nested]
    assert all(0 < score < 1 for score in scores)
    for run in nested:
        history = client.get_metric_history(run.info.run_id, "validation_dice")
        # Its images are smaller than what validation sees: the last weights give what they gave there, but for bf16.
        assert run.data.metrics["fold_dice"] == pytest.approx(history[-1].value, abs=0.02)
    assert parent.data.metrics["cv_dice_mean"] == pytest.approx(sum(scores) / 2)
    assert parent.data.metrics["cv_dice_sd"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    assert parent.data.params["folds"] == "2" and parent.data.params["keep"] == "last"
    assert parent.data.params["length"] == "25 epochs"
    assert parent.data.params["slices"] == "stain"
    report = json.loads(Path(client.download_artifacts(parent.info.run_id, "data/prepare.json", tmp_path)).read_text())
    assert set(report["slices"]) == {"stain=x", "stain=y"}
    assert [model for model in client.search_registered_models() if model.name == "cross-validated"] == []

"""A measured seed counts only for the data, settings and code it was measured with."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.dice import Measured, measured_before, measurement_key
from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.data.synthetic import generate
from pipelines.pins import PROJECT
from pipelines.training.settings import FitSettings

RESULT = Measured(0, 10, "key", 4000, 0.9, 0.91, 0.9, 0.92, "", [0.9, 0.92])


def _data(root: Path, count: int) -> PreparedData:
    generate(root, count=count)
    return prepare_data(str(root))


def test_a_seed_measured_before_is_found_by_seed_and_key(tmp_path: Path) -> None:
    kept = tmp_path / "dice.jsonl"
    assert measured_before(kept, 0, "key") is None
    lines = [json.dumps(asdict(result)) for result in (replace(RESULT, key="other"), RESULT)]
    kept.write_text("\n".join(lines) + "\n", "utf-8")
    assert measured_before(kept, 0, "key") == RESULT
    assert measured_before(kept, 1, "key") is None
    assert measured_before(kept, 0, "changed") is None


def test_the_key_changes_with_data_and_settings_and_not_with_the_seed(tmp_path: Path) -> None:
    data, other = _data(tmp_path / "one", 12), _data(tmp_path / "two", 13)
    settings = FitSettings.checked(seed=0, max_minutes=10)
    key = measurement_key(data, settings)
    assert measurement_key(data, settings.model_copy(update={"seed": 2})) == key
    assert measurement_key(data, settings.model_copy(update={"width": 32})) != key
    assert measurement_key(other, settings) != key


def test_the_key_changes_with_all_code_that_the_dice_goes_through(tmp_path: Path) -> None:
    data, settings, project = _data(tmp_path / "data", 12), FitSettings.checked(), tmp_path / "project"
    for package in ("resunet", "pipelines", "serving"):
        shutil.copytree(PROJECT / package, project / package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    key = measurement_key(data, settings, project)
    assert key == measurement_key(data, settings)
    trains = [
        "pipelines/training/fit.py",
        "pipelines/training/learner.py",
        "resunet/networks/blocks.py",
        "resunet/metrics.py",
    ]
    measures = ["export", "quantise", "serving_file", "parity", "calibrate", "evaluate", "build_version"]
    serves = ["serving/engine.py", "serving/predictor.py"]
    for file in (
        *trains,
        *(f"pipelines/version/{name}.py" for name in measures),
        "pipelines/data/labelled.py",
        *serves,
    ):
        before = (project / file).read_text("utf-8")
        (project / file).write_text(f"{before}\n# changed\n", "utf-8")
        assert measurement_key(data, settings, project) != key, file
        (project / file).write_text(before, "utf-8")
    (project / "pipelines/demo.py").write_text("# has no say")
    assert measurement_key(data, settings, project) == key

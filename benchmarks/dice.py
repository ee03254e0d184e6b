"""Dice on the test split of a data set after a fixed time of training: mean over seeds, with its interval.

    python -m benchmarks.dice --data ../shared/data/nuclei --minutes 10     # 3 seeds
    python -m benchmarks.dice --data ../shared/data/nuclei --minutes 45 --width 32 --at-least 0.925 --json dice.jsonl
    python -m benchmarks.dice --smoke

Each seed goes the way of a real version: `fit`, export, choice of the serving file, calibration, evaluation through
that file. Settings are the defaults of `train`, which were tuned on validation only. Training is limited by time,
so the machine must have nothing else to do. A seed that the `--json` file holds for the same data, settings and
code is not trained again.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.data.synthetic import Knobs, generate
from pipelines.pins import PROJECT
from pipelines.training.batches import sample_store
from pipelines.training.fit import Epoch, Evaluated, fit
from pipelines.training.settings import FitSettings
from pipelines.version.build_version import build_version
from records.settings import RecordsSettings
from resunet.metrics import bootstrap_interval

# Through these goes the Dice of what was trained: the choice of the file, its calibration, its evaluation.
_MEASURES: tuple[str, ...] = (
    "data/data_step.py", "data/dataset.py", "data/labelled.py", "version/build_version.py", "version/calibrate.py",
    "version/evaluate.py", "version/export.py", "version/golden_image.py", "version/parity.py", "version/quantise.py",
    "version/serving_file.py",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What one seed gave."""

    seed: int
    minutes: float
    key: str
    steps: int
    validation: float
    test: float
    low: float
    high: float
    slices: str
    per_image: list[float]


def measurement_key(data: PreparedData, settings: FitSettings, project: Path = PROJECT) -> str:
    """What must be the same for a measurement to count: data, settings but for the seed, code that trains and measures.

    Args:
        project: where that code is.
    """
    digest = hashlib.sha256(data.fingerprint.encode())
    digest.update(settings.model_copy(update={"seed": 0}).model_dump_json().encode())
    steps = [project / "pipelines" / name for name in _MEASURES]
    steps += (project / "pipelines" / "training").glob("*.py")
    for path in sorted([*(project / "resunet").rglob("*.py"), *(project / "serving").glob("*.py"), *steps]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def measured_before(path: Path | None, seed: int, key: str) -> Measured | None:
    """The line of a seed in the file, if it was measured under the same conditions."""
    if path is None or not path.is_file():
        return None
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return next((Measured(**line) for line in found if (line["seed"], line["key"]) == (seed, key)), None)


def train_once(data: PreparedData, settings: FitSettings, console: Console, keep: Path | None = None) -> Measured:
    """Train, build and evaluate a version; its files stay in a folder below `keep`."""

    def tell(result: Evaluated, _epochs: Sequence[Epoch]) -> None:
        told = f"step {result.step}, {result.seconds:.0f} s: validation Dice {result.validation_dice:.4f}"
        console.print(told, style="dim")

    training = sample_store(data.split("train"), data.manifest, settings.memory_budget_mb)
    validation = sample_store(data.split("validation"), data.manifest, settings.memory_budget_mb)
    training.warm()
    validation.warm()
    fitted = fit(settings, training, validation, on_evaluation=tell)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if keep is None else keep / f"seed {settings.seed}"
        root.mkdir(parents=True, exist_ok=True)
        evaluation = build_version(root, fitted, settings, data, None, console).evaluation
    dice = evaluation.overall["dice"]
    slices = ", ".join(f"{n} {s.metrics['dice'].mean:.3f} ({s.images})" for n, s in evaluation.slices.items())
    return Measured(
        seed=settings.seed,
        minutes=settings.max_minutes,
        key=measurement_key(data, settings),
        steps=fitted.steps,
        validation=max(row.validation_dice for row in fitted.history),
        test=dice.mean,
        low=dice.low,
        high=dice.high,
        slices=slices,
        per_image=[image.dice for image in evaluation.per_image],
    )


def _little() -> PreparedData:
    """Few small images, which all stay in memory: nothing is read of their files later but by `store`."""
    folder = RecordsSettings.load().home / "data" / "little"
    generate(folder, 40, 0, Knobs(size=(96, 128)))
    return prepare_data(str(folder))


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folder of images and masks; empty: synthetic nuclei")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--at-least", type=float, default=0.91)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--json", type=Path, help="keep a line a seed in this file, and train no seed twice")
    parser.add_argument("--keep", type=Path, help="keep the versions, one a seed, in this folder")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few seconds; proves nothing")
    options = parser.parse_args(given)
    if options.smoke:
        options.minutes, options.seeds, options.width = 0.02, [0], 4
    console = Console()
    data = _little() if options.smoke and not options.data else prepare_data(options.data)
    table = Table("seed", "steps", "validation Dice", "test Dice (95 % interval)", "by slice")
    table.title = f"{data.root.name}: {options.minutes:g} minutes of training, width {options.width}"
    scores: list[list[float]] = []
    for seed in options.seeds:
        settings = FitSettings.checked(
            width=options.width, classes=data.classes, seed=seed, max_minutes=options.minutes
        )
        known = measured_before(options.json, seed, measurement_key(data, settings))
        result = known or train_once(data, settings, console, options.keep)
        if options.json is not None and known is None:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result)) + "\n")
        scores.append(result.per_image)
        interval = f"{result.test:.4f} ({result.low:.4f} … {result.high:.4f})"
        table.add_row(str(seed), str(result.steps), f"{result.validation:.4f}", interval, result.slices)
    mean, low, high = bootstrap_interval(np.mean(scores, axis=0).tolist())
    means = [statistics.fmean(row) for row in scores]
    spread = statistics.stdev(means) if len(means) > 1 else float("nan")
    reached = mean >= options.at_least
    table.add_section()
    wanted = f"must be ≥ {options.at_least:g} {'✓' if reached else '✗'}"
    table.add_row("mean", "", "", f"{mean:.4f} ({low:.4f} … {high:.4f})", f"sd of seeds {spread:.4f}; {wanted}")
    console.print(table)
    return 0 if reached or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())

"""Dice on the test split of a data set after a fixed time of training: mean over seeds, with its interval.

    python -m benchmarks.dice --data ../shared/data/nuclei --minutes 10     # 3 seeds
    python -m benchmarks.dice --smoke

Each seed goes the way of a real version: `fit`, export, choice of the serving file, calibration, evaluation through
that file. Settings are the defaults of `train`, which were tuned on validation only.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.build_version import build_version
from pipelines.data_step import PreparedData, prepare_data, store
from pipelines.fit import Evaluated, fit
from pipelines.settings import FitSettings
from registry.evidence import Evaluation
from resunet.metrics import bootstrap_interval


def train_once(data: PreparedData, settings: FitSettings, console: Console) -> tuple[Evaluation, float, int]:
    """Train, build and evaluate a version: its evaluation, best validation Dice and steps."""

    def tell(result: Evaluated) -> None:
        told = f"step {result.step}, {result.seconds:.0f} s: validation Dice {result.validation_dice:.4f}"
        console.print(told, style="dim")

    training = store(data.split("train"), data.manifest, settings.memory_budget_mb)
    validation = store(data.split("validation"), data.manifest, settings.memory_budget_mb)
    training.warm()
    validation.warm()
    fitted = fit(settings, training, validation, on_evaluation=tell)
    with tempfile.TemporaryDirectory() as folder:
        built = build_version(Path(folder), fitted, settings, data, None, console)
    best = max(row.validation_dice for row in fitted.history)
    return built.evaluation, best, fitted.steps


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folder of images and masks; empty: synthetic nuclei")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--at-least", type=float, default=0.91)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--json", type=Path, help="add one line a seed to this file")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few seconds; proves nothing")
    options = parser.parse_args(given)
    if options.smoke:
        options.minutes, options.seeds, options.width = 0.1, [0], 4
    console = Console()
    data = prepare_data(options.data)
    table = Table("seed", "steps", "validation Dice", "test Dice (95 % interval)", "by slice")
    table.title = f"{data.root.name}: {options.minutes:g} minutes of training, width {options.width}"
    scores: list[list[float]] = []
    for seed in options.seeds:
        settings = FitSettings.checked(
            width=options.width, classes=data.classes, seed=seed, epochs=1_000_000, max_minutes=options.minutes
        )
        evaluation, best, steps = train_once(data, settings, console)
        scores.append([image.dice for image in evaluation.per_image])
        dice = evaluation.overall["dice"]
        slices = ", ".join(f"{n} {s.metrics['dice'].mean:.3f} ({s.images})" for n, s in evaluation.slices.items())
        table.add_row(
            str(seed), str(steps), f"{best:.4f}", f"{dice.mean:.4f} ({dice.low:.4f} … {dice.high:.4f})", slices
        )
        if options.json is not None:
            line = {"seed": seed, "minutes": options.minutes, "steps": steps, "validation": best, "test": dice.mean}
            with options.json.open("a") as file:
                file.write(json.dumps(line) + "\n")
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

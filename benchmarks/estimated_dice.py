"""What Dice without labels is worth: estimated against true Dice on images that no part of the estimate has seen.

    python -m benchmarks.estimated_dice --data ../shared/data/nuclei --keep versions --json estimates.jsonl
    python -m benchmarks.estimated_dice --smoke

Each partition divides the data set anew into training, validation and test images, and a version is made as `train`
makes one: validation ends its training and calibrates it, and tests see neither. Of its test images as many as a real
version has (86) are drawn to be what the estimate knows, and windows of 50 come from the others, again and again.
Each window is judged for drift first, as in a report. Beside the confidence of an image stands the best constant: the
median Dice of the images that the estimate knows. A last version sees fluorescence alone, and windows of histology ask
it what it does under drift.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.drift_images import grey
from monitoring.drift import Rule
from monitoring.families import make_families
from monitoring.judge import judge
from monitoring.performance.distance import ReferenceSpace, from_lists
from monitoring.performance.estimated import Estimate, estimate_window, image_intervals
from monitoring.performance.version_files import HeldOutScores
from monitoring.performance.window_estimate import far_share
from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.data.labelled import LabelledImages
from pipelines.data.synthetic import Knobs, generate
from pipelines.progress import progress_bar
from pipelines.training.batches import sample_store
from pipelines.training.fit import fit
from pipelines.training.settings import FitSettings
from pipelines.version.build_version import build_version
from records.settings import RecordsSettings
from registry.evidence import Evaluation
from resunet.metrics import dice
from serving.predictor import Predictor
from serving.version import REFERENCE_FILE, SPEC_FILE

KNOWN: Final = 86
WINDOW: Final = 50
TRAINING_SHARE, VALIDATION_SHARE = 0.45, 0.15
HOME: Final = "modality=fluorescence"
AWAY: Final = "modality=histology"
UNCHANGED: Final = "as it was trained"
MOST_ERROR: Final = 0.02
BETTER_BY: Final = 0.2
COVERED: Final = (0.87, 0.93)


@dataclass(frozen=True)
class Asked:
    """One window.

    Attributes:
        kind: what its images are.
        partition: of the data set, by number.
        true: mean Dice of the window.
        dice, low, high: as estimated; nan where it was declined.
        declined: why.
        drifted: the verdict on the window.
        own_error, constant_error: mean absolute error of an image's Dice, by its confidence and by the best constant.
        held: share of the images whose Dice lies in its own 90 % interval.
    """

    kind: str
    partition: int
    true: float
    dice: float
    low: float
    high: float
    declined: str | None
    drifted: bool
    own_error: float
    constant_error: float
    held: float

    @property
    def covered(self) -> bool:
        return self.low <= self.true <= self.high


@dataclass(frozen=True)
class Known:
    """A version, and what its estimates are made from.

    Attributes:
        rows: a row an image of its data set, as in `reference.parquet`.
        scores: a row a test image, as the log would hold it, with its `dice`; `group` where it has one.
    """

    predictor: Predictor
    rows: pd.DataFrame
    scores: pd.DataFrame


def divided(data: PreparedData, number: int) -> PreparedData:
    """The same images in other splits; what belongs together stays together."""
    manifest = data.manifest.copy()
    groups = manifest["group"].fillna(manifest["path"])
    names = groups.unique()
    place = np.random.default_rng(number).permutation(len(names)) / len(names)
    cuts = TRAINING_SHARE, TRAINING_SHARE + VALIDATION_SHARE
    split = dict(zip(names, np.array(["train", "validation", "test"])[np.digitize(place, cuts)], strict=True))
    manifest["split"] = [str(split[group]) for group in groups]
    return replace(data, manifest=manifest)


def make_known(data: PreparedData, settings: FitSettings, root: Path, console: Console) -> Known:
    """Train and build a version, or take the one that is in the folder; describe its test images."""
    if not (root / SPEC_FILE).is_file():
        root.mkdir(parents=True, exist_ok=True)
        training = sample_store(data.split("train"), data.manifest, settings.memory_budget_mb)
        validation = sample_store(data.split("validation"), data.manifest, settings.memory_budget_mb)
        fitted = fit(settings, training, validation)
        build_version(root, fitted, settings, data, None, console)
    rows = pq.read_table(root / REFERENCE_FILE).to_pandas()
    evaluation = Evaluation.read(root)
    scored = pd.DataFrame([{"path": one.path, "dice": one.dice, "group": one.group} for one in evaluation.per_image])
    scores = rows[rows["split"] == "test"].merge(scored, on="path", validate="one_to_one")
    return Known(Predictor.load(root), rows, scores)


def described(predictor: Predictor, images: LabelledImages, *, in_grey: bool) -> pd.DataFrame:
    """A row an image, as the log would hold it, and its true Dice."""
    rows = []
    for image in images:
        rgb = grey(image.rgb) if in_grey else image.rgb
        told = predictor.predict(rgb)
        rows.append(
            {**told.descriptors, **told.prediction_descriptors, "embedding": told.embedding}
            | {"path": image.path, "dice": dice(told.mask, image.mask)}
        )
    return pd.DataFrame(rows)


def ask(known: Known, kind: str, partition: int, windows: int, live: pd.DataFrame | None = None) -> Iterator[Asked]:
    """Windows of a version's own unseen images, or of others.

    Args:
        live: others; None takes those test images that the estimate does not know.
    """
    rng = np.random.default_rng((partition, 1))
    few = min(KNOWN, len(known.scores) // 2)
    for number in range(windows):
        order = rng.permutation(len(known.scores))
        own, others = known.scores.iloc[order[:few]], known.scores.iloc[order[few:]]
        pool = others if live is None else live
        window = pool.iloc[rng.choice(len(pool), min(WINDOW, len(pool)), replace=False)]
        not_test = known.rows[known.rows["split"] != "test"]
        reference = pd.concat([not_test, own[list(known.rows.columns)]], ignore_index=True)
        yield _ask(kind, partition, reference, own, window, number)


def _ask(
    kind: str, partition: int, reference: pd.DataFrame, own: pd.DataFrame, window: pd.DataFrame, seed: int
) -> Asked:
    families, _ = make_families(reference, window.drop(columns="path"), min_live=10)
    drifted = judge(families, Rule(seed=seed)).verdict == "drift"
    space = ReferenceSpace(from_lists(reference["embedding"]))
    confidence = window["confidence"].to_numpy(np.float64)
    groups = tuple(None if group is None else str(group) for group in own["group"])
    told = HeldOutScores(own["confidence"].to_numpy(np.float64), own["dice"].to_numpy(np.float64), groups)
    found: Estimate = estimate_window(confidence, told, drifted=drifted, far_share=far_share(window, space), seed=seed)
    true = window["dice"].to_numpy(np.float64)
    low, high = image_intervals(confidence, told)
    return Asked(
        kind,
        partition,
        float(true.mean()),
        found.dice,
        found.low,
        found.high,
        found.declined,
        drifted,
        own_error=float(np.abs(true - confidence).mean()),
        constant_error=float(np.abs(true - np.median(told.dice)).mean()),
        held=float(((low <= true) & (true <= high)).mean()),
    )


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folder with a slice `modality`; empty: drawn images, without drift")
    parser.add_argument("--partitions", type=int, default=3, help="of the data set, a version each")
    parser.add_argument("--windows", type=int, default=600, help="of each version")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    parser.add_argument("--keep", type=Path, help="keep the versions in this folder, and take those that it holds")
    parser.add_argument("--json", type=Path, help="write a line a window to this file")
    parser.add_argument("--smoke", action="store_true", help="one version, a few windows; proves nothing")
    options = parser.parse_args(given)
    if options.smoke:
        options.data, options.partitions, options.windows, options.width, options.steps = "", 1, 3, 4, 4
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        asked = list(_measure(options, options.keep or Path(folder), console))
    if options.json is not None:
        options.json.write_text("".join(json.dumps(asdict(one)) + "\n" for one in asked), encoding="utf-8")
    return 0 if _print(console, asked) or options.smoke else 1


def _measure(options: argparse.Namespace, folder: Path, console: Console) -> Iterator[Asked]:
    data = prepare_data(options.data or str(_drawn()))
    settings = FitSettings.checked(width=options.width, classes=data.classes, max_steps=options.steps)
    for number in range(options.partitions):
        seeded = settings.model_copy(update={"seed": number})
        known = make_known(divided(data, number), seeded, folder / f"partition {number}", console)
        with progress_bar(Console(stderr=True), f"windows of partition {number}", options.windows) as advance:
            for one in ask(known, UNCHANGED, number, options.windows):
                advance(1)
                yield one
    if not options.data:
        return
    home = divided(prepare_data(options.data, HOME), options.partitions)
    known = make_known(home, settings, folder / "one modality", console)
    away = prepare_data(options.data, AWAY)
    images = LabelledImages(away.dataset.samples)
    for kind, in_grey in (("histology", False), ("grey histology", True)):
        live = described(known.predictor, images, in_grey=in_grey)
        yield from ask(known, kind, options.partitions, options.windows // 4, live)


def _drawn() -> Path:
    folder = RecordsSettings.load().home / "data" / "few"
    generate(folder, 60, 0, Knobs(size=(64, 96)))
    return folder


def _print(console: Console, asked: Sequence[Asked]) -> bool:
    table = Table(
        "windows", "of", "declined", "true Dice", "mean abs. error", "in the 90 % interval", "an image: error"
    )
    table.add_column("in its 90 % interval")
    table.title = f"estimated against true Dice, windows of {WINDOW}"
    good = True
    for kind in dict.fromkeys(one.kind for one in asked):
        for partition in [*dict.fromkeys(one.partition for one in asked if one.kind == kind), None]:
            mine = [one for one in asked if one.kind == kind and partition in (None, one.partition)]
            if partition is None and len({one.partition for one in mine}) == 1:
                continue
            answered = [one for one in mine if one.declined is None]
            row, fine = _row(mine, answered, kind == UNCHANGED)
            table.add_row(kind, "all" if partition is None else str(partition), *row)
            if partition is None or kind != UNCHANGED:
                good &= fine
    console.print(table)
    return good


def _row(mine: Sequence[Asked], answered: Sequence[Asked], at_home: bool) -> tuple[list[str], bool]:
    true = np.array([one.true for one in mine])
    cells = [f"{1 - len(answered) / len(mine):.1%} of {len(mine)}", f"{true.mean():.4f}"]
    own, constant = (float(np.mean([getattr(one, name) for one in mine])) for name in ("own_error", "constant_error"))
    held = float(np.mean([one.held for one in mine]))
    if not answered:
        return [*cells, "", "", f"{own:.4f}", f"{held:.1%}"], True
    error = float(np.mean([abs(one.dice - one.true) for one in answered]))
    covered = float(np.mean([one.covered for one in answered]))
    better = 1 - own / constant
    if not at_home:
        fine = sum(one.low > one.true for one in answered)
        cells += [f"{error:.4f}", f"{covered:.1%}; said to be better than it is: {fine}", f"{own:.4f}", f"{held:.1%}"]
        return cells, not fine
    kept = error <= MOST_ERROR, _covers(covered), better >= BETTER_BY, _covers(held)
    cells += [
        f"{error:.4f} {_mark(kept[0])}",
        f"{covered:.1%} {_mark(kept[1])}",
        f"{own:.4f}, a constant's {constant:.4f}: {better:.0%} better {_mark(kept[2])}",
        f"{held:.1%} {_mark(kept[3])}",
    ]
    return cells, all(kept)


def _covers(share: float) -> bool:
    return COVERED[0] <= share <= COVERED[1]


def _mark(held: bool) -> str:
    return "✓" if held else "✗"


if __name__ == "__main__":
    sys.exit(main())

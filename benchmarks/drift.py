"""How often a window is called drift: false alarms at every size of window, and small changes that are found.

    python -m benchmarks.drift --data ../shared/data/nuclei --windows 200 --json drift.jsonl
    python -m benchmarks.drift --data ../shared/data/nuclei --only detection
    python -m benchmarks.drift --smoke

A window is judged as in a report: its images beside training images, its predictions and embeddings beside those of
held-out ones, at an alpha of 0.01 for both. It holds images that neither reference does, and all are predicted by a
version that was trained on none of them. Windows of up to 50 are of real images, larger ones of drawn ones; each split
of the images into references and others is new, and has ten windows. The rules on input quality, which count faulty
images and test nothing, are not part of it. The interval of a rate takes the split for its
unit, since the windows of one share their references. Beside ours, on the descriptors of the same images: Evidently's
default preset, by its own rule (half of the columns drifted) and by "any column", on one window in `--evidently`, since
it takes a second. Counts are kept a line a split in the file of `--json`, and added to what it holds.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from benchmarks.drift_images import CHANGES, INPUT, PLAIN, Rows, draw_described, families, grey, read_described
from benchmarks.engine import copy_or_make
from monitoring.drift import Rule
from monitoring.judge import judge
from pipelines.progress import progress_bar
from pipelines.version.export import tile_spec
from resunet.descriptors import IMAGE_DESCRIPTORS
from serving.predictor import Predictor

# Images of the two references, of drawn images and of the 466 real ones: a data set's training and held-out part.
TRAINING: Final = 340
HELD_OUT: Final = 150
REAL_TRAINING: Final = 290
REAL_HELD_OUT: Final = 80
SIZES: Final = (20, 50, 200, 1_000, 10_000)
REAL_UP_TO: Final = 50
PER_SPLIT: Final = 10
MOST_FALSE: Final = 0.015
OTHERS: Final = "10 % of another modality"
HISTOLOGY: Final = "grey histology"
DRAWN: Final = 14_000
DRAWN_SMOKE: Final = 120


@dataclass
class Counted:
    """The windows of one split: how many of them were called drift, by whom."""

    kind: str
    size: int
    split: int
    windows: int = 0
    ours: int = 0
    seen_by_evidently: int = 0
    half: int = 0
    any_column: int = 0
    tests: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """A pool of images divided at random.

    Attributes:
        training, held_out: (N, WIDTH), the two references.
        others: places in the pool of all that are in neither.
    """

    training: Rows
    held_out: Rows
    others: NDArray[np.int64]

    @classmethod
    def draw(cls, rng: np.random.Generator, pool: Rows, training: int, held_out: int) -> "Split":
        """So many images for each reference."""
        order = rng.permutation(len(pool))
        ends = training, training + held_out
        return cls(pool[order[: ends[0]]], pool[order[ends[0] : ends[1]]], order[ends[1] :])


def judge_window(split: Split, window: Rows, counted: Counted, evidently: bool, seed: int) -> None:
    """Ask ours, and where wanted Evidently's preset, and count."""
    drift = judge(families(split.training, split.held_out, window), Rule(seed=seed))
    counted.windows += 1
    counted.ours += drift.verdict == "drift"
    for test in drift.alarms:
        name = f"{test.name} ({test.side})"
        counted.tests[name] = counted.tests.get(name, 0) + 1
    if evidently:
        share = _evidently_share(split.training[:, INPUT], window[:, INPUT])
        counted.seen_by_evidently += 1
        counted.half += share >= 0.5
        counted.any_column += share > 0


def _evidently_share(reference: Rows, window: Rows) -> float:
    import warnings

    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = (pd.DataFrame(rows, columns=list(IMAGE_DESCRIPTORS)) for rows in (window, reference))
        result: dict[str, Any] = Report([DataDriftPreset()]).run(*both).dict()
    return float(next(m["value"]["share"] for m in result["metrics"] if "share" in str(m["value"])))


def false_alarms(
    pool: Rows, size: int, splits: Sequence[int], references: tuple[int, int], evidently_every: int
) -> Iterator[Counted]:
    """Windows of images like those of the references, and none of them."""
    for number in splits:
        rng = np.random.default_rng((number, size))
        split = Split.draw(rng, pool, *references)
        counted = Counted("false alarms", size, number)
        for place in range(PER_SPLIT):
            window = pool[rng.choice(split.others, size, replace=size > len(split.others))]
            judge_window(split, window, counted, _due(number, place, evidently_every), place)
        yield counted


def detections(
    fluorescence: dict[str, Rows], others: Rows, histology: Rows, size: int, splits: Sequence[int], evidently_every: int
) -> Iterator[Counted]:
    """Windows of unseen images that were changed, or of another kind; one of each kind a split."""
    for number in splits:
        rng = np.random.default_rng((number, size))
        split = Split.draw(rng, fluorescence[PLAIN], REAL_TRAINING, REAL_HELD_OUT)
        chosen = rng.choice(split.others, size, replace=False)
        few = max(1, round(size / 10))
        windows = {name: fluorescence[name][chosen] for name in CHANGES}
        windows[HISTOLOGY] = histology[rng.choice(len(histology), size, replace=False)]
        strange = others[rng.choice(len(others), few, replace=False)]
        windows[OTHERS] = np.concatenate([fluorescence[PLAIN][chosen[few:]], strange])
        for name, window in windows.items():
            counted = Counted(name, size, number)
            judge_window(split, window, counted, _due(number, 0, evidently_every), number)
            yield counted


def _due(split: int, number: int, every: int) -> bool:
    return bool(every) and (split * PER_SPLIT + number) % every == 0


def upper_bound(counts: Sequence[Counted]) -> float:
    """95 % upper bound of the rate over splits: the mean of theirs, and Student's t times its standard error.

    Where no window was called drift, the bound of so many independent splits (Hanley & Lippman-Hand 1983).
    """
    rates = np.array([one.ours / one.windows for one in counts])
    if not rates.any():
        return float(1 - 0.05 ** (1 / len(rates)))
    if len(rates) < 2:
        return 1.0
    return float(rates.mean() + student.ppf(0.95, len(rates) - 1) * rates.std(ddof=1) / np.sqrt(len(rates)))


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real images; without it only drawn ones")
    parser.add_argument("--windows", type=int, default=200, help="of each size, to add to what the file holds")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--only", choices=["alarms", "detection"])
    parser.add_argument("--json", type=Path, help="keep counts in this file")
    parser.add_argument("--evidently", type=int, default=20, help="ask Evidently of one window in so many; 0: never")
    parser.add_argument("--version", type=Path, help="a version that `benchmarks.engine --keep` made")
    parser.add_argument("--smoke", action="store_true", help="two windows; proves nothing")
    options = parser.parse_args(given)
    if options.smoke:
        options.windows, options.sizes, options.data = PER_SPLIT, [20], None
    held = _held(options.json)
    with tempfile.TemporaryDirectory() as folder:
        made = copy_or_make(Path(folder) / "version", options.version, smoke=options.smoke)
        # Some of the real images are larger than what it was made for.
        made.spec.model_copy(update={"tile": tile_spec(made.network)}).write(made.root)
        counts = held + list(_measure(options, held, Predictor.load(made.root)))
    return 0 if _print(Console(), counts) or options.smoke else 1


def _measure(options: argparse.Namespace, held: Sequence[Counted], predictor: Predictor) -> Iterator[Counted]:
    every = 0 if options.smoke else options.evidently
    fluorescence = "fluorescence", CHANGES if options.only != "alarms" else {}
    real = None if options.data is None else read_described(options.data, *fluorescence, predictor)
    work: list[tuple[str, Iterator[Counted], int]] = []
    if options.only != "detection":
        needed = real is None or max(options.sizes) > REAL_UP_TO
        pool = draw_described(DRAWN_SMOKE if options.smoke else DRAWN, 0, predictor) if needed else None
        for size in options.sizes:
            splits = _next(held, "false alarms", size, max(1, options.windows // PER_SPLIT))
            if real is not None and size <= REAL_UP_TO:
                counted = false_alarms(real[PLAIN], size, splits, (REAL_TRAINING, REAL_HELD_OUT), every)
            elif pool is not None:
                references = (len(pool) // 2, len(pool) // 5) if options.smoke else (TRAINING, HELD_OUT)
                counted = false_alarms(pool, size, splits, references, every)
            work.append((f"alarms {size}", counted, len(splits)))
    if options.only != "alarms" and real is not None:
        others = read_described(options.data, "not fluorescence", {"grey": grey}, predictor)["grey"]
        histology = read_described(options.data, "histology", {"grey": grey}, predictor)["grey"]
        for size in (20, 50):
            splits = _next(held, HISTOLOGY, size, max(1, options.windows // 2))
            found = detections(real, others, histology, size, splits, every and max(1, every // PER_SPLIT))
            work.append((f"detection {size}", found, len(splits) * (len(CHANGES) + 2)))
    for name, counted, total in work:
        with progress_bar(Console(stderr=True), name, total) as advance:
            for one in counted:
                if options.json is not None:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
                advance(1)
                yield one


def _held(path: Path | None) -> list[Counted]:
    if path is None or not path.is_file():
        return []
    return [Counted(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def _next(held: Sequence[Counted], kind: str, size: int, count: int) -> range:
    known = [one.split for one in held if (one.kind, one.size) == (kind, size)]
    first = max(known, default=-1) + 1
    return range(first, first + count)


def _print(console: Console, counts: Sequence[Counted]) -> bool:
    table = Table("", "n", "windows", "ours", "must be", "Evidently, half", "Evidently, any column", "seen by")
    reached = True
    for kind, size in dict.fromkeys((one.kind, one.size) for one in counts):
        mine = [one for one in counts if (one.kind, one.size) == (kind, size)]
        windows, ours = sum(one.windows for one in mine), sum(one.ours for one in mine)
        theirs = sum(one.seen_by_evidently for one in mine)
        found = f"{ours / windows:.2%}"
        must = ""
        if kind == "false alarms":
            bound = upper_bound(mine)
            found, must = f"{found} (at most {bound:.2%})", f"at most ≤ {MOST_FALSE:.1%} {_mark(bound <= MOST_FALSE)}"
            reached &= bound <= MOST_FALSE
        elif size == 50:
            needed = 0.99 if kind == HISTOLOGY else 0.9
            must = f"≥ {needed:.0%} {_mark(ours / windows >= needed)}"
            reached &= ours / windows >= needed
        peer = [
            f"{sum(getattr(one, name) for one in mine) / theirs:.0%} of {theirs}" if theirs else ""
            for name in ("half", "any_column")
        ]
        tests: dict[str, int] = {}
        for one in mine:
            for name, number in one.tests.items():
                tests[name] = tests.get(name, 0) + number
        table.add_row(
            kind, f"{size:,}", f"{windows:,}", found, must, *peer, ", ".join(f"{a} {b}" for a, b in tests.items())
        )
    console.print(table)
    return reached


def _mark(held: bool) -> str:
    return "✓" if held else "✗"


if __name__ == "__main__":
    sys.exit(main())

"""How often a window is called drift: false alarms at every size of window, and small changes that are found.

    python -m benchmarks.drift --data ../shared/data/nuclei --windows 200 --json drift.jsonl
    python -m benchmarks.drift --data ../shared/data/nuclei --only detection
    python -m benchmarks.drift --smoke

Windows hold images that the reference does not. Windows of up to 50 are of real images, larger ones of drawn ones; each
split of the images into reference (340) and others is new, and has ten windows. The interval of a rate takes the split
for its unit, since the windows of one share their reference. Beside ours, on the same windows: Evidently's default
preset, by its own rule (half of the columns drifted) and by "any column", on every twentieth window, since it takes a
second. Counts are kept a line a split in the file of `--json`, and added to what it holds.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from benchmarks.drift_images import CHANGES, PLAIN, Rows, draw_described, grey, read_described
from monitoring.drift import Family, Rule
from monitoring.judge import judge
from pipelines.progress import progress_bar
from resunet.descriptors import IMAGE_DESCRIPTORS

REFERENCE: Final = 340
SIZES: Final = (20, 50, 200, 1_000, 10_000)
REAL_UP_TO: Final = 50
PER_SPLIT: Final = 10
MOST_FALSE: Final = 0.015
OTHERS: Final = "10 % of another modality"
HISTOLOGY: Final = "grey histology"
DRAWN: Final = 14_000


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


def judge_window(reference: Rows, window: Rows, counted: Counted, evidently: bool, seed: int) -> None:
    """Ask ours, and where wanted Evidently's preset, and count."""
    # Half of alpha, as in a report, where predictions have the other half.
    drift = judge([Family("input", IMAGE_DESCRIPTORS, reference, window)], Rule(alpha=0.005, seed=seed))
    counted.windows += 1
    counted.ours += drift.verdict == "drift"
    for test in drift.alarms:
        counted.tests[test.name] = counted.tests.get(test.name, 0) + 1
    if evidently:
        share = _evidently_share(reference, window)
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
    pool: Rows, size: int, splits: Sequence[int], reference: int, evidently_every: int
) -> Iterator[Counted]:
    """Windows of images like those of the reference, and none of them."""
    for split in splits:
        rng = np.random.default_rng((split, size))
        order = rng.permutation(len(pool))
        known, others = pool[order[:reference]], pool[order[reference:]]
        counted = Counted("false alarms", size, split)
        for number in range(PER_SPLIT):
            window = others[rng.choice(len(others), size, replace=size > len(others))]
            judge_window(known, window, counted, _due(split, number, evidently_every), number)
        yield counted


def detections(
    fluorescence: dict[str, Rows], others: Rows, histology: Rows, size: int, splits: Sequence[int], evidently_every: int
) -> Iterator[Counted]:
    """Windows of unseen images that were changed, or of another kind; one of each kind a split."""
    for split in splits:
        rng = np.random.default_rng((split, size))
        order = rng.permutation(len(fluorescence[PLAIN]))
        known, unseen = order[:REFERENCE], order[REFERENCE:]
        reference = fluorescence[PLAIN][known]
        chosen = rng.choice(unseen, size, replace=False)
        few = max(1, round(size / 10))
        windows = {name: fluorescence[name][chosen] for name in CHANGES}
        windows[HISTOLOGY] = histology[rng.choice(len(histology), size, replace=False)]
        strange = others[rng.choice(len(others), few, replace=False)]
        windows[OTHERS] = np.concatenate([fluorescence[PLAIN][chosen[few:]], strange])
        for name, window in windows.items():
            counted = Counted(name, size, split)
            judge_window(reference, window, counted, _due(split, 0, evidently_every), split)
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
    parser.add_argument("--smoke", action="store_true", help="two windows; proves nothing")
    options = parser.parse_args(given)
    if options.smoke:
        options.windows, options.sizes, options.data, drawn = PER_SPLIT, [20], None, 400
    else:
        drawn = DRAWN
    held = _held(options.json)
    fresh = list(_measure(options, held, drawn))
    counts = held + fresh
    return 0 if _print(Console(), counts) or options.smoke else 1


def _measure(options: argparse.Namespace, held: Sequence[Counted], drawn: int) -> Iterator[Counted]:
    every = 0 if options.smoke else 20
    real = None if options.data is None else read_described(options.data, "fluorescence", CHANGES)
    work: list[tuple[str, Iterator[Counted], int]] = []
    if options.only != "detection":
        pool = draw_described(drawn, 0) if real is None or max(options.sizes) > REAL_UP_TO else None
        for size in options.sizes:
            images = real[PLAIN] if real is not None and size <= REAL_UP_TO else pool
            if images is None:
                continue
            splits = _next(held, "false alarms", size, max(1, options.windows // PER_SPLIT))
            reference = min(REFERENCE, len(images) // 2)
            work.append((f"alarms {size}", false_alarms(images, size, splits, reference, every), len(splits)))
    if options.only != "alarms" and real is not None:
        others = read_described(options.data, "not fluorescence", {"grey": grey})["grey"]
        histology = read_described(options.data, "histology", {"grey": grey})["grey"]
        for size in (20, 50):
            splits = _next(held, HISTOLOGY, size, max(1, options.windows // 2))
            found = detections(real, others, histology, size, splits, every // PER_SPLIT)
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

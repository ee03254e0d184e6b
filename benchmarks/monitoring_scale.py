"""What a report asks of 1,000,000 rows in PostgreSQL, against Evidently's DataDriftPreset on the same rows.

    python -m benchmarks.monitoring_scale                       # 3 rounds, about 10 minutes, 2 GB of disk
    python -m benchmarks.monitoring_scale --ten-times           # and once 10,000,000 rows, ours only: 15 GB of disk
    python -m benchmarks.monitoring_scale --only-memory         # ours only, at both: no peer, no times to believe
    python -m benchmarks.monitoring_scale --smoke

Both sides are fresh processes, in turn: they read 20 descriptors of a window of 24 hours that begins and ends within an
hour, and 10,000 reference rows, from one database. Ours is all that a report's verdict takes (`monitoring.compare`):
counts, exact means, copies of images, a sample, the tests of descriptors and embeddings. The peer reads all rows into a
frame and runs the preset. Neither makes a page. Time is that of the work, without imports; memory is the peak of the
whole process (VmHWM). Exits 1 where ours is not 10 times as fast, or above 500 MB.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from benchmarks.monitoring_log import COLUMNS, REFERENCE, VERSION, WINDOW, fill
from benchmarks.postgres import database
from benchmarks.rounds import interleave, ratios, spread
from monitoring.window import Window
from records.engines import make_engine

ROWS: Final = 1_000_000
SAMPLE: Final = 10_000
# Of the reference's images.
TRAINED: Final = 0.7
LEAST_RATIO: Final = 10.0
MOST_MB: Final = 500.0
MOST_GROWTH: Final = 1.2
OURS: Final = "ours"
PEER: Final = "DataDriftPreset"
_ROUTES: Final = ("production", "canary", "shadow")


def report(engine: Engine) -> Callable[[], int]:
    """What a report of this platform computes; returns rows."""
    from monitoring.answer import Question
    from monitoring.compare import compare
    from monitoring.sampling import sample_rows
    from monitoring.streams import read_stream
    from resunet.descriptors import PREDICTION_DESCRIPTORS

    question = Question(VERSION, WINDOW, _ROUTES, sample_rows=SAMPLE)

    def run() -> int:
        known = sample_rows(
            engine, VERSION, REFERENCE, routes=_ROUTES, columns=(*COLUMNS, "embedding"), limit=SAMPLE, seed=0
        )
        reference = known.assign(split=np.where(np.arange(len(known)) < TRAINED * len(known), "train", "test"))
        # As of a version: what it made of the images that it was trained on is not in its reference.
        reference.loc[reference["split"] == "train", list(PREDICTION_DESCRIPTORS)] = np.nan
        reference["embedding"] = known["embedding"].map(lambda one: np.frombuffer(one, "<f4"))
        stream = read_stream(engine, VERSION.name, WINDOW)
        found = compare(question, engine, stream, reference)
        assert {column.column for column in found.drift.columns} == set(COLUMNS)
        return stream.counts(VERSION, _ROUTES).compared

    return run


def preset(engine: Engine) -> Callable[[], int]:
    """The peer's part; returns rows."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    from records.window import read_window

    definition = DataDefinition(numerical_columns=list(COLUMNS))

    def read(window: Window) -> pd.DataFrame:
        chunks = read_window(engine, window.start, window.end, VERSION.name, VERSION.version, columns=COLUMNS)
        return pd.concat(list(chunks), ignore_index=True)

    def run() -> int:
        reference, current = read(REFERENCE), read(WINDOW)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sides = (Dataset.from_pandas(frame, definition) for frame in (current, reference))
            assert len(Report([DataDriftPreset()]).run(*sides).dict()["metrics"]) > len(COLUMNS)
        return len(current)

    return run


def side(name: str, url: str) -> dict[str, float]:
    """One side, in this process: rows, seconds and the peak of memory in MB."""
    engine = make_engine(url)
    run = (report if name == OURS else preset)(engine)
    with engine.connect():
        pass
    began = time.perf_counter()
    rows = run()
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    engine.dispose()
    return {"rows": rows, "seconds": seconds, "mb": peak * 1024 / 1e6}


def measured(name: str, url: str, rows: int) -> dict[str, float]:
    """The same of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.monitoring_scale", "--side", name, "--url", url]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert told["rows"] == rows
    return told


def compare(
    url: str, rows: int, rounds: int, console: Console, measure: Callable[[str, str, int], dict[str, float]]
) -> tuple[bool, float]:
    """Measure both sides in turn, print a table, and tell whether the figures hold and our memory in MB."""
    memory: dict[str, list[float]] = {OURS: [], PEER: []}

    def timed(name: str) -> Callable[[], float]:
        def call() -> float:
            told = measure(name, url, rows)
            memory[name].append(told["mb"])
            return told["seconds"]

        return call

    seconds = interleave({name: timed(name) for name in memory}, rounds)
    faster = ratios(seconds, PEER, OURS)
    ours_mb = max(memory[OURS])
    fast, small = statistics.median(faster) >= LEAST_RATIO, ours_mb <= MOST_MB
    title = f"{rows:,} rows x {len(COLUMNS)} columns from PostgreSQL, {rounds} rounds"
    table = Table("", "seconds, median (smallest … largest)", "peak of memory, MB", "must be", title=title)
    limit = f"≤ {MOST_MB:.0f} MB {'✓' if small else '✗'}"
    table.add_row(OURS, spread(seconds[OURS]), spread(memory[OURS], 0), limit)
    table.add_row(PEER, spread(seconds[PEER]), spread(memory[PEER], 0), "")
    least = f"≥ {LEAST_RATIO:.0f} × {'✓' if fast else '✗'}"
    table.add_row(f"{PEER} / {OURS}", f"{spread(faster, 1)} ×", f"{spread(ratios(memory, PEER, OURS), 1)} ×", least)
    console.print(table)
    return fast and small, statistics.median(memory[OURS])


def filled(url: str, rows: int, console: Console) -> None:
    """Fill the log, and sum it up as the first report on rows of a release without sketches does."""
    from records.sketch_hours import refresh

    fill(url, rows)
    engine = make_engine(url)
    began = time.perf_counter()
    hours = refresh(engine, VERSION.name, WINDOW.start - timedelta(hours=1), WINDOW.end)
    seconds = time.perf_counter() - began
    console.print(f"{rows:,} rows without sketches: summed up once, {hours} hours in {seconds:.1f} s")
    engine.dispose()


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print tables, and say whether the figures hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    parser.add_argument("--ten-times", action="store_true", help="also the memory of ours at ten times the rows")
    parser.add_argument("--only-memory", action="store_true", help="memory of ours alone, at both numbers of rows")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the window")
    parser.add_argument("--side", choices=(OURS, PEER), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.side:
        print(json.dumps(side(options.side, options.url)))
        return 0
    console = Console()
    rows, rounds = (2_000, 1) if options.smoke else (options.rows, 3)
    with database() as url:
        filled(url, rows, console)
        # A fresh process each takes a while to start: a smoke run goes without.
        measure = (lambda name, url, _: side(name, url)) if options.smoke else measured
        if options.only_memory:
            held, small = True, measure(OURS, url, rows)["mb"]
        else:
            held, small = compare(url, rows, rounds, console, measure)
    if options.ten_times or options.only_memory:
        with database() as url:
            filled(url, 10 * rows, console)
            told = measured(OURS, url, 10 * rows)
        grown = told["mb"] / small
        held = held and grown <= MOST_GROWTH
        mark = "✓" if grown <= MOST_GROWTH else "✗"
        console.print(
            f"{10 * rows:,} rows: {told['seconds']:.2f} s, {told['mb']:.0f} MB: {grown:.2f} x the memory of {rows:,} "
            f"(must be ≤ {MOST_GROWTH:g} x {mark})"
        )
    return 0 if held or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())

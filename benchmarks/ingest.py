"""Rows a second from the spool to the database, the whole way: `Drain.run` on segments as the gateway writes them.

    python -m benchmarks.ingest            # 5 rounds of 10,000 rows, some minutes
    python -m benchmarks.ingest --smoke    # 1 round of 300 rows

Each row has all descriptors, an embedding, client and slice, and is counted into the sketches of its hour. Once more,
a quarter as many, with a mask each, of 256x256 pixels with 30 discs in it: a file that is brought to the disk.
Appending to the spool is not measured. PostgreSQL runs on this machine, beside the drain. Exits 1 where a median is
below what it must be.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import delete, func, select

from benchmarks.postgres import database
from benchmarks.rounds import arguments, interleave, spread
from records import sketches
from records.drain import Drain
from records.log_database import open_log
from records.rows import PredictionRow, to_record
from records.schema import predictions
from records.spool import Spool
from records.stores import Stores
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.masks import to_rle

MUST_BE: Final = {"PostgreSQL": 3000.0, "SQLite": 5000.0}
_MASKS: Final = 64
_DISCS: Final = 30


def lines(count: int, masks: bool) -> list[bytes]:
    """Records of a gateway that answers 100 images a second."""
    rng = np.random.default_rng(0)
    drawn = [_mask(rng) for _ in range(_MASKS)]
    start = datetime(2026, 3, 1, 9, tzinfo=UTC)
    return [
        to_record(
            PredictionRow(
                request_id=f"request-{number}",
                event_time=start + timedelta(milliseconds=10 * number),
                model_name="resunet",
                model_version="3",
                model_digest="sha256:" + "a" * 64,
                route="production",
                client="lab-7",
                slice=f"modality={number % 3}",
                engine="openvino",
                image_digest=f"sha256:{number:064x}",
                threshold=0.5,
                latency_ms=float(rng.lognormal(3, 0.2)),
                width=256,
                height=256,
                descriptors=dict(zip(IMAGE_DESCRIPTORS, rng.random(len(IMAGE_DESCRIPTORS)), strict=True)),
                prediction_descriptors=dict(zip(PREDICTION_DESCRIPTORS, rng.random(4), strict=True)),
                embedding=rng.bytes(256),
                mask_rle=drawn[number % _MASKS] if masks else None,
            )
        )
        for number in range(count)
    ]


def _mask(rng: np.random.Generator) -> str:
    mask = np.zeros((256, 256), np.uint8)
    for x, y, radius in rng.integers((0, 0, 5), (256, 256, 14), size=(_DISCS, 3)):
        cv2.circle(mask, (int(x), int(y)), int(radius), 255, -1)
    return to_rle(mask)


def drained(url: str, records: Sequence[bytes], cpu: list[float]) -> Callable[[], float]:
    """Rows a second of one drain into an empty log, in a home of its own; its CPU time a row, µs, is added to `cpu`."""

    def measure() -> float:
        home = Path(tempfile.mkdtemp(prefix="resunet-ingest-"))
        engine = open_log(url)
        spool = Spool(home / "spool")
        try:
            sketches.prepare(engine)
            with engine.begin() as connection:
                connection.execute(delete(predictions))
                connection.execute(delete(sketches.sketches))
            for start in range(0, len(records), 100):
                spool.append(records[start : start + 100])
            drain = Drain(engine, spool, Stores.of(home))
            began, used = time.perf_counter(), time.process_time()
            rows = drain.run()
            seconds = time.perf_counter() - began
            cpu.append((time.process_time() - used) / rows * 1e6)
            with engine.connect() as connection:
                counted = connection.scalar(select(func.sum(sketches.sketches.c.rows)))
            assert rows == len(records) == counted
            return rows / seconds
        finally:
            spool.close()
            engine.dispose()
            shutil.rmtree(home)

    return measure


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print a table, and say whether the figures hold."""
    options = arguments(__doc__, given)
    rounds, count = (1, 300) if options.smoke else (5, 10_000)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="resunet-ingest-"))
        urls = {"PostgreSQL": stack.enter_context(database()), "SQLite": f"sqlite:///{folder}/records.db"}
        plain, masked = lines(count, masks=False), lines(count // 4, masks=True)
        kinds = {name: (url, plain) for name, url in urls.items()}
        kinds |= {f"{name}, a mask each": (url, masked) for name, url in urls.items()}
        cpu: dict[str, list[float]] = {name: [] for name in kinds}
        sides = {name: drained(url, records, cpu[name]) for name, (url, records) in kinds.items()}
        measured = interleave(sides, rounds)
    titles = ("into", "rows/s, median (smallest … largest)", "its own CPU time, µs a row", "must be")
    table = Table(*titles, title=f"{count:,} rows, {rounds} rounds")
    held = True
    for name, values in measured.items():
        least = MUST_BE.get(name)
        reached = least is None or statistics.median(values) >= least
        held = held and reached
        told = "" if least is None else f"≥ {least:,.0f} {'✓' if reached else '✗'}"
        table.add_row(name, spread(values, 0), spread(cpu[name], 0), told)
    Console().print(table)
    return 0 if held or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())

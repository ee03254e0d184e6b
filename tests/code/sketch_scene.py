"""A log with rows of every kind in it, and what its sketches hold.

log(url, tmp_path / "home", rows(200))
held(engine)            # {Key: Sketch}
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from records_rows import NOON, prediction
from sqlalchemy import Engine, delete, func, select

from records.drain import Drain
from records.engines import make_engine
from records.inference import PredictionRow
from records.rows import to_record
from records.schema import predictions
from records.sketch import Sketch
from records.sketches import KEY_COLUMNS, Key, sketches
from records.spool import Spool
from records.stores import Stores
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

START, END = NOON - timedelta(hours=2), NOON + timedelta(hours=3)


def rows(count: int, mark: str = "r", seed: int = 0, **changes: Any) -> list[PredictionRow]:
    """Answers of four hours, in no order: of two versions, every route, slices or none, some refused."""
    rng = np.random.default_rng(seed)
    made = []
    for place in range(count):
        refused = place % 7 == 3
        numbers = {name: float(rng.lognormal(2, 1)) for name in (*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS)}
        fields: dict[str, Any] = {
            "event_time": START + timedelta(seconds=float(rng.uniform(0, 4 * 3600))),
            "model_version": "34"[place % 2],
            "model_digest": "sha256:" + "ab"[place % 2],
            "route": ("production", "canary", "shadow", "batch")[place % 4],
            "slice": (None, "ward=a", "ward=b")[place % 3],
            "status": "refused" if refused else "ok",
            "latency_ms": None if place % 5 == 0 else float(rng.lognormal(3, 1)),
            "descriptors": {} if refused else {name: numbers[name] for name in IMAGE_DESCRIPTORS},
            "prediction_descriptors": {} if refused else {name: numbers[name] for name in PREDICTION_DESCRIPTORS},
            "mask_rle": None,
            "embedding": None,
        }
        made.append(prediction(f"{mark}-{place:04}", **fields | changes))
    return made


def log(url: str, home: Path, made: list[PredictionRow], drains: int = 1) -> None:
    """Log rows the whole way, through spool and drain."""
    engine = make_engine(url)
    spool = Spool(home / "spool")
    try:
        for part in range(drains):
            spool.append(to_record(row) for row in made[part::drains])
            Drain(engine, spool, Stores.of(home)).run()
    finally:
        spool.close()
        engine.dispose()


def held(engine: Engine) -> dict[Key, Sketch]:
    """The sketches as they are in the table."""
    with engine.connect() as connection:
        found = connection.execute(select(*KEY_COLUMNS, sketches.c.content)).all()
    return {Key(*row[:-1]): Sketch.from_bytes(row[-1]) for row in found}


def clear(engine: Engine) -> None:
    """Take all sketches away."""
    with engine.begin() as connection:
        connection.execute(delete(sketches))


def stored(engine: Engine) -> int:
    """Rows of the log."""
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(predictions)) or 0


def assert_same(left: dict[Key, Sketch], right: dict[Key, Sketch]) -> None:
    """The same counts, and moments but for rounding."""
    assert left.keys() == right.keys()
    for key, one in left.items():
        assert one.rows == right[key].rows
        assert (one.counts == right[key].counts).all()
        for name in ("mean", "squares", "minimum", "maximum"):
            np.testing.assert_allclose(getattr(one, name), getattr(right[key], name), rtol=1e-9, atol=1e-12)

"""Rows for the tests of `records`, and what is in a database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, select

from records import audit
from records.inference import PredictionRow
from records.log_database import open_log
from records.rows import from_record, to_record
from records.schema import predictions
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def prediction(request_id: str, /, **changes: Any) -> PredictionRow:
    """A row as serving would log it."""
    fields: dict[str, Any] = {
        "request_id": request_id,
        "event_time": NOON,
        "model_name": "resunet",
        "model_version": "3",
        "model_digest": "sha256:aa",
        "route": "production",
        "engine": "onnxruntime",
        "image_digest": "sha256:11",
        "threshold": 0.5,
        "latency_ms": 12.5,
        "width": 256,
        "height": 128,
        "descriptors": {name: index / 4 for index, name in enumerate(IMAGE_DESCRIPTORS)},
        "prediction_descriptors": dict.fromkeys(PREDICTION_DESCRIPTORS, 0.5),
        "embedding": bytes(range(256)),
        "mask_rle": '{"size":[2,2],"counts":[1,3]}',
    }
    return PredictionRow(**fields | changes)


def answer(row: PredictionRow) -> str:
    """The key of a row in the database and in the mask store."""
    return str(from_record(to_record(row))[0]["answer_id"])


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def rejected(home: Path) -> list[bytes]:
    """Lines that were set aside."""
    return [line for path in (home / "spool" / "rejected").glob("*") for line in path.read_bytes().splitlines()]


def stored_ids(url: str) -> list[str]:
    """Request ids in the table `predictions`, sorted; more than once where they are there more than once."""
    engine = open_log(url)
    with engine.connect() as connection:
        found = sorted(connection.scalars(select(predictions.c.request_id)))
    engine.dispose()
    return found


def stored_rows(url: str) -> list[Row[Any]]:
    """All predictions of a log."""
    engine = open_log(url)
    with engine.connect() as connection:
        rows = list(connection.execute(select(predictions)))
    engine.dispose()
    return rows


def decide(engine: Engine, reason: str = "better", **changes: Any) -> audit.AuditRow:
    """Append a decision."""
    fields: dict[str, Any] = {
        "action": "promote",
        "actor": "ada",
        "model_name": "resunet",
        "version": "3",
        "from_stage": "Staging",
        "to_stage": "Production",
        "digest": "sha256:aa",
        "gates": {"dice_floor": {"passed": True, "value": 0.91}},
        "reason": reason,
        "when": NOON,
    }
    return audit.append(engine, **fields | changes)

"""A week of a model of which every number is known: traffic, reports, labels, alerts and jobs, in a real log.

fill(url, home, now)
"""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from records_rows import prediction
from sketch_scene import log
from sqlalchemy import insert

from records.engines import make_engine
from records.failures import FailureCounts
from records.log_database import open_log
from records.schema import labels
from records.tables import prepare
from records.watch.alerts import TABLES, Acknowledgement, Alert, acknowledge, save
from records.watch.jobs import jobs
from records.watch.leases import acquire, finish, holding
from records.watch.reports import WindowReport, add_report

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MODEL = "resunet"


def fill(url: str, home: Path, now: datetime, *, slice: str = "ward=a", model: str = MODEL) -> None:
    """Log a week that ends now.

    Clients were answered 10 times a day by version 7, in 10 ms seven days ago and 10 ms longer each day, and three
    times an hour ago by the canary, version 8, in 200 ms; two days ago 5 of their images were refused and 6 requests
    failed. Besides there were 4 twins in the shadow, and a batch of 6. The last of four windows drifted, one had too
    few rows.
    """
    rows: list[Any] = []

    def ask(count: int, when: datetime, mark: str, latency: float | None, **more: Any) -> None:
        usual = {"model_name": model, "model_version": "7", "slice": slice, "mask_rle": None, "embedding": None}
        for number in range(count):
            fields = {"event_time": when + timedelta(seconds=number), "latency_ms": latency}
            rows.append(prediction(f"{mark}-{number}", **usual | fields | more))

    for days in range(7):
        ask(10, now - days * DAY - HOUR, f"day{days}", 10.0 * (7 - days), image_digest=f"sha256:{days}")
    ask(5, now - 2 * DAY - HOUR, "bad", None, status="refused", descriptors={}, prediction_descriptors={})
    ask(3, now - HOUR, "canary", 200.0, model_version="8", route="canary")
    ask(4, now - HOUR, "shadow", 300.0, model_version="8", route="shadow")
    ask(6, now - DAY - HOUR, "batch", 400.0, route="batch")
    log(url, home, rows)
    fail(url, {("/segment", 503): 4, ("/invocations", 500): 2}, now - 2 * DAY, model)
    _report(url, now, slice, model)
    _label(url, now, model)
    _watch(url, now, slice, model)


def fail(url: str, counted: dict[tuple[str, int], int], when: datetime, model: str = MODEL) -> None:
    """Count so many requests by route and status as failed."""
    counts, engine = FailureCounts(), make_engine(url)
    for (path, status), requests in counted.items():
        for _ in range(requests):
            counts.add(model, path, status, when)
    counts.flush(engine)
    engine.dispose()


def _report(url: str, now: datetime, slice: str, model: str) -> None:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    whole = WindowReport(
        model, "7", "abc", day - 4 * DAY, day - 3 * DAY, ("canary", "production", "shadow"), "no drift", 0.4, 10, (),
        "no drift: none of 22 descriptors moved", 0.91, 0.88, 0.94, "run1", day - 3 * DAY,
    )  # fmt: skip
    drifted = {"verdict": "drift", "p_value": 0.0004, "moved": ("brightness", "contrast"), "summary": f"drift: {slice}"}
    few = {"verdict": "too few rows", "p_value": None, "rows": 3, "summary": "too few rows"}
    nothing = {"estimated_dice": None, "estimated_low": None, "estimated_high": None}
    engine = open_log(url)
    for later, changes in enumerate(({}, few | nothing, {"p_value": 0.03}, drifted | nothing)):
        moved = {"window_start": whole.window_start + later * DAY, "window_end": whole.window_end + later * DAY}
        add_report(engine, replace(whole, **moved, **changes))
    add_report(engine, replace(whole, kind="trend", summary="no trend over 12 windows of 130 images", **nothing))
    engine.dispose()


def _label(url: str, now: datetime, model: str) -> None:
    """Two audits yesterday, one of them of an image that was labelled by a client too, and one five days ago."""
    told = [("day1-0", "audit", 0.9), ("day1-0", "client", 0.1), ("day5-0", "audit", 0.8), ("day1-1", "picked", 0.2)]
    rows = [
        {"request_id": request, "model_name": model, "model_version": "7", "source": source, "dice": dice}
        | {"label_time": now}
        for request, source, dice in told
    ]
    engine = open_log(url)
    with engine.begin() as connection:
        connection.execute(insert(labels), rows)
    engine.dispose()


def _watch(url: str, now: datetime, slice: str, model: str) -> None:
    engine = open_log(url)
    prepare(engine, *TABLES, jobs)
    usual = Alert(
        policy="input-drift", model_name=model, model_version="7", subject="windows of 1d", status="firing",
        severity="critical", summary=f"drift: {slice}", since=now - 2 * DAY, course={}, updated=now,
    )  # fmt: skip
    save(engine, usual, lambda _number: ())
    save(engine, replace(usual, policy="dice-by-labels", severity="warning", summary="seen"), lambda _number: ())
    acknowledge(engine, 2, Acknowledgement("ada", "it is known", now))
    save(engine, replace(usual, policy="refused", status="pending", summary="5 refused"), lambda _number: ())
    save(engine, replace(usual, policy="of another", model_name="other"), lambda _number: ())
    for name, outcome, due in (("report resunet 24h", "ok", now + HOUR), ("trend resunet", "exit code 2", now + HOUR)):
        lease = acquire(engine, name, "node1:7", now - HOUR, 2 * HOUR)
        assert lease is not None
        with holding(engine, lease) as connection:
            finish(connection, lease, now - HOUR, outcome=outcome, due=due)
    engine.dispose()

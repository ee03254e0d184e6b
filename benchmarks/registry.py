"""What the gates cost: decisions, `show`, `audit verify`, and an ordinary MLflow request through the guarded server.

    python -m benchmarks.registry           # 1,000 versions, 100,000 decisions; about three minutes
    python -m benchmarks.registry --smoke

Two real servers run side by side on registries of the same content: MLflow's own, and the same with the gates. They
take turns, request by request. Decisions promote two versions over each other, from stored evidence.
"""

import json
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import httpx
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, update

from benchmarks.rounds import arguments, spread
from pipelines.servers import GUARDED, tracking_server
from records import audit, evidence
from records.database import exclusive, open_database
from records.digests import write_digests
from records.ledger import audit as audit_table
from records.ledger import audit_head
from registry.evidence import VERSION_FOLDER, Evaluation, ImageScore, Interval, Lineage, Overlap
from registry.evidence.documents import SCORES
from registry.reports.opening import open_reader
from registry.reports.show import show

MODEL: Final = "many"
TEST_IMAGES: Final = 300
FILE_BYTES: Final = 5_000_000
POLICY: Final = """
format: 1
stages:
  Staging: {intact: }
  Production: {intact: , evaluated: , floor: , champion: , slices: }
"""
_LIMITS: Final = {"promote": 300.0, "show": 300.0, "verify": 5000.0, "request": 10.0}


def scores(dice: float) -> Evaluation:
    """An evaluation of this mean Dice."""
    path = "images/{:04d}.png"
    values = [dice + (0.05 if number % 2 else -0.05) for number in range(TEST_IMAGES)]
    return Evaluation(
        fingerprint="sha256:test",
        images=TEST_IMAGES,
        overall={"dice": Interval(mean=dice, low=dice - 0.01, high=dice + 0.01)},
        per_image=[
            ImageScore(path=path.format(number), dice=d, iou=d, precision=d, recall=d, boundary_f1=d, confidence=d)
            for number, d in enumerate(values)
        ],
        serving_file="model.onnx",
        precision="fp32",
        engine="onnxruntime",
    )


def register(client: MlflowClient, folder: Path, dice: float) -> str:
    """Log and register a version with a file as large as a real one's; returns its digest."""
    version = folder / VERSION_FOLDER
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(os.urandom(FILE_BYTES))
    (folder / "MLmodel").write_text("flavors: {}\n")
    scores(dice).write(version)
    digest = write_digests(folder)
    model = client.create_logged_model("0", name="model")
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    run = client.create_run("0")
    for name in ("width", "crop", "seed"):
        client.log_param(run.info.run_id, name, "16")
    client.create_model_version(MODEL, f"models:/{model.model_id}", run_id=run.info.run_id, model_id=model.model_id)
    return digest


def multiply(database: Path, versions: int) -> None:
    """Fill the registry with copies of its last version, six tags each, straight in its tables."""
    with sqlite3.connect(database) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(model_versions)")]
        chosen = ", ".join("?" if name == "version" else name for name in columns)
        names = ", ".join(columns)
        statement = f"INSERT INTO model_versions ({names}) SELECT {chosen} FROM model_versions WHERE version = 2"
        connection.executemany(statement, [(number,) for number in range(3, versions + 1)])
        tags = [row[1] for row in connection.execute("PRAGMA table_info(model_version_tags)")]
        values = {"name": MODEL, "workspace": "default", "value": "0.9"}
        rows = [
            tuple({**values, "version": number, "key": f"key {tag}"}[name] for name in tags)
            for number in range(1, versions + 1)
            for tag in range(6)
        ]
        marks = ", ".join("?" for _ in tags)
        connection.executemany(f"INSERT INTO model_version_tags ({', '.join(tags)}) VALUES ({marks})", rows)


def decide(home: Path, digests: Sequence[str]) -> None:
    """Plant the evidence that lets the two versions go over each other.

    Args:
        digests: of the two.
    """
    records = open_database(f"sqlite:///{home / 'records.db'}")
    measured = scores(0.9)
    paths = [score.path for score in measured.per_image]
    lineage = Lineage(fingerprint=measured.fingerprint, test_images=TEST_IMAGES, trained_images=1000)
    overlap = Overlap(fingerprint=measured.fingerprint, own_images=TEST_IMAGES, shared=paths)
    for digest, other in zip(digests, reversed(digests), strict=True):
        for kind, document, beside in (
            (SCORES, measured, ""),
            (lineage.kind, lineage, ""),
            (overlap.kind, overlap, other),
        ):
            evidence.keep(
                records,
                evidence.Measured(
                    version_digest=digest,
                    kind=kind,
                    content=document.model_dump_json(),
                    measured_by="benchmark",
                    measured_at=datetime.now(UTC),
                    fingerprint=measured.fingerprint,
                    champion_digest=beside,
                ),
            )
    records.dispose()


def fill_audit(database: str, rows: int) -> None:
    """Append decisions, many in a transaction; each is hashed as `audit.append` does."""
    records = open_database(database)
    first = audit.append(
        records, action="promote", actor="ada", model_name=MODEL, version="1", from_stage="None",
        to_stage="Staging", digest="sha256:0", gates={"verdicts": {"floor": {"outcome": "pass"}}}, reason="a start",
        when=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    with exclusive(records) as connection:
        last = first
        for seq in range(2, rows + 1):
            row = replace(last, seq=seq, when=last.when + timedelta(minutes=1), previous_hash=last.row_hash)
            last = replace(row, row_hash=row.content_hash())
            values = {**vars(last), "gates": json.dumps(last.gates, sort_keys=True, separators=(",", ":"))}
            connection.execute(insert(audit_table).values(**values))
            connection.execute(update(audit_head).values(seq=seq, row_hash=last.row_hash))
    records.dispose()


@contextmanager
def servers(folder: Path, versions: int) -> Iterator[tuple[str, str]]:
    """The plain and the guarded server, on registries of the same content."""
    plain, guarded, home = folder / "plain", folder / "guarded", folder / "home"
    home.mkdir()
    (home / "policy.yaml").write_text(POLICY)
    with tracking_server(plain) as url:
        client = MlflowClient(tracking_uri=url)
        client.create_registered_model(MODEL)
        digests = [register(client, folder / f"model {number}", 0.9) for number in (1, 2)]
    multiply(plain / "mlflow.db", versions)
    shutil.copytree(plain, guarded)
    decide(home, digests)
    own = {"RESUNET_HOME": str(home), "RESUNET_POLICY": str(home / "policy.yaml"), "RESUNET_DATABASE": ""}
    with tracking_server(plain) as one, tracking_server(guarded, app=GUARDED, environment=own) as other:
        yield one, other


def milliseconds(ask: Callable[[], object]) -> float:
    """Wall time; a request must be answered 200."""
    started = time.perf_counter()
    answer = ask()
    took = (time.perf_counter() - started) * 1000
    if isinstance(answer, httpx.Response) and answer.status_code != 200:
        raise RuntimeError(f"{answer.request.url} answered {answer.status_code}: {answer.text[:300]}")
    return took


def requests(http: httpx.Client, url: str, number: int, version: str) -> dict[str, Callable[[], httpx.Response]]:
    """Ordinary requests, which change nothing that the gates look at; `version` is one that there is."""
    api = f"{url}/api/2.0/mlflow"
    run = http.post(f"{api}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
    metric = {"run_id": run, "key": "loss", "value": 0.5, "timestamp": 0, "step": number}
    artifact = f"{url}/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/notes-{number}.txt"
    return {
        "get a version": lambda: http.get(f"{api}/model-versions/get", params={"name": MODEL, "version": version}),
        "get a model": lambda: http.get(f"{api}/registered-models/get", params={"name": MODEL}),
        "log a metric": lambda: http.post(f"{api}/runs/log-metric", json=metric),
        "tag a version": lambda: http.post(
            f"{api}/model-versions/set-tag", json={"name": MODEL, "version": "1", "key": "note", "value": str(number)}
        ),
        "write an artifact": lambda: http.put(artifact, content=b"x" * 10_000),
    }


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether the limits hold."""
    options = arguments(__doc__, given)
    versions, rows, rounds = (30, 300, 2) if options.smoke else (1000, 100_000, 30)
    table = Table("", "median (smallest … largest), ms", "must be", title=f"{versions} versions, {rows} decisions")
    fine = True

    def tell(what: str, times: Sequence[float], limit: float | None) -> None:
        nonlocal fine
        holds = limit is None or statistics.median(times) < limit
        fine = fine and holds
        table.add_row(what, spread(times, 1), "" if limit is None else f"< {limit:g} {'✓' if holds else '✗'}")

    with tempfile.TemporaryDirectory() as temporary, httpx.Client(timeout=60, trust_env=False) as http:
        folder = Path(temporary)
        with servers(folder, versions) as (plain, guarded):
            url = f"{guarded}/api/lifecycle"
            bodies = [{"name": MODEL, "version": str(1 + place), "stage": "Production"} for place in (0, 1)]
            asks = [partial(http.post, f"{url}/promote", json=body) for body in bodies]
            decisions = [milliseconds(asks[number % 2]) for number in range(rounds)]
            client = MlflowClient(tracking_uri=guarded, registry_uri=guarded)
            # All that the command does once Python has started, and finds out which server it talks to.
            ask_show = partial(show, client, open_reader(client), MODEL, "1")
            shown = [milliseconds(ask_show) for _ in range(rounds)]
            tell("promote, from stored evidence", decisions, _LIMITS["promote"])
            tell("show", shown, _LIMITS["show"])
            times: dict[str, tuple[list[float], list[float]]] = {}
            for number in range(rounds):
                for place, url in enumerate((plain, guarded) if number % 2 else (guarded, plain)):
                    side = place if number % 2 else 1 - place
                    for what, ask in requests(http, url, number, str(versions // 2)).items():
                        times.setdefault(what, ([], []))[side].append(milliseconds(ask))
            for what, (without, within) in times.items():
                tell(f"{what}: MLflow", without, None)
                tell(
                    f"{what}: with the gates, more",
                    [b - a for a, b in zip(without, within, strict=True)],
                    _LIMITS["request"],
                )
        database = f"sqlite:///{folder / 'audit.db'}"
        fill_audit(database, rows)
        records = open_database(database)
        verified = []
        for _ in range(1 if options.smoke else 3):
            started = time.perf_counter()
            if audit.verify(records) is not None:
                raise RuntimeError("the chain does not hold")
            verified.append((time.perf_counter() - started) * 1000)
        tell("audit verify", verified, _LIMITS["verify"])
    Console().print(table)
    return 0 if fine or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())

"""Every benchmark runs: its shortest form ends well and prints its table. What it measures is not looked at."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.version import GOLDEN_OUTPUT_FILE

ROOT = Path(__file__).resolve().parents[2]
# What the table of each must say. The slowest come first: two run at a time; and first of all whose version is used.
TOLD = {
    "engine": ("serving file:", "torch fp32 / ours", "torch bf16 / ours"),
    "dice": ("test Dice", "mean"),
    "training": ("ours", "plain fp32 loop", "images/s"),
    "serving": ("latency of 1 client", "rate of 8 clients", "mlflow.pytorch", "torch pyfunc"),
    "gateway": ("start to first answer, version cached", "bare loop, best batch", "failed or wrong", "memory after"),
    "monitoring_cost": ("without monitoring", "+ descriptors", "with / without"),
    "gateway_large": ("gateway / its tiles", "memory at most"),
    "registry": ("promote, from stored evidence", "show", "with the gates, more", "audit verify"),
    "rollout": ("false aborts", "answers of the candidate until", "whole rollouts"),
    "gates": ("worse by the margin", "true difference", "one call on 300 images"),
    "durability": ("without a row", "of 2 processes", "without the database"),
    "fuzz": ("spoilt requests", "crashes", "memory at most", "in the log"),
    "drift": ("false alarms", "Evidently, half"),
    "estimated_dice": ("mean abs. error", "90 %"),
    "monitoring_scale": ("ours", "DataDriftPreset / ours", "peak of memory"),
    "ingest": ("PostgreSQL, a mask each", "SQLite", "rows/s"),
    "descriptors": ("describe_image", "plain numpy and scipy"),
    "environment": ("mlflow-skinny==", "psycopg[binary]=="),
}
# These can measure the version that `engine` made; those that are run alone make one.
MEASURES = ("serving", "gateway", "gateway_large", "drift", "monitoring_cost")
# Two at a time beside other tests: where the processor has no bf16, some take minutes.
SECONDS = 600
pytestmark = pytest.mark.timeout(SECONDS + 60)
Done = subprocess.CompletedProcess[str]


def smoke(name: str, folder: Path, *more: str) -> Done:
    """Run a benchmark, whose temporary files then lie in `folder`."""
    folder.mkdir()
    own = {"RESUNET_HOME": str(folder / "home"), "TMPDIR": str(folder), "COLUMNS": "160"}
    own |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}  # threads that spin slow the other run down
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--smoke", *more],
        cwd=ROOT,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def runs(folder: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Done]]]:
    """The benchmarks that were asked for, two at a time."""
    asked = {item.name.partition("[")[2].rstrip("]") for item in request.session.items if item.path == request.path}
    kept, begun = folder / "made", dict[str, Future[Done]]()

    def run(name: str) -> Done:
        if name == "engine":
            return smoke(name, folder / name, "--keep", str(kept))
        if name in MEASURES and "engine" in begun:
            # It began before this one. Where it failed, its own test says so, and this one makes a version.
            begun["engine"].result()
            more = ("--version", str(kept)) if (kept / GOLDEN_OUTPUT_FILE).is_file() else ()
            return smoke(name, folder / name, *more)
        return smoke(name, folder / name)

    with ThreadPoolExecutor(2) as pool:
        for name in TOLD:
            if name in asked:
                begun[name] = pool.submit(run, name)
        yield begun


@pytest.mark.parametrize("name", TOLD)
def test_smoke_run_ends_well_and_prints_its_table(name: str, runs: dict[str, Future[Done]], folder: Path) -> None:
    done = runs[name].result()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for word in TOLD[name]:
        assert word in done.stdout
    assert not list((folder / name).glob("resunet-*"))  # what it made, it removed

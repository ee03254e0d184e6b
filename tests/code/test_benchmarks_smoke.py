"""Every benchmark runs: its shortest form ends well and prints its table. What it measures is not looked at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the table of each must say.
TOLD = {
    "descriptors": ("describe_image", "plain numpy and scipy"),
    "environment": ("mlflow-skinny==", "onnxruntime=="),
    "training": ("ours", "plain fp32 loop", "images/s"),
    "engine": ("serving file:", "torch fp32 / ours", "torch bf16 / ours"),
    "serving": ("latency of 1 client", "rate of 8 clients", "mlflow.pytorch", "torch pyfunc"),
    "dice": ("test Dice", "mean"),
}


@pytest.mark.parametrize("name", TOLD)
def test_smoke_run_ends_well_and_prints_its_table(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "RESUNET_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--smoke"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for word in TOLD[name]:
        assert word in done.stdout
    left = {path.name for path in tmp_path.iterdir()} - {"home"}
    assert not [name for name in left if name.startswith("resunet-")]

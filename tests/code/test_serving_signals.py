"""Engines that come and go leave the process as it was: a signal that is heard afterwards harms nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from version_factory import ROOT, write_graph

from serving.engine import is_installed

PROGRAM = """
import signal, sys
from pathlib import Path
from serving.engine import open_engine
heard = 0
def hear(number, frame):
    global heard
    heard += 1
signal.signal(signal.SIGUSR1, hear)
engines = [open_engine("openvino", Path(sys.argv[1]), "fp32") for _ in range(3)]
for place in (0, 1, 0):  # not the last one first
    del engines[place]
    others = [bytes(1 << 14) for _ in range(64)]
    for _ in range(20):
        signal.raise_signal(signal.SIGUSR1)
sys.exit(0 if heard == 60 else 1)
"""


@pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed")
def test_signals_are_survived_after_engines_were_dropped_in_any_order(tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

"""The process that keeps a verified copy beside its server: a signal to it ends both."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import until

HAND_OVER = """
import sys
from pathlib import Path
from serving.handover import serve
sys.exit(serve(Path("model"), []))
"""
# Takes the place of MLflow's command: it notes the signal that it gets, and ends well.
SERVER = """
import os, signal, sys, time
from pathlib import Path

def end(number, frame):
    Path("signal").write_text(str(number))
    sys.exit(0)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, end)
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_and_told_by_the_exit_code(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "mlflow.py").write_text(SERVER)
    command = [sys.executable, "-c", HAND_OVER]
    with subprocess.Popen(command, cwd=tmp_path, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            server = int(process.stdout.readline())
            process.send_signal(number)
            assert process.wait(60) == 128 + number
            until(lambda: not psutil.pid_exists(server))
            assert (tmp_path / "signal").read_text() == str(int(number))
        finally:
            process.kill()

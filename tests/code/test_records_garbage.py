"""Commands look for garbage seldom, and at their end not at all: half of their time went into that."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import gc
import typer
from records.console import run

class Garbage:
    def __del__(self):
        print("looked at")

app = typer.Typer()

@app.command()
def command():
    garbage = Garbage()
    garbage.itself = garbage
    print(gc.get_threshold()[0] >= 5000)

run(app)
"""


def test_a_command_looks_for_garbage_seldom_and_at_its_end_not_at_all() -> None:
    # Without what `tests/conftest.py` does to the processes of tests.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "True\n"), ran.stderr

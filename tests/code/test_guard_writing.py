"""A place is registered, or written to: not both at once, in one process or in several."""

import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask, g

from registry.guard.artifacts import end_flask_writes
from registry.guard.writing import registering, writing
from resunet.errors import SettingsError, StoreError

# Says that it writes, and does until its input ends.
WRITES = """
import sys
from pathlib import Path
from registry.guard.writing import writing
with writing(Path(sys.argv[1])):
    print("writes", flush=True)
    sys.stdin.read()
"""


def test_any_number_write_at_once_and_then_one_registers_after_the_other(tmp_path: Path) -> None:
    with writing(tmp_path / "new"), writing(tmp_path / "new"):
        pass
    with registering(tmp_path / "new"), pytest.raises(StoreError), registering(tmp_path / "new", 0.05):
        pass
    with registering(tmp_path / "new", 0):
        pass


def test_nothing_is_registered_while_another_process_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITES, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"writes\n"
        with pytest.raises(StoreError, match="uploads are under way"), registering(tmp_path, 0.05):
            pass
        # A process that is gone holds nothing.
        process.kill()
        process.wait()
        with registering(tmp_path, 10):
            pass


def test_whoever_writes_waits_for_a_registration_to_end(tmp_path: Path) -> None:
    order: list[str] = []

    def write() -> None:
        with writing(tmp_path):
            order.append("written")

    with registering(tmp_path):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.2)
        order.append("registered")
    thread.join(30)
    assert order == ["registered", "written"]


def test_a_stream_of_uploads_does_not_keep_a_registration_out(tmp_path: Path) -> None:
    stop = threading.Event()

    def upload() -> None:
        while not stop.is_set():
            with writing(tmp_path):
                stop.wait(0.05)

    # So many that at every instant some of them write.
    threads = [threading.Thread(target=upload, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        with registering(tmp_path, 10):
            pass
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def test_the_end_of_a_request_lets_registrations_go_on(tmp_path: Path) -> None:
    with Flask("mlflow").test_request_context("/"):
        g.resunet_writing = held = ExitStack()
        held.enter_context(writing(tmp_path))
        end_flask_writes()
        with registering(tmp_path, 0):
            pass
        end_flask_writes()


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="set RESUNET_HOME"), writing(tmp_path / "file"):
        pass

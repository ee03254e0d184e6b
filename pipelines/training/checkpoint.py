"""The file that an interrupted training goes on from: whole or not there, and in one process's hands at a time.

with claimed(path):                             # a second process is refused
    write_checkpoint(path, {"step": 8, …})
state = read_checkpoint(path, torch.device("cpu"))
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from resunet.errors import DataError, SettingsError

FORMAT = 3


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint; whatever happens, the file at `path` is the old one or the new one.

    Raises:
        DataError: it cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            # Else a machine that loses power may keep the new name and not the bytes.
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise DataError(
            f"the checkpoint {path} cannot be written; free some space or set RESUNET_HOME. The one "
            "before it, if any, is whole: resume from it"
        ) from error


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """What `write_checkpoint` was given.

    Raises:
        DataError: the file is damaged, or of another release.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch, zipfile and pickle each have words of their own for damaged bytes
        raise DataError(f"the checkpoint {path} is damaged ({type(error).__name__}); start a new run") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DataError(f"the checkpoint {path} was written by another release; resume with that one, or start anew")
    return state


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep the run of this checkpoint from every other process until the block ends.

    Raises:
        SettingsError: another process has it, or its folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{path.parent} cannot be made ({error.strerror}); set RESUNET_HOME") from error
    lock = FileLock(path.with_suffix(".lock"), timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise SettingsError(
            f"run {path.stem} is being trained by another process on this machine; wait for it, or stop it and resume"
        ) from None
    try:
        yield
    finally:
        if not path.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

"""A folder where a data set of live images lies in clear for as long as somebody works on it.

with workplace(home, "prepare") as folder:
    …                                   # for its owner alone; it is deleted at the end
clear(home)                             # what was left by processes that died
delete_files(home, answer_ids)          # `forget` takes images out also while somebody works on them
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from records.batch import LIVE_PREFIX, file_stem
from records.blobs import UndeletedError
from resunet.errors import RecordsError

FOLDER: Final = "assembled"


@contextmanager
def workplace(home: Path, purpose: str) -> Iterator[Path]:
    """An empty folder until the block is left; what dead processes left goes first.

    Args:
        purpose: the beginning of its name.

    Raises:
        RecordsError: the home cannot be written.
    """
    clear(home)
    folder = home.absolute() / FOLDER / f"{purpose}-{uuid.uuid4().hex[:12]}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock(folder)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise RecordsError(
            f"{folder.parent} cannot be written: {error.strerror}. Mend its disk or its rights"
        ) from error
    try:
        yield folder
    finally:
        _remove(folder, lock)


def clear(home: Path) -> None:
    """Delete the folders whose process is gone."""
    for folder in (home / FOLDER).glob("*"):
        if folder.suffix == ".lock" or not folder.is_dir():
            continue
        with suppress(OSError):
            _remove(folder, _lock(folder))


def delete_files(home: Path, answer_ids: Collection[str]) -> None:
    """Delete the images and masks of answers wherever a data set is put together.

    Raises:
        UndeletedError: one is there and cannot be deleted.
    """
    if not (home / FOLDER).is_dir():
        return
    stems = {file_stem(answer_id) for answer_id in answer_ids}
    for path in (home / FOLDER).rglob(f"{LIVE_PREFIX}*"):
        if path.stem in stems:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UndeletedError(f"{path} cannot be deleted: {error.strerror}. Mend its rights") from error


def _lock(folder: Path) -> int:
    """Take a folder's lock; OSError where somebody works there."""
    lock = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
    os.close(lock)

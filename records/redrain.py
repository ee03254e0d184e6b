"""Give what a database once refused another try: after an upgrade, or when its cause is mended.

    redrain(engine, Path(".resunet"))   # Redrained(stored=3, left={"the database refuses it": 1})

Reads `spool/rejected/`, a file at a time and in small batches, and takes out of it what is stored now. Safe
beside running servers, and after a crash: a row that is there already changes nothing. Nothing is deleted that
is not stored: a line that stays is a person's to mend (as bare JSON, without its checksum) or to delete.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from records.engines import explained
from records.insert import Spooled, batches, insert_rows, read_record
from records.sealing import Keyring
from records.spool import rejected_lock
from records.stores import Stores
from resunet.errors import RecordsError


@dataclass(frozen=True)
class Redrained:
    """How many records are in the database now, and how many still are not, by reason."""

    stored: int
    left: dict[str, int]


def redrain(engine: Engine, home: Path, keyring: Keyring | None = None) -> Redrained:
    """Store what can be stored of a home's rejected records.

    Args:
        engine: as `records.log_database.open_log` gives it.
        home: folder of the spool, the masks and the images.
        keyring: seals what is stored now, if it has a key.

    Raises:
        RecordsError: the database or a disk refuses; what was not stored stays where it is.
    """
    folder = home / "spool" / "rejected"
    stored, left = 0, Counter[str]()
    if not folder.is_dir():
        return Redrained(0, {})
    try:
        with explained(engine), rejected_lock(folder):
            for path in sorted(folder.glob("*.jsonl")):
                stored += _redrain_file(engine, Stores.of(home, keyring), path, left)
    except OSError as error:
        raise RecordsError(
            f"{folder} cannot be drained: {error.strerror}. Mend the disk or its rights; nothing is lost so far"
        ) from error
    return Redrained(stored, dict(left))


def _redrain_file(engine: Engine, stores: Stores, path: Path, left: Counter[str]) -> int:
    """Rewrite a file to what is refused again, or delete it, and return how many rows were stored."""
    rest, stored = path.with_suffix(".part"), 0
    with os.fdopen(os.open(rest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as kept:
        for batch in batches(_readable(path, left, kept.write)):
            refused = insert_rows(engine, stores, batch)
            kept.writelines(record + b"\n" for record in refused)
            if refused:
                left["the database refuses it"] += len(refused)
            stored += len(batch) - len(refused)
        kept.flush()
        os.fsync(kept.fileno())
    if rest.stat().st_size:
        rest.replace(path)
    else:
        path.unlink()
        rest.unlink()
    return stored


def _readable(path: Path, left: Counter[str], keep: Callable[[bytes], object]) -> Iterator[Spooled]:
    with path.open("rb") as file:
        for line in file:
            record = line.removesuffix(b"\n")
            if not record:
                continue  # a person has been here
            try:
                yield read_record(record)
            except RecordsError as error:
                left[str(error)] += 1
                keep(record + b"\n")

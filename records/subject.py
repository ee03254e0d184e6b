"""Whom to forget, and the subject's lines in a home's spool.

subject = Subject("client", "lab-7")
for path in segments(home):
    for row in rows_in(path, subject, until):
        …
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, select

from records.engines import explained
from records.insert import Spooled, read_record
from records.schema import predictions
from records.spool import read_segment
from records.texts import storable
from records.tombstones import Kind
from resunet.errors import RecordsError

_COLUMN: dict[Kind, str] = {"request": "request_id", "client": "client"}
_IMAGE_FILE = b'"image_file"'


@dataclass(frozen=True)
class Subject:
    """Whom or what to forget.

    Raises:
        RecordsError: it has no name.
    """

    kind: Kind
    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise RecordsError(f"which {self.kind} is to be forgotten? Its name is empty")

    @property
    def stored(self) -> str:
        """The id as it is in the database."""
        return storable(self.text)

    def is_of(self, values: Any, until: datetime) -> bool:
        """Whether a row is the subject's and of that time."""
        return bool(values[_COLUMN[self.kind]] == self.stored and values["event_time"] <= until)

    def where(self, until: datetime) -> list[ColumnElement[bool]]:
        """The same, of rows in the database."""
        return [predictions.c[_COLUMN[self.kind]] == self.stored, predictions.c.event_time <= until]


def clients_asked_with_keys(engine: Engine, home: Path, name: str | None, key: str | None) -> list[str]:
    """Clients as rows name them where a request came with an API key: its id, or `<id>:<what the request said>`.

    Args:
        name: that requests gave; whichever key came with them.
        key: id of a key; whatever name its requests gave.

    Raises:
        RecordsError: the database or the disk cannot be read.
    """

    def wanted(client: str | None) -> bool:
        bound, colon, said = (client or "").partition(":")
        return (key is not None and bound == key) or bool(colon and said == name)

    with explained(engine), engine.connect() as connection:
        found = set(connection.scalars(select(predictions.c.client).distinct()))
    for path in segments(home):
        with suppress(FileNotFoundError):
            rows = (readable(line) for line, intact in read_segment(path) if intact)
            found |= {row.values["client"] for row in rows if row is not None}
    return sorted(client for client in found if wanted(client))


def segments(home: Path) -> list[Path]:
    """A home's segments, of living and of dead processes."""
    return sorted((home / "spool").glob("*.jsonl"))


def rows_in(path: Path, subject: Subject, until: datetime) -> Iterator[Spooled]:
    """The subject's rows in a segment; one that is drained meanwhile is in the database."""
    with suppress(FileNotFoundError):
        for line, intact in read_segment(path):
            row = readable(line) if intact and shows(line, subject) else None
            if row is not None and subject.is_of(row.values, until):
                yield row


def shows(line: bytes, subject: Subject) -> bool:
    """Whether the subject is named in a line, readable or not."""
    key, name = json.dumps(_COLUMN[subject.kind]).encode(), json.dumps(subject.stored).encode()
    return re.search(re.escape(key) + rb"\s*:\s*" + re.escape(name), line) is not None


def readable(line: bytes) -> Spooled | None:
    """A line's row; None where this release cannot read it."""
    with suppress(RecordsError):
        return read_record(line)
    return None


def files_wanted(home: Path) -> set[str]:
    """Names of images that rows in the spool, or rejected ones, wait for."""
    wanted = set()
    for path in (*segments(home), *(home / "spool" / "rejected").glob("*.jsonl")):
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                if _IMAGE_FILE in line:
                    _, _, rest = line.partition(_IMAGE_FILE)
                    wanted.add(rest.split(b'"')[1].decode("ascii", "replace"))
    return wanted

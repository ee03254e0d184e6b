"""A log with two clients' rows, and what is left of one of them anywhere.

scene = Scene(url, tmp_path)
scene.fill()
scene.forget("client", MINE)
assert scene.traces() == []
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from records_rows import NOON, answer, prediction
from sqlalchemy import Engine, func, insert, select

from records.forget import Forgotten, forget
from records.inference import InferenceLog, PredictionRow
from records.log_database import open_log
from records.schema import labels, predictions
from records.stores import Stores
from records.subject import Subject
from records.tombstones import Kind

MINE, THEIRS = "lab-7-of-ada", "lab-8-of-bob"
LATER = NOON + timedelta(hours=1)


def mine(name: str, **changes: Any) -> PredictionRow:
    return row(MINE, f"mine-{name}", **changes)


def theirs(name: str, **changes: Any) -> PredictionRow:
    return row(THEIRS, f"theirs-{name}", **changes)


def row(client: str, request: str, **changes: Any) -> PredictionRow:
    """A row whose mask, image and slice show whose they are."""
    fields = {"client": client, "slice": f"ward={client}", "mask_rle": f"mask of {client}",
              "image": f"image of {client}".encode(), "image_digest": f"sha256:{client}"}  # fmt: skip
    return prediction(request, **fields | changes)


class Scene:
    """A database, and a home on one machine."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.home = folder / "home"

    def log(self, **options: Any) -> InferenceLog:
        options = {"keep_images": 1, "clock": lambda: NOON, "drain_interval_s": 3600} | options
        return InferenceLog.open(self.url, self.home, **options)

    def engine(self) -> Engine:
        return open_log(self.url)

    def fill(self, rows: int = 3) -> None:
        """Rows of both in the database, with masks, images and labels."""
        log = self.log()
        log.append([make(str(number)) for number in range(rows) for make in (mine, theirs)])
        log.drain_now()
        log.close()
        for make in (mine, theirs):
            self.label(make("0"))

    def label(self, row: PredictionRow) -> None:
        key = {"request_id": row.request_id, "model_name": row.model_name, "model_version": row.model_version}
        engine = self.engine()
        with engine.begin() as connection:
            connection.execute(insert(labels).values(**key, source="audit", label_time=NOON, dice=0.5))
        engine.dispose()

    def forget(self, kind: Kind = "client", text: str = MINE, until: datetime = LATER) -> Forgotten:
        engine = self.engine()
        try:
            return forget(engine, self.home, Subject(kind, text), "ada", clock=lambda: until)
        finally:
            engine.dispose()

    def traces(self, *words: str) -> list[str]:
        """Where the words, or the id and name of `mine`, are still to be read."""
        words = words or (MINE, "mine-")
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        found = [str(path.relative_to(self.folder)) for path in files if _holds(path, words)]
        return sorted(found + [text for text in self._database() if any(word in text for word in words)])

    def kept(self, row: PredictionRow) -> tuple[str | None, bytes | None]:
        stores = Stores.of(self.home)
        return stores.masks.get(answer(row)), stores.images.get(answer(row))

    def rows(self) -> list[dict[str, Any]]:
        engine = self.engine()
        with engine.connect() as connection:
            order = (predictions.c.request_id.like("forgotten-%"), predictions.c.request_id)
            found = [dict(row) for row in connection.execute(select(predictions).order_by(*order)).mappings()]
        engine.dispose()
        return found

    def labelled(self) -> list[str]:
        engine = self.engine()
        with engine.connect() as connection:
            found = list(connection.scalars(select(labels.c.request_id).order_by(labels.c.request_id)))
        engine.dispose()
        return found

    def statistics(self) -> Any:
        """What a window of an hour is summed up to."""
        engine = self.engine()
        parts = (func.count(), func.sum(predictions.c.brightness), func.sum(predictions.c.confidence))
        with engine.connect() as connection:
            found = connection.execute(select(*parts).where(predictions.c.event_time < LATER)).one()
        engine.dispose()
        return tuple(found)

    def _database(self) -> list[str]:
        """Every value of the log's tables."""
        engine = self.engine()
        with engine.connect() as connection:
            found = []
            for table in ("predictions", "labels", "sketches", "forgotten", "forgettings"):
                if engine.dialect.has_table(connection, table):
                    for values in connection.exec_driver_sql(f"SELECT * FROM {table}"):
                        found += [str(value) for value in values]
        engine.dispose()
        return found


def _holds(path: Path, words: tuple[str, ...]) -> bool:
    content = path.read_bytes()
    return any(word.encode() in content for word in words)

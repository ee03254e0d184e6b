"""Forget a request or a client: masks, images and labels go, its rows stay as anonymous numbers.

    done = forget(engine, home, Subject("client", "lab-7"), actor="ada")

What stays of a row is what statistics of a window are made of (`records.tombstones.anonymous`): were rows deleted, a
window would look as if the others had drifted. The order is such that it may be cut off anywhere, and is run again:

1. a tombstone: of what happened until now, nothing but anonymous rows are stored any more, wherever they wait;
2. rows in this home's spool, also in that of living processes: stored from here, anonymously;
3. rows in the database: first their blobs, then in one transaction rows, labels, the sums of their hours, and a
   tombstone for each answer;
4. segments of dead processes, what was rejected, and files whose row never came.

The segment of a living process is its own: a line stays in it, without effect, until that process has drained it. What
a newer release left is that release's, which looks at the tombstones too.
Blobs in the homes of other machines are deleted by the servers there (`records.upkeep`), or by this, run there.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, update

from records import sketches, tombstones
from records.drain import Drain
from records.engines import explained
from records.insert import Spooled, batches, insert_rows
from records.picks import drop_picks
from records.quarantine import drop_images
from records.rejected import take_out
from records.schema import labels, predictions
from records.sealing import Keyring
from records.spool import Spool
from records.stores import Deleted, Stores
from records.subject import Subject, files_wanted, readable, rows_in, segments, shows
from records.texts import storable
from records.tombstones import forgettings
from records.upkeep import sweep
from resunet.errors import RecordsError

# Younger files may be of a row that is being appended just now.
_LOST_AFTER = timedelta(minutes=10)


@dataclass
class Forgotten:
    """What was forgotten.

    Attributes:
        predictions: rows that were made anonymous in the database.
        waiting: rows that waited in the spool or in `rejected/`.
        held: of these, how many lines stay until a living process has drained them.
        unreadable: lines in `rejected/` that nobody can read, and that do not show the subject's id.
        trained: versions that were trained on released images of it, `resunet 7`.
    """

    predictions: int = 0
    labels: int = 0
    masks: int = 0
    images: int = 0
    waiting: int = 0
    held: int = 0
    unreadable: int = 0
    trained: set[str] = field(default_factory=set)

    def add(self, deleted: Deleted) -> None:
        self.masks += deleted.masks
        self.images += deleted.images


def survey(engine: Engine, home: Path, subject: Subject, clock: Callable[[], datetime] | None = None) -> Forgotten:
    """Count what there is to forget, and change nothing.

    Raises:
        RecordsError: the database or the disk cannot be read.
    """
    until = (clock or _now)()
    found = Forgotten()
    with explained(engine), engine.connect() as connection:
        found.predictions = connection.scalar(select(func.count()).where(*subject.where(until))) or 0
        if subject.kind == "request":
            mine = labels.c.request_id == subject.stored
            found.labels = connection.scalar(select(func.count()).select_from(labels).where(mine)) or 0
    found.waiting = sum(1 for path in segments(home) for _ in rows_in(path, subject, until))
    return found


def forget(
    engine: Engine,
    home: Path,
    subject: Subject,
    actor: str,
    keyring: Keyring | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Forgotten:
    """Forget all that happened until now; whatever is found already forgotten is passed over.

    Args:
        engine: as `records.log_database.open_log` gives it.
        home: folder of the spool, the masks and the images.
        actor: who asks for it; noted beside the time and the numbers.
        keyring: for other rows, which are drained on the way.
        clock: gives an aware time.

    Raises:
        RecordsError: the database or a disk refuses; run it again when that is mended.
    """
    try:
        with explained(engine):
            return _Forgetting(engine, home, subject, Stores.of(home, keyring), (clock or _now)()).run(actor)
    except OSError as error:
        raise RecordsError(
            f"{home} cannot be cleared: {error.strerror}. Mend its disk or its rights, and run this again"
        ) from error


class _Forgetting:
    """One run; see the module."""

    def __init__(self, engine: Engine, home: Path, subject: Subject, stores: Stores, until: datetime) -> None:
        self._engine = engine
        self._home = home
        self._subject = subject
        self._stores = stores
        self._until = until
        self._done = Forgotten()

    def run(self, actor: str) -> Forgotten:
        number = self._begin(actor)
        waiting = {path: self._settle(rows_in(path, self._subject, self._until)) for path in segments(self._home)}
        self._forget_rows()
        if (self._home / "spool").is_dir():
            self._drain_the_dead()
            self._forget_rejected()
        self._done.waiting += sum(waiting.values())
        self._done.held = sum(count for path, count in waiting.items() if path.exists())
        self._delete_lost()
        self._done.add(sweep(self._engine, self._home, self._stores))
        self._end(number)
        return self._done

    def _begin(self, actor: str) -> int:
        subject = self._subject
        with tombstones.forgetting(self._engine) as connection:
            self._salt = tombstones.prepare(connection)
            name = tombstones.digest(self._salt, subject.kind, subject.text)
            tombstones.bury(connection, subject.kind, [name], self._until)
            if subject.kind == "request":
                mine = labels.c.request_id == subject.stored
                self._done.labels += connection.execute(delete(labels).where(mine)).rowcount
            note = insert(forgettings).values(kind=subject.kind, subject=name, who=storable(actor), begun=self._until)
            number: int = connection.execute(note.returning(forgettings.c.id)).scalar_one()
        return number

    def _end(self, number: int) -> None:
        counts = {name: count for name, count in asdict(self._done).items() if name in forgettings.c}
        with self._engine.begin() as connection:
            mine = update(forgettings).where(forgettings.c.id == number)
            connection.execute(mine.values(ended=max(self._until, _now()), **counts))
        tombstones.clear_wal(self._engine)

    def _settle(self, rows: Iterable[Spooled]) -> int:
        """Store rows that wait somewhere, anonymously, and return how many they were."""
        count = 0
        for batch in batches(rows):
            values = [row.values for row in batch]
            self._done.add(self._stores.delete([one["answer_id"] for one in values]))
            with tombstones.forgetting(self._engine) as connection:
                self._bury(connection, values)
            # What the database refuses even so is not kept either.
            insert_rows(self._engine, self._stores, batch)
            count += len(batch)
        return count

    def _forget_rows(self) -> None:
        with self._engine.connect() as connection:
            query = select(predictions.c.answer_id).where(*self._subject.where(self._until))
            answers = list(connection.scalars(query))
        for part in tombstones.in_parts(answers):
            self._done.add(self._stores.delete(part))
            with tombstones.forgetting(self._engine) as connection:
                columns = ("answer_id", "request_id", "model_name", "model_version", "event_time")
                query = select(*(predictions.c[name] for name in columns))
                mine = (predictions.c.answer_id.in_(part), *self._subject.where(self._until))
                rows = [dict(row) for row in connection.execute(query.where(*mine)).mappings()]
                self._bury(connection, rows)
                _make_anonymous(connection, self._salt, rows)
                # A slice's name is in them, and of what range the slice's values were.
                sketches.drop(connection, rows)
            self._done.predictions += len(rows)

    def _bury(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Tombstones for answers and for later labels; the labels that are there go."""
        tombstones.bury(connection, "answer", [row["answer_id"] for row in rows], self._until)
        requests = [tombstones.digest(self._salt, "request", row["request_id"]) for row in rows]
        tombstones.bury(connection, "label", requests, self._until)
        self._done.labels += tombstones.drop_labels(connection, rows)
        drop_picks(connection, [row["answer_id"] for row in rows])
        self._done.trained |= drop_images(connection, [row["answer_id"] for row in rows])

    def _drain_the_dead(self) -> None:
        spool = Spool(self._home / "spool")
        try:
            Drain(self._engine, spool, self._stores).run()
        finally:
            spool.close()

    def _forget_rejected(self) -> None:
        def ours(line: bytes) -> bool:
            row, named = readable(line), shows(line, self._subject)
            if row is not None:
                named = self._subject.is_of(row.values, self._until)
                self._done.waiting += self._settle([row]) if named else 0
            elif line:
                self._done.waiting += named
                self._done.unreadable += not named
            return named

        take_out(self._home / "spool" / "rejected", ours)

    def _delete_lost(self) -> None:
        """Files whose process died between them and their row."""
        before = _now() - _LOST_AFTER
        wanted = files_wanted(self._home) if self._stores.images.incoming() else set()
        images = self._stores.images.delete_lost(wanted, before)
        masks = self._stores.masks.delete_lost((), before) + self._stores.truths.delete_lost(before)
        self._done.add(Deleted(masks, images))


def _make_anonymous(connection: Connection, salt: bytes, rows: list[dict[str, Any]]) -> None:
    """Rewrite rows; one that was stored anonymously already, from a spool, is deleted instead."""
    changed = {row["answer_id"]: tombstones.anonymous(salt, row) for row in rows}
    names = [row["answer_id"] for row in changed.values()]
    there = set(connection.scalars(select(predictions.c.answer_id).where(predictions.c.answer_id.in_(names))))
    twice = [old for old, row in changed.items() if row["answer_id"] in there]
    connection.execute(delete(predictions).where(predictions.c.answer_id.in_(twice)))
    once = [{"old": old, **row} for old, row in changed.items() if old not in twice]
    if once:
        fields = [name for name in once[0] if name != "old"]
        statement = update(predictions).where(predictions.c.answer_id == bindparam("old"))
        new = {name: bindparam(f"new_{name}", type_=predictions.c[name].type) for name in fields}
        rows = [{"old": row["old"], **{f"new_{name}": row[name] for name in fields}} for row in once]
        connection.execute(statement.values(**new), rows)


def _now() -> datetime:
    return datetime.now(UTC)

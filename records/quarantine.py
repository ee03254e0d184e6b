"""Batches of labelled live images: in quarantine until a named person releases them for training, or rejects them.

    add_batch(engine, batch)
    note_checked(engine, batch.batch_id, refusals=(), digest=batch.digest, now=now)
    decide(engine, batch.batch_id, Decision("released", "ada", "looked at each of them", now, batch.digest))
    released_batches(engine, "resunet")
    note_withdrawn(engine, batch.batch_id, Withdrawal("ada", "labels of another stain", now))

Images and masks lie in the stores of a home (`records.images`, `records.truths`; of what was released,
`records.released`); here is by which digests they are known. An image is named by its `answer_id`, which is a hash, and
no request. The tables are in `records.quarantine_tables`, and are made by the first batch; who reads them before finds
nothing. A decision is a row that stays as it is: the database itself refuses to change it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, delete, func, insert, inspect, select, update

from records.batch import Batch, BatchImage, Decision, Use, Withdrawal
from records.engines import exclusive, explained
from records.quarantine_tables import (
    batch_decisions,
    batch_images,
    batch_uses,
    batch_withdrawals,
    batches,
    metadata,
)
from records.schema import predictions
from records.tables import prepare
from records.texts import storable
from records.tombstones import in_parts
from resunet.errors import RecordsError


def add_batch(engine: Engine, batch: Batch) -> None:
    """Write a batch down, all of it or nothing.

    Raises:
        RecordsError: an image is in another batch by now, it was forgotten, or the database does not answer.
    """
    prepare(engine, *metadata.sorted_tables)
    answers = [one.answer_id for one in batch.members]
    # Beside it nothing is forgotten either.
    with explained(engine), exclusive(engine) as connection:
        turned_down = select(batch_decisions.c.batch_id).where(batch_decisions.c.verdict == "rejected")
        taken_back = _withdrawn(connection)
        for part in in_parts(answers):
            mine = batch_images.c.answer_id.in_(part), batch_images.c.left_out.is_(None)
            like = select(batches.c.batch_id).where(batches.c.of_clients == batch.of_clients)
            other = batch_images.c.batch_id
            others = other.in_(like), other.not_in(turned_down), other.not_in(taken_back)
            if connection.scalar(select(batch_images.c.batch_id).where(*mine, *others).limit(1)):
                raise RecordsError("another batch was collected just now from the same images: run it again")
            there = select(func.count()).where(predictions.c.answer_id.in_(part))
            if connection.scalar(there) != len(part):
                raise RecordsError("some of the images were forgotten just now: run it again")
        names = ("batch_id", "model_name", "made", "window_start", "window_end", "of_clients")
        connection.execute(insert(batches).values(**{name: getattr(batch, name) for name in names}))
        for one in batch.members:
            row = asdict(one) | {"slice": None if one.slice is None else storable(one.slice)}
            connection.execute(insert(batch_images).values(batch_id=batch.batch_id, **row))


def note_checked(
    engine: Engine, batch_id: str, *, refusals: Sequence[str], digest: str, left_out: Mapping[str, str], now: datetime
) -> None:
    """Note what `prepare` says of a batch, and which images are left out of it from now on, and why.

    Args:
        digest: of the content that was asked about.

    Raises:
        RecordsError: the batch is decided on, or the database does not answer.
    """
    with explained(engine), exclusive(engine) as connection:
        _refuse_decided(connection, batch_id)
        for answer, why in left_out.items():
            mine = batch_images.c.batch_id == batch_id, batch_images.c.answer_id == answer
            connection.execute(update(batch_images).where(*mine).values(left_out=storable(why)))
        told = {"refusals": [storable(one) for one in refusals], "checked_digest": digest, "checked": now}
        connection.execute(update(batches).where(batches.c.batch_id == batch_id).values(**told))


def decide(engine: Engine, batch_id: str, decision: Decision) -> None:
    """Write down who released or rejected a batch, once and for all.

    Raises:
        RecordsError: it is decided on already, its content is not the one that is decided on, or the database does
            not answer.
    """
    with explained(engine), exclusive(engine) as connection:
        _refuse_decided(connection, batch_id)
        [batch] = _read(connection, batches.c.batch_id == batch_id)
        if batch.digest != decision.digest:
            raise RecordsError(f"batch {batch_id} has changed meanwhile: look at it, and decide again")
        texts = {"who": storable(decision.who), "why": storable(decision.why)}
        connection.execute(insert(batch_decisions).values(batch_id=batch_id, **asdict(decision) | texts))


def note_withdrawn(engine: Engine, batch_id: str, withdrawal: Withdrawal) -> None:
    """Write down who has taken a release back; the decision stays beside it.

    Raises:
        RecordsError: the batch is not released, or the database does not answer.
    """
    prepare(engine, *metadata.sorted_tables)
    with explained(engine), exclusive(engine) as connection:
        [batch] = _read(connection, batches.c.batch_id == batch_id)
        if batch.state != "released":
            raise RecordsError(f"batch {batch_id} is {batch.state}: only a release can be taken back")
        texts = {"who": storable(withdrawal.who), "why": storable(withdrawal.why)}
        connection.execute(insert(batch_withdrawals).values(batch_id=batch_id, **asdict(withdrawal) | texts))


def note_use(
    engine: Engine,
    version: str,
    run_id: str,
    now: datetime,
    batch_ids: Collection[str],
    split_keys: Mapping[str, str],
) -> list[str]:
    """Note that a version was trained on batches, and what decided the splits of their images; all of it or nothing.

    Args:
        split_keys: by `answer_id`; one that is noted already stays.

    Returns:
        Those of the images that were forgotten meanwhile, or whose batch was withdrawn: then nothing is noted, and what
        is left of the batches waits for the next training.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine), exclusive(engine) as connection:
        gone = _gone(connection, batch_ids, split_keys)
        if gone:
            return gone
        for batch_id in batch_ids:
            use = {"model_version": version, "run_id": run_id, "when": now}
            connection.execute(insert(batch_uses).values(batch_id=batch_id, **use))
        for answer, key in split_keys.items():
            mine = batch_images.c.batch_id.in_(list(batch_ids)), batch_images.c.answer_id == answer
            fresh = batch_images.c.split_key.is_(None)
            connection.execute(update(batch_images).where(*mine, fresh).values(split_key=key))
    return []


def read_batches(engine: Engine, model_name: str | None = None) -> list[Batch]:
    """All batches, of a model or of all, the oldest first.

    Raises:
        RecordsError: the database does not answer.
    """
    return _look(engine, lambda: [] if model_name is None else [batches.c.model_name == model_name])


def find_batch(engine: Engine, batch_id: str) -> Batch:
    """One batch.

    Raises:
        RecordsError: there is none of that name, or the database does not answer.
    """
    for batch in _look(engine, lambda: [batches.c.batch_id == batch_id]):
        return batch
    raise RecordsError(
        f"there is no batch {batch_id!r}: `python -m monitoring quarantine list --all` shows those that there are"
    )


def released_batches(engine: Engine, model_name: str) -> list[Batch]:
    """What may be trained on, in the order in which it was released.

    Raises:
        RecordsError: the database does not answer.
    """
    found = [
        (batch.decision.when, batch.batch_id, batch)
        for batch in read_batches(engine, model_name)
        if batch.decision is not None and batch.state == "released" and batch.images
    ]
    return [batch for _, _, batch in sorted(found, key=lambda one: one[:2])]


def unused_batches(engine: Engine, model_name: str) -> list[Batch]:
    """What was released and no version was trained on yet.

    Raises:
        RecordsError: the database does not answer.
    """
    return [batch for batch in released_batches(engine, model_name) if not batch.uses]


def drop_images(connection: Connection, answer_ids: Sequence[str]) -> set[str]:
    """Delete what batches say of answers; call it in the transaction that forgets them.

    Returns:
        The versions that were trained on a batch which held one of them while it was used, `resunet 7`.
    """
    if not inspect(connection).has_table(batch_images.name):
        return set()
    trained = set[str]()
    for part in in_parts(answer_ids):
        mine = batch_images.c.answer_id.in_(part)
        used = (
            select(batches.c.model_name, batch_uses.c.model_version)
            .join(batch_uses, batch_uses.c.batch_id == batches.c.batch_id)
            .join(batch_images, batch_images.c.batch_id == batches.c.batch_id)
            # Without a key it was left out of every training so far.
            .where(mine, batch_images.c.split_key.is_not(None))
        )
        trained |= {f"{model} {version}" for model, version in connection.execute(used)}
        connection.execute(delete(batch_images).where(mine))
    return trained


def _gone(connection: Connection, batch_ids: Collection[str], answer_ids: Collection[str]) -> list[str]:
    """Answers that no released one of the batches holds."""
    kept = sorted(set(batch_ids) - set(_withdrawn(connection)))
    left = select(batch_images.c.answer_id).where(batch_images.c.batch_id.in_(kept))
    return sorted(set(answer_ids) - set(connection.scalars(left)))


def _withdrawn(connection: Connection) -> list[str]:
    """Batches whose release was taken back; a release that knew no withdrawals made the other tables without theirs."""
    if not inspect(connection).has_table(batch_withdrawals.name):
        return []
    return list(connection.scalars(select(batch_withdrawals.c.batch_id)))


def _refuse_decided(connection: Connection, batch_id: str) -> None:
    for batch in _read(connection, batches.c.batch_id == batch_id):
        taken = batch.withdrawal or batch.decision
        if taken is not None:
            raise RecordsError(f"batch {batch_id} was {batch.state} by {taken.who}: that stays so")


def _look(engine: Engine, which: Callable[[], list[Any]]) -> list[Batch]:
    with explained(engine):
        if not inspect(engine).has_table(batches.name):
            return []
        with engine.connect() as connection:
            return _read(connection, *which())


def _read(connection: Connection, *which: Any) -> list[Batch]:
    rows = connection.execute(select(batches).where(*which).order_by(batches.c.made, batches.c.batch_id)).all()
    names = [row.batch_id for row in rows]

    def of(query: Select[Any]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for row in connection.execute(query).mappings():
            values = dict(row)
            found[values.pop("batch_id")].append(values)
        return found

    def mine(table: Any) -> Any:
        return table.c.batch_id.in_(names)

    members = of(select(batch_images).where(mine(batch_images)).order_by(batch_images.c.answer_id))
    decisions = of(select(batch_decisions).where(mine(batch_decisions)))
    withdrawn = bool(_withdrawn(connection))
    withdrawals = of(select(batch_withdrawals).where(mine(batch_withdrawals))) if withdrawn else {}
    uses = of(select(batch_uses).where(mine(batch_uses)).order_by(batch_uses.c.when))
    return [
        Batch(
            batch_id=row.batch_id,
            model_name=row.model_name,
            made=row.made,
            window_start=row.window_start,
            window_end=row.window_end,
            of_clients=bool(row.of_clients),
            members=tuple(BatchImage(**one) for one in members[row.batch_id]),
            refusals=None if row.refusals is None else tuple(row.refusals),
            checked_digest=row.checked_digest,
            decision=next((Decision(**one) for one in decisions[row.batch_id]), None),
            withdrawal=next((Withdrawal(**one) for one in withdrawals.get(row.batch_id, ())), None),
            uses=tuple(Use(**one) for one in uses[row.batch_id]),
        )
        for row in rows
    ]

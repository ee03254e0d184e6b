"""What is done with batches: collected, checked, released, rejected or withdrawn by somebody who is named.

made = collect(engine, stores, home, Question("resunet", window), now)
check(engine, stores, home, batch_id, without=["live-0123…"], now=now)
release(engine, stores, batch_id, Person("ada", "looked at each of them"), now)
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from monitoring.quarantine.batch_data import Lost, contents, refusals_of
from monitoring.quarantine.collect import Gathered, GroupBy, gather
from monitoring.window import Window
from records.batch import Batch, Decision, Withdrawal
from records.labels import Source
from records.quarantine import add_batch, decide, find_batch, note_checked, note_withdrawn, read_batches
from records.stores import Stores
from resunet.errors import DataError, RefusedError, SettingsError

_SHOWN: Final = 5


@dataclass(frozen=True)
class Question:
    """What is to be collected: labels of these sources, of images that were answered in this time."""

    model: str
    window: Window
    sources: tuple[Source, ...] = ("audit", "picked")
    group_by: GroupBy = "none"


@dataclass(frozen=True)
class Person:
    """Who decides, and why."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.reason.strip():
            raise SettingsError('a decision has a name and a reason: give --reason "…", and --by if need be')


@dataclass(frozen=True)
class Collected:
    """The batches that were made, of auditors and of clients, and what was found for them."""

    batches: tuple[Batch, ...]
    found: tuple[Gathered, ...]


def collect(engine: Engine, stores: Stores, home: Path, question: Question, now: datetime) -> Collected:
    """Make a batch of what auditors have labelled, and another one of what clients have, as far as they are asked for.

    Raises:
        RecordsError: the database does not answer, or a file cannot be read.
        ResunetError: `prepare` did not come to an answer; the batch is there, and `check` asks it again.
    """
    ours = tuple(one for one in question.sources if one != "client")
    theirs = tuple(one for one in question.sources if one == "client")
    made, found = list[Batch](), list[Gathered]()
    for sources in filter(None, (ours, theirs)):
        gathered = gather(
            engine,
            stores,
            question.model,
            question.window,
            sources=sources,
            earlier=read_batches(engine, question.model),
            group_by=question.group_by,
        )
        found.append(gathered)
        if not gathered.images:
            continue
        batch = Batch(
            batch_id=f"{now:%Y%m%d}-{secrets.token_hex(3)}",
            model_name=question.model,
            made=now,
            window_start=question.window.start,
            window_end=question.window.end,
            of_clients=sources == theirs,
            members=gathered.images,
        )
        add_batch(engine, batch)
        made.append(check(engine, stores, home, batch.batch_id, without=(), why="", now=now))
    return Collected(tuple(made), tuple(found))


def check(
    engine: Engine, stores: Stores, home: Path, batch_id: str, *, without: Sequence[str], why: str, now: datetime
) -> Batch:
    """Have `prepare` look at a batch, without images that are gone and those that somebody takes out.

    Args:
        without: names of images, or beginnings of them.
        why: they are taken out.

    Raises:
        SettingsError: a name fits no image of the batch, or several.
        DataError: nothing is left of it.
        RecordsError: it is decided on, or the database does not answer.
        ResunetError: `prepare` did not come to an answer.
    """
    batch = find_batch(engine, batch_id)
    out = {_named(batch, name): why or "it was taken out" for name in without}
    lost = {one.image.answer_id: one.why for one in contents(batch, stores) if isinstance(one, Lost)}
    out = lost | out
    kept = replace(batch, members=tuple(one for one in batch.images if one.answer_id not in out))
    if not kept.images:
        raise DataError(f"nothing is left of batch {batch_id}: reject it")
    refusals = refusals_of(kept, stores, home)
    note_checked(engine, batch_id, refusals=refusals, digest=kept.digest, left_out=out, now=now)
    return find_batch(engine, batch_id)


def release(
    engine: Engine, stores: Stores, batch_id: str, person: Person, now: datetime, *, of_clients: bool = False
) -> Batch:
    """Let a batch be trained on: its images and masks are copied to where no retention deletes them.

    Args:
        of_clients: whoever releases it knows that its labels came from clients.

    Raises:
        RefusedError: `prepare` refuses it, or did not see it as it is; an image was changed since; or its labels are of
            clients, and nobody says so.
        RecordsError: it is decided on, or the database or the disk refuses.
    """
    batch = find_batch(engine, batch_id)
    if batch.decision is not None:
        taken = batch.withdrawal or batch.decision
        _refuse(f"batch {batch_id} was {batch.state} by {taken.who}: that stays so")
    if batch.of_clients and not of_clients:
        _refuse(
            f"the labels of batch {batch_id} were sent by clients, and whoever sends labels can teach the model what "
            "they like: look at each of them (quarantine show), then give --of-clients"
        )
    if batch.refusals:
        _refuse(f"batch {batch_id} cannot be trained on: {'; '.join(batch.refusals)}. {_mend(batch_id)}")
    _refuse_lost(batch, [one for one in contents(batch, stores) if isinstance(one, Lost)])
    if batch.refusals is None or batch.checked_digest != batch.digest:
        _refuse(f"batch {batch_id} has changed since it was checked: python -m monitoring quarantine check {batch_id}")
    with stores.released.alone():
        try:
            for one in contents(batch, stores):
                if isinstance(one, Lost):
                    _refuse_lost(batch, [one])
                    continue
                answer, when = one.image.answer_id, one.image.event_time
                stores.released.images(batch_id).put(answer, one.encoded, when)
                stores.released.truths(batch_id).put(answer, one.image.source, one.truth, when)
            decide(engine, batch_id, Decision("released", person.name, person.reason, now, batch.digest))
        except BaseException:
            # Another one may have released it before.
            if find_batch(engine, batch_id).state != "released":
                stores.released.drop(batch_id)
            raise
    return find_batch(engine, batch_id)


def reject(engine: Engine, stores: Stores, batch_id: str, person: Person, now: datetime) -> Batch:
    """Turn a batch down for good: its labels are not collected again unless they are drawn anew.

    Raises:
        RecordsError: it is decided on, or the database does not answer.
    """
    batch = find_batch(engine, batch_id)
    with stores.released.alone():
        decide(engine, batch_id, Decision("rejected", person.name, person.reason, now, batch.digest))
        stores.released.drop(batch_id)
    return find_batch(engine, batch_id)


def withdraw(engine: Engine, stores: Stores, batch_id: str, person: Person, now: datetime) -> Batch:
    """Take a release back: nothing is trained on the batch from now on, and its copies in this home are deleted.

    Of one that was taken back before, copies that are left are deleted.

    Raises:
        RecordsError: it is not released, the database does not answer, or a copy cannot be deleted: `records upkeep`
            tries it again.
    """
    batch = find_batch(engine, batch_id)
    with stores.released.alone():
        if batch.withdrawal is None:
            note_withdrawn(engine, batch_id, Withdrawal(person.name, person.reason, now))
        stores.released.drop(batch_id)
    return find_batch(engine, batch_id)


def _named(batch: Batch, name: str) -> str:
    found = [one.answer_id for one in batch.images if one.name.startswith(name.removesuffix(".png"))]
    if len(found) != 1:
        what = "no image" if not found else f"{len(found)} images"
        raise SettingsError(
            f"{name!r} names {what} of batch {batch.batch_id}: `python -m monitoring quarantine show {batch.batch_id}` "
            "lists them"
        )
    return found[0]


def _refuse_lost(batch: Batch, lost: Sequence[Lost]) -> None:
    if lost:
        told = ", ".join(f"{one.image.name}: {one.why}" for one in lost[:_SHOWN])
        more = f", and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        _refuse(f"batch {batch.batch_id} is not what was collected: {told}{more}. {_mend(batch.batch_id)}")


def _mend(batch_id: str) -> str:
    return (
        f"Take out what is wrong (python -m monitoring quarantine check {batch_id} --without NAME), or reject the batch"
    )


def _refuse(sentence: str) -> None:
    raise RefusedError(sentence)

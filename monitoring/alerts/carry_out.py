"""Carrying out what alerts have ordered: a retraining as a process of its own, and a message on what became of it.

    done = carry_out(engine, "resunet", retrain, recipients.places, clock)
    done.line, done.failed

The schedule runs it under the lease of a job, so of several schedules one does. An order that is marked as being
carried out when it begins is one whose process was killed: it is begun again, and given up after ATTEMPTS.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine

from monitoring.alerts import retraining, words
from monitoring.alerts.recipients import Place
from monitoring.lifeline import lifeline
from records.engines import explained
from records.home_lock import BUSY_EXIT
from records.quarantine import released_batches, unused_batches
from records.watch import orders
from records.watch.alerts import is_over
from records.watch.jobs import writing
from records.watch.leases import refuse_if_lost
from records.watch.orders import Ended, Order, open_order
from records.watch.outbox import Queued, queue

ATTEMPTS: Final = 6
# Of `python -m pipelines retrain`.
_CAME_TO_AN_ANSWER: Final = (0, 3)


@dataclass(frozen=True)
class Answer:
    """What `python -m pipelines retrain` came to.

    Attributes:
        version: that it registered; None: none.
        outcome: a sentence.
        as_wished: the version is where it was to go.
        failed: it came to no answer, and is worth another try.
        busy: it was not begun, since another one is under way: the next look tries again.
    """

    version: str | None
    outcome: str
    as_wished: bool = False
    failed: bool = False
    busy: bool = False


@dataclass(frozen=True)
class Attempt:
    """How an order is carried out this time.

    Attributes:
        version: was trained by an earlier attempt, which was cut off then: it is only put forward.
    """

    order: Order
    version: str = ""


@dataclass(frozen=True)
class Carried:
    """What became of the look, in a line."""

    line: str
    failed: bool = False


Retrain = Callable[[Attempt], Answer]
_Places = Callable[[Sequence[str]], tuple[Place, ...]]


def carry_out(
    engine: Engine,
    model: str,
    retrain: Retrain,
    places: _Places,
    clock: Callable[[], datetime],
    here: Callable[[], Collection[str]],
    promotes: Callable[[Order], bool | None] = lambda order: order.promote,
) -> Carried:
    """Carry out the order of a model, if there is one and something was released for it.

    Args:
        here: the batches whose images lie in this home: a schedule that stands by has a home of its own.
        promotes: whether the order's policy, as it is now, promotes; None where it retrains no more.

    Raises:
        LostLeaseError: another schedule has taken over: what became of it is not kept.
        RecordsError: the database does not answer.
    """
    order = open_order(engine, model)
    if order is None:
        return Carried(f"no retraining of {model} is ordered")
    if order.attempts >= ATTEMPTS:
        last = order.outcome or "it was cut off each time"
        return _end(engine, order, Ended("failed", f"given up after {ATTEMPTS} attempts: {last}"), places, clock())
    may = promotes(order)
    if may is None and not order.attempts:
        number, why = order.alert_id, f"policy {order.policy} retrains no more"
        _write(engine, lambda connection: orders.withdraw(connection, number, clock(), why))
        return Carried(f"order {order.id}: withdrawn: {why}")
    # It was placed under the policy of its time; whoever has taken the promotion out since means it.
    order = replace(order, promote=order.promote and bool(may))
    attempt = Attempt(order)
    if not unused_batches(engine, model):
        trained = _trained_since(engine, order)
        if not order.attempts and trained is not None:
            by_hand = Ended("done", f"somebody has retrained it: version {trained}", trained)
            return _end(engine, order, by_hand, places, clock())
        if trained is None:
            # Also where what was released was taken back, or forgotten, since an attempt began.
            if order.state == "running":
                _put_back(engine, order, "nothing is released any more", clock())
            return Carried(retraining.told(engine, replace(order, state="open")))
        # An attempt that was cut off, or failed, has used up what was released: its version waits.
        attempt = Attempt(order, trained)
    released, mine = {batch.batch_id for batch in released_batches(engine, model)}, set(here())
    elsewhere = released - mine
    if elsewhere:
        names = ", ".join(sorted(elsewhere))
        if released & mine:
            # This home has a part: where none has all, each would leave it to another one for ever.
            apart = (
                f"batch {names} was released in another RESUNET_HOME, and {', '.join(sorted(released & mine))} in this "
                "one: bring what is in their folders `released` together, or take a release back (quarantine withdraw)"
            )
            _put_back(engine, order, apart, clock())
            return Carried(f"order {order.id} waits: {apart}", failed=True)
        return Carried(f"order {order.id} is another schedule's: batch {names} was released in another RESUNET_HOME")
    begun = list[bool]()
    _write(engine, lambda connection: begun.append(orders.begin(connection, order, clock())))
    if begun != [True]:
        return Carried(f"order {order.id} was withdrawn just now")
    answer = retrain(attempt)
    if answer.busy:
        _put_back(engine, order, answer.outcome, clock())
        return Carried(f"order {order.id} waits: {answer.outcome}")
    if answer.failed and order.attempts + 1 < ATTEMPTS:
        again = Ended("open", answer.outcome)
        _write(engine, lambda connection: orders.end(connection, order, again, clock()))
        return Carried(f"order {order.id}, attempt {order.attempts + 1} of {ATTEMPTS}: {answer.outcome}", failed=True)
    how = Ended("failed" if answer.failed else "done", answer.outcome, answer.version)
    return _end(engine, order, how, places, clock(), as_wished=answer.as_wished)


def by_command(attempt: Attempt) -> Answer:
    """Run `python -m pipelines retrain` for an order; it ends with this process, however that ends."""
    order = attempt.order
    with tempfile.TemporaryDirectory(prefix="resunet-order-") as folder, lifeline() as line:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "monitoring.jobs.tied", "pipelines", "retrain"]
        command += [f"--model-name={order.model_name}", f"--reason={order.reason}", f"--by=policy {order.policy}"]
        command += [f"--result={result}", *(["--promote"] if order.promote else [])]
        command += [f"--order={order.id}"]
        if attempt.version:
            command += [f"--version={attempt.version}"]
        elif order.max_minutes:
            command += [f"--max-minutes={order.max_minutes:g}"]
        ran = subprocess.run(command, stdin=line, capture_output=True, text=True, errors="replace", check=False)
        if ran.returncode == BUSY_EXIT:
            return Answer(None, "another retraining is under way in this RESUNET_HOME", busy=True)
        if ran.returncode not in _CAME_TO_AN_ANSWER or not result.is_file():
            said = next(iter([one for one in ran.stderr.splitlines() if one.strip()][-1:]), "it said nothing")
            return Answer(None, f"exit code {ran.returncode}: {said.removeprefix('error: ')}", failed=True)
        told = TypeAdapter[dict[str, object] | None](dict[str, object] | None).validate_json(result.read_bytes())
    if told is None:
        return Answer(None, "nothing was released any more when it began", failed=True)
    return Answer(str(told["version"]), str(told["outcome"]), as_wished=bool(told["as_wished"]))


def _trained_since(engine: Engine, order: Order) -> str | None:
    """The newest version that was trained on released images since an order was placed."""
    uses = [use for batch in released_batches(engine, order.model_name) for use in batch.uses if use.when > order.made]
    return max(uses, key=lambda use: use.when).model_version if uses else None


def _put_back(engine: Engine, order: Order, why: str, now: datetime) -> None:
    """Leave an order to a later look, and take it back where its alert ended while it was being begun."""

    def write(connection: Connection) -> None:
        orders.put_back(connection, order, why)
        if is_over(connection, order.alert_id):
            orders.withdraw(connection, order.alert_id, now)

    _write(engine, write)


def _end(
    engine: Engine, order: Order, how: Ended, places: _Places, now: datetime, *, as_wished: bool = False
) -> Carried:
    def write(connection: Connection) -> None:
        orders.end(connection, order, how, now)
        queue(connection, [_message(order, how, place, now, as_wished) for place in places(order.recipients)])

    _write(engine, write)
    return Carried(f"order {order.id}: {how.state}: {words.one_line(how.outcome)}", failed=how.state == "failed")


def _message(order: Order, how: Ended, place: Place, now: datetime, as_wished: bool) -> Queued:
    trained = "RETRAINED" if how.version else "NOT RETRAINED"
    version = f" version {how.version}" if how.version else ""
    lines = [
        how.outcome,
        "",
        f"it was ordered at {words.moment(order.made)}: {order.reason}",
        f"policy {order.policy}, order {order.id}",
    ]
    if as_wished and not order.promote:
        lines += ["", "try it on real traffic: python -m serving rollout start"]
    return Queued(
        alert_id=order.alert_id,
        event="retrained",
        recipient=place[0],
        number=place[1],
        kind="info" if as_wished else "warning",
        subject=f"[resunet] {trained} {order.policy}: {words.one_line(order.model_name)}{version}",
        body="\n".join(lines),
        run_id=None,
        made=now,
    )


def _write(engine: Engine, what: Callable[[Connection], None]) -> None:
    with explained(engine), writing(engine) as connection:
        refuse_if_lost(connection)
        what(connection)

"""What a policy's `retrain` does when its alert begins to fire, and goes on to: a retraining is ordered, once.

lines(engine, policy, change, now)                      # for the message: what comes of it, and what people have to do
act(connection, policy, change, number, now)            # in the transaction that changes the alert
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine

from monitoring.alerts import words
from monitoring.alerts.decide import Change
from monitoring.alerts.policy import Policy
from records.quarantine import unused_batches
from records.watch.orders import Order, Wanted, open_order, place, read_orders, withdraw

_BEGINS: Final = ("firing", "repeat")
_OVER: Final = ("recovered", "withdrawn", "ended")
WAITS: Final = (
    "it waits until somebody releases labelled images: `python -m monitoring quarantine list` shows what there is, "
    "`collect` gathers it, `release` lets it be trained on"
)


def act(connection: Connection, policy: Policy, change: Change, number: int, now: datetime) -> None:
    """Order a retraining, or take an order back that nobody has begun when its alert is over."""
    if change.event in _OVER:
        withdraw(connection, number, now)
    elif change.event in _BEGINS and policy.retrain is not None:
        place(connection, wanted(policy, change), number, now)


def wanted(policy: Policy, change: Change) -> Wanted:
    """What is ordered."""
    assert policy.retrain is not None
    seen = words.one_line(f"{policy.name}, {words.about(change.alert)}: {change.alert.summary}")
    return Wanted(
        model_name=policy.model_name,
        policy=policy.name,
        reason=seen,
        recipients=tuple(policy.alert.to),
        promote=policy.promotes,
        max_minutes=policy.retrain.max_minutes,
        at_most_every=policy.retrain.at_most_every,
    )


def lines(engine: Engine, policy: Policy, change: Change, now: datetime) -> Sequence[str]:
    """What is said of it in the alert's message.

    Raises:
        RecordsError: the database does not answer.
    """
    if policy.retrain is None or change.event not in _BEGINS:
        return ()
    order = open_order(engine, policy.model_name)
    if order is None:
        placed = [one.made for one in read_orders(engine, policy.model_name) if one.state != "withdrawn"]
        last = max(placed, default=None)
        if last is not None and now - last < policy.retrain.at_most_every:
            soonest = words.moment(last + policy.retrain.at_most_every)
            return (f"retraining: one was ordered at {words.moment(last)}, and the next is not before {soonest}",)
    if order is not None and order.state == "running":
        return (f"retraining: order {order.id} is being carried out",)
    return (f"retraining of {policy.model_name} is ordered: {stand(engine, policy.model_name)}",)


def stand(engine: Engine, model: str) -> str:
    """What an order that nobody has begun waits for.

    Raises:
        RecordsError: the database does not answer.
    """
    released = unused_batches(engine, model)
    if not released:
        return WAITS
    images = sum(len(batch.images) for batch in released)
    return f"{images} released images wait for it, and the schedule begins with it"


def told(engine: Engine, order: Order) -> str:
    """An order and where it is, in a line.

    Raises:
        RecordsError: the database does not answer.
    """
    begins = f"order {order.id}: retraining of {order.model_name}, policy {order.policy}, {words.moment(order.made)}"
    if order.state == "open":
        last = f"; what came of it last: {words.one_line(order.outcome)}" if order.outcome else ""
        return f"{begins}: {stand(engine, order.model_name)}{last}"
    if order.state == "running":
        since = f" since {words.moment(order.started)}" if order.started else ""
        return f"{begins}: it is being carried out{since}"
    return f"{begins}: {order.state}: {words.one_line(order.outcome or '')}"

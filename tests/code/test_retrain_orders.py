"""An alert orders a retraining: once, with the alert or not at all; and somebody carries it out, or says why not."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from alert_scene import DAY, DAY_0, HOUR, World, one_place, policies, world
from quarantine_scene import Scene
from sqlalchemy import inspect

from monitoring.alerts import carry_out as carrying
from monitoring.alerts import retraining
from monitoring.alerts.carry_out import ATTEMPTS, Answer, Attempt, Carried, carry_out
from monitoring.alerts.policy import orders_retraining
from monitoring.alerts.retraining import told
from monitoring.jobs.table import Reporting, jobs_of
from monitoring.quarantine import custody
from records.batch import Withdrawal
from records.quarantine import note_use, note_withdrawn, released_batches
from records.tables import prepare
from records.watch import outbox
from records.watch.alerts import open_alerts
from records.watch.jobs import jobs
from records.watch.leases import LEASE_VARIABLE, LostLeaseError
from records.watch.orders import open_order, read_orders, withdraw
from records.watch.outbox import waiting

RETRAIN = """{name: input-drift, when: {verdict: drift}, recover: 1 window,
     actions: [{alert: {}}, {retrain: {at_most_every: 7d, max_minutes: 20}}%s]}"""
TRAINS = policies(RETRAIN % "")
PROMOTES = policies(RETRAIN % ", {promote: {by_itself: true}}")
NOT_BY_ITSELF = policies(RETRAIN % ", {promote: {by_itself: false}}")
IN_STAGING = Answer("8", "version 8 is in Staging", as_wished=True)


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "refusals_of", lambda *_: ())


@pytest.fixture
def here(url: str) -> World:
    return world(url)


def drifted(here: World, day: int, rules=TRAINS) -> None:  # type: ignore[no-untyped-def]
    here.report(day, "drift")
    here.look(rules, DAY_0 + (day + 1) * DAY + HOUR)


def released(here: World, folder: Path, seed: int = 1) -> str:
    """A batch that may be trained on."""
    scene = Scene(here.engine.url.render_as_string(hide_password=False), folder)
    scene.labelled(f"a-{seed}")
    return scene.release(scene.batch()).batch_id


class Trainer:
    """Notes what it was asked to train, and says what it was told to say."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[Attempt] = []

    def __call__(self, attempt: Attempt) -> Answer:
        self.asked.append(attempt)
        return self.answers.pop(0)


def carry(here: World, trainer: Callable[[Attempt], Answer]) -> Carried:
    every = [batch.batch_id for batch in released_batches(here.engine, "resunet")]
    return carry_out(here.engine, "resunet", trainer, one_place, lambda: here.now, lambda: every)


def test_an_alert_that_begins_to_fire_orders_one_retraining(database_url: str) -> None:
    here = world(database_url)
    for day in range(3):
        drifted(here, day)
    [order] = read_orders(here.engine)
    assert (order.model_name, order.policy, order.state, order.alert_id) == ("resunet", "input-drift", "open", 1)
    assert (order.promote, order.max_minutes, order.recipients) == (False, 20.0, ("default",))
    assert order.reason == "input-drift, resunet version 7: drift on day 0"


@pytest.mark.parametrize(("module", "name"), [(outbox, "queue"), (retraining, "act")])
def test_an_order_is_written_with_its_alert_or_not_at_all(
    here: World, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    def refuses(*_: object) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(module, name, refuses)
        with pytest.raises(RuntimeError):
            drifted(here, 0)
    assert read_orders(here.engine) == open_alerts(here.engine) == waiting(here.engine) == []
    here.look(TRAINS)
    assert len(read_orders(here.engine)) == 1


def test_of_two_checkers_at_once_one_orders(database_url: str) -> None:
    here = world(database_url)
    here.report(0, "drift")
    here.report(0, "drift", model_version="8")
    ready = threading.Barrier(4)

    def checker() -> None:
        twin = World(here.engine, DAY_0 + DAY + HOUR)
        ready.wait(30)
        twin.look(TRAINS)

    checkers = [threading.Thread(target=checker) for _ in range(4)]
    for one in checkers:
        one.start()
    for one in checkers:
        one.join(60)
    assert len(read_orders(here.engine)) == 1


def test_the_next_order_is_not_sooner_than_the_policy_says(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    batch = released(here, tmp_path)
    assert carry(here, Trainer(IN_STAGING)).line == "order 1: done: version 8 is in Staging"
    note_use(here.engine, "8", "run", here.now, [batch], {})
    for day in range(1, 7):
        drifted(here, day)
    assert len(read_orders(here.engine)) == 1
    assert "one was ordered at 2026-03-03 01:00 UTC, and the next is not before 2026-03-10" in last_body(here)
    # It fires still, and is told of again.
    drifted(here, 8)
    assert [order.state for order in read_orders(here.engine)] == ["done", "open"]


def test_an_order_waits_until_something_is_released_and_says_what_to_do(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    trainer = Trainer(IN_STAGING)
    waits = carry(here, trainer)
    assert "it waits until somebody releases labelled images: `python -m monitoring quarantine list`" in waits.line
    assert not waits.failed and trainer.asked == []
    assert "retraining of resunet is ordered: it waits until somebody releases" in last_body(here)
    released(here, tmp_path)
    order = open_order(here.engine, "resunet")
    assert order is not None and "1 released images wait for it" in told(here.engine, order)
    assert not carry(here, trainer).failed
    assert [one.version for one in trainer.asked] == [""]
    assert carry(here, trainer).line == "no retraining of resunet is ordered"


def test_a_schedule_that_stands_by_leaves_an_order_to_who_has_the_images(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    batch = released(here, tmp_path)
    done = carry_out(here.engine, "resunet", Trainer(), one_place, lambda: here.now, list)
    assert done == Carried(
        f"order 1 is another schedule's: batch {batch} was released in another RESUNET_HOME", failed=False
    )
    assert [(order.state, order.attempts) for order in read_orders(here.engine)] == [("open", 0)]


def test_an_order_whose_batches_lie_in_two_homes_says_so(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    first, second = released(here, tmp_path), released(here, tmp_path, 2)
    done = carry_out(here.engine, "resunet", Trainer(), one_place, lambda: here.now, lambda: [first])
    assert done.failed and f"batch {second} was released in another RESUNET_HOME, and {first} in this one" in done.line
    order = open_order(here.engine, "resunet")
    assert order is not None and order.attempts == 0 and "bring what is in their folders" in told(here.engine, order)


def test_what_became_of_it_is_noted_and_told(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    released(here, tmp_path)
    here.now += HOUR
    carry(here, Trainer(IN_STAGING))
    [order] = read_orders(here.engine)
    assert (order.state, order.version, order.outcome) == ("done", "8", "version 8 is in Staging")
    assert order.started == order.ended == here.now and order.attempts == 1
    message = waiting(here.engine)[-1]
    assert (message.subject, message.kind) == ("[resunet] RETRAINED input-drift: resunet version 8", "info")
    assert "version 8 is in Staging" in message.body and "python -m serving rollout start" in message.body


@pytest.mark.parametrize(("rules", "asked"), [(TRAINS, False), (NOT_BY_ITSELF, False), (PROMOTES, True)])
def test_a_promotion_is_asked_for_only_where_the_policy_says_by_itself(
    here: World, tmp_path: Path, rules: object, asked: bool
) -> None:
    drifted(here, 0, rules)
    released(here, tmp_path)
    trainer = Trainer(IN_STAGING)
    carry(here, trainer)
    assert [one.order.promote for one in trainer.asked] == [asked]


def test_a_promotion_that_the_gates_refuse_is_told_as_a_warning(here: World, tmp_path: Path) -> None:
    drifted(here, 0, PROMOTES)
    released(here, tmp_path)
    refused = Answer("8", "version 8 is in Staging, and stays there: floor: fail: mean Dice 0.4 < 0.7")
    assert not carry(here, Trainer(refused)).failed
    message = waiting(here.engine)[-1]
    assert message.kind == "warning" and "floor: fail: mean Dice 0.4 < 0.7" in message.body


def test_a_training_that_fails_is_tried_again_and_given_up_at_last(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    released(here, tmp_path)
    away = Answer(None, "exit code 2: the tracking server is away", failed=True)
    trainer = Trainer(*[away] * ATTEMPTS)
    for attempt in range(1, ATTEMPTS):
        done = carry(here, trainer)
        assert done == Carried(f"order 1, attempt {attempt} of {ATTEMPTS}: {away.outcome}", failed=True)
        assert waiting(here.engine)[-1].event == "firing"
    assert carry(here, trainer).failed
    [order] = read_orders(here.engine)
    assert (order.state, order.attempts) == ("failed", ATTEMPTS)
    assert waiting(here.engine)[-1].subject == "[resunet] NOT RETRAINED input-drift: resunet"
    assert carry(here, trainer).line == "no retraining of resunet is ordered"


def test_a_killed_training_is_begun_again_and_the_version_that_it_made_is_put_forward(
    here: World, tmp_path: Path
) -> None:
    drifted(here, 0)
    batch = released(here, tmp_path)
    here.now += HOUR
    ends_with = [lambda: None, lambda: note_use(here.engine, "8", "run", here.now, [batch], {})]

    def killed(_attempt: Attempt) -> Answer:
        ends_with.pop(0)()
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            carry(here, killed)
        assert [order.state for order in read_orders(here.engine)] == ["running"]
    trainer = Trainer(IN_STAGING)
    assert carry(here, trainer).line == "order 1: done: version 8 is in Staging"
    assert [one.version for one in trainer.asked] == ["8"]
    assert [(order.state, order.attempts) for order in read_orders(here.engine)] == [("done", 3)]


def test_an_order_whose_labels_were_taken_back_waits_for_others(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    batch = released(here, tmp_path)
    away = Answer(None, "exit code 2: the tracking server is away", failed=True)
    assert carry(here, Trainer(away)).failed
    note_withdrawn(here.engine, batch, Withdrawal("bob", "labels of another stain", here.now))
    trainer = Trainer(IN_STAGING)
    waits = carry(here, trainer)
    assert not waits.failed and "it waits until somebody releases labelled images" in waits.line
    assert trainer.asked == []
    released(here, tmp_path, 2)
    assert carry(here, trainer).line == "order 1: done: version 8 is in Staging"


def test_an_order_waits_for_a_retraining_by_hand_and_that_is_no_attempt(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    released(here, tmp_path)
    busy = Answer(None, "another retraining is under way in this RESUNET_HOME", busy=True)
    trainer = Trainer(*[busy] * (ATTEMPTS + 1), IN_STAGING)
    for _ in range(ATTEMPTS + 1):
        done = carry(here, trainer)
        assert not done.failed and done.line == f"order 1 waits: {busy.outcome}"
    assert [(order.state, order.attempts) for order in read_orders(here.engine)] == [("open", 0)]
    assert carry(here, trainer).line == "order 1: done: version 8 is in Staging"


def test_an_alert_that_ends_while_its_order_cannot_be_begun_takes_it_back(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    released(here, tmp_path)

    def recovers_meanwhile(_attempt: Attempt) -> Answer:
        here.report(1, "no drift")
        here.look(TRAINS, DAY_0 + 2 * DAY + HOUR)
        return Answer(None, "another retraining is under way in this RESUNET_HOME", busy=True)

    carry(here, recovers_meanwhile)
    assert [order.state for order in read_orders(here.engine)] == ["withdrawn"]
    assert carry(here, Trainer()).line == "no retraining of resunet is ordered"


@pytest.mark.parametrize(("now", "promoted"), [(True, [True]), (False, [False]), (None, [])])
def test_what_an_order_does_is_what_its_policy_says_by_then(
    here: World, tmp_path: Path, now: bool | None, promoted: list[bool]
) -> None:
    drifted(here, 0, PROMOTES)
    batch = released(here, tmp_path)
    trainer = Trainer(IN_STAGING)
    carry_out(here.engine, "resunet", trainer, one_place, lambda: here.now, lambda: [batch], lambda _order: now)
    assert [one.order.promote for one in trainer.asked] == promoted
    assert [order.state for order in read_orders(here.engine)] == ["withdrawn" if now is None else "done"]


def test_an_order_that_was_withdrawn_meanwhile_is_not_begun(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifted(here, 0)
    batch = released(here, tmp_path)
    order = open_order(here.engine, "resunet")
    with here.engine.begin() as connection:
        withdraw(connection, 1, here.now)
    monkeypatch.setattr(carrying, "open_order", lambda *_: order)
    done = carry_out(here.engine, "resunet", Trainer(), one_place, lambda: here.now, lambda: [batch])
    assert done == Carried("order 1 was withdrawn just now")


def test_somebody_who_retrains_by_hand_meanwhile_settles_the_order(here: World, tmp_path: Path) -> None:
    drifted(here, 0)
    batch = released(here, tmp_path)
    here.now += HOUR
    note_use(here.engine, "9", "run", here.now, [batch], {})
    assert carry(here, Trainer()).line == "order 1: done: somebody has retrained it: version 9"


def test_an_order_that_nobody_began_ends_with_its_alert(here: World) -> None:
    drifted(here, 0)
    here.report(1, "no drift")
    here.look(TRAINS, DAY_0 + 2 * DAY + HOUR)
    assert [order.state for order in read_orders(here.engine)] == ["withdrawn"]
    # What was withdrawn does not count as the last one.
    drifted(here, 2)
    assert [order.state for order in read_orders(here.engine)] == ["withdrawn", "open"]


def test_who_orders_nothing_needs_no_table_of_orders(here: World) -> None:
    plain = policies("{name: input-drift, when: {verdict: drift}, recover: 1 window, actions: [{alert: {}}]}")
    drifted(here, 0, plain)
    here.report(1, "no drift")
    here.look(plain, DAY_0 + 2 * DAY + HOUR, others_are_gone=True)
    assert [event for _, event, _ in here.told()] == ["firing", "recovered"]
    assert read_orders(here.engine) == [] and not inspect(here.engine).has_table("retrain_orders")


def test_an_order_of_a_policy_that_is_gone_ends_with_it(here: World) -> None:
    drifted(here, 0)
    here.look(policies("{name: disk, when: {disk_free: {below: 0.1}}, actions: [{alert: {}}]}"), others_are_gone=True)
    assert [order.state for order in read_orders(here.engine)] == ["withdrawn"]


def test_who_lost_the_lease_writes_nothing(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drifted(here, 0)
    released(here, tmp_path)
    prepare(here.engine, jobs)
    monkeypatch.setenv(LEASE_VARIABLE, "3 retrain resunet")
    trainer = Trainer(IN_STAGING)
    with pytest.raises(LostLeaseError):
        carry(here, trainer)
    assert trainer.asked == [] and [order.state for order in read_orders(here.engine)] == ["open"]


def test_a_schedule_has_the_job_where_a_policy_retrains(tmp_path: Path) -> None:
    minutes, hours = timedelta(minutes=10), timedelta(hours=5)
    plain = jobs_of(Reporting(), known=(), home=tmp_path, limit=minutes)
    assert [job.name for job in plain] == ["report resunet 24h"]
    *_, job = jobs_of(Reporting(), known=(), home=tmp_path, limit=minutes, retrain=hours)
    assert (job.name, job.limit, job.after) == ("retrain resunet", hours, "alerts")
    assert job.command[1:] == ("monitoring", "alerts", "carry-out", "--model", "resunet")


def test_a_schedule_asks_the_policies_of_its_own_model(tmp_path: Path) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text(f"format: 1\npolicies:\n  - {RETRAIN % ''}\n")
    assert orders_retraining(file, "resunet") and not orders_retraining(file, "another")
    file.write_text("format: 1\npolicies: []\n")
    assert not orders_retraining(file, "resunet") and not orders_retraining(None, "resunet")


def last_body(here: World) -> str:
    return [one for one in waiting(here.engine) if one.event in ("firing", "repeat")][-1].body

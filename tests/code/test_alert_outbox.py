"""Two checkers, processes that die and a database that does: each change is written once, and told at least once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alert_scene import DAY, DAY_0, HOUR, drift, one_place, policies, world
from inboxes import send_directly, take, webhook
from sqlalchemy import make_url, text

from monitoring.alerts.check import check
from monitoring.alerts.decide import unseen
from monitoring.alerts.recipients import Recipients
from monitoring.alerts.reports import Reports
from monitoring.alerts.telling import Told, deliver
from records.engines import make_engine
from records.tables import prepare
from records.watch.alerts import (
    TABLES,
    Acknowledgement,
    acknowledge,
    open_alerts,
    read_alerts,
    save,
)
from records.watch.outbox import LEASE, Queued, claim, settle, waiting
from resunet.errors import RecordsError

RULES = policies(drift(alert="{repeat: 365d}"))
DISK = "{name: disk, when: {disk_free: {below: 0.1}}, actions: [{alert: {}}]}"
LATER = DAY_0 + DAY + HOUR


def queued(number: int) -> Queued:
    return Queued(
        alert_id=number,
        event="firing",
        recipient="default",
        number=1,
        kind="warning",
        subject="drift",
        body="drift\0",
        run_id=None,
        made=DAY_0,
    )


def test_of_two_who_saw_the_same_row_one_writes_and_tells(database_url: str) -> None:
    engine = make_engine(database_url)
    prepare(engine, *TABLES)
    new = unseen("input-drift", "resunet", "7", "", DAY_0)
    assert save(engine, new, lambda number: [queued(number)])
    assert not save(engine, new, lambda number: [queued(number)])
    [row] = read_alerts(engine)
    assert save(engine, replace(row, status="firing"), lambda number: [queued(number)])
    assert not save(engine, replace(row, status="pending"), lambda number: [queued(number)])
    [after] = read_alerts(engine)
    assert (after.status, after.revision, len(waiting(engine))) == ("firing", 2, 2)


def test_what_cannot_be_told_is_not_written_either(database_url: str) -> None:
    engine = make_engine(database_url)
    prepare(engine, *TABLES)

    def broken(number: int) -> list[Queued]:
        raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        save(engine, unseen("input-drift", "resunet", "7", "", DAY_0), broken)
    assert read_alerts(engine) == []


def test_a_message_has_one_sender_until_its_lease_runs_out(database_url: str) -> None:
    engine = make_engine(database_url)
    prepare(engine, *TABLES)
    save(engine, unseen("input-drift", "resunet", "7", "", DAY_0), lambda number: [queued(number)])
    [message] = waiting(engine)
    assert claim(engine, message, DAY_0) and not claim(engine, message, DAY_0 + LEASE / 2)
    again = claim(engine, message, DAY_0 + LEASE)
    assert again is not None and settle(engine, again, "waiting", DAY_0)
    last = claim(engine, message, DAY_0)
    assert last is not None and settle(engine, last, "delivered", DAY_0)
    assert not claim(engine, message, DAY_0 + 2 * LEASE) and waiting(engine) == []


def test_of_two_who_send_a_message_the_slower_one_takes_nothing_back(database_url: str) -> None:
    engine = make_engine(database_url)
    prepare(engine, *TABLES)
    save(engine, unseen("input-drift", "resunet", "7", "", DAY_0), lambda number: [queued(number)])
    [message] = waiting(engine)
    slow = claim(engine, message, DAY_0)
    fast = claim(engine, message, DAY_0 + LEASE)
    assert slow is not None and fast is not None
    # While the other one sends it, and when it is told.
    assert not settle(engine, slow, "given up", DAY_0 + LEASE)
    assert claim(engine, message, DAY_0 + LEASE + HOUR / 60) is None
    assert settle(engine, fast, "delivered", DAY_0 + LEASE)
    assert not settle(engine, slow, "waiting", DAY_0 + LEASE) and not settle(engine, fast, "waiting", DAY_0 + LEASE)
    assert waiting(engine) == []
    engine.dispose()


def test_many_checkers_at_once_write_and_queue_once(database_url: str) -> None:
    here = world(database_url)
    here.report(0, "drift")
    prepare(here.engine, *TABLES)
    ready = threading.Barrier(6)
    trouble = list[BaseException]()

    def checker() -> None:
        twin = world(database_url)
        ready.wait(60)
        try:
            twin.look(RULES, LATER)
        except BaseException as error:
            trouble.append(error)
        finally:
            twin.engine.dispose()

    checkers = [threading.Thread(target=checker) for _ in range(6)]
    for one in checkers:
        one.start()
    for one in checkers:
        one.join(120)
    assert trouble == []
    assert [event for _, event, _ in here.told()] == ["firing"]


def test_who_has_read_older_reports_than_the_one_who_wrote_last_takes_nothing_back(url: str) -> None:
    here, slow = world(url), world(url)
    here.report(0, "no drift")
    rules = policies(DISK, drift(alert="{repeat: 365d}"))
    here.look(rules, LATER)

    def meanwhile(_path: Path) -> float:
        here.report(1, "drift")
        here.look(rules, LATER + DAY)
        return 0.5

    slow.sources = replace(slow.sources, share_free=meanwhile)
    slow.look(rules, LATER + DAY)
    assert [alert.status for alert in open_alerts(here.engine)] == ["firing"]
    assert [event for _, event, _ in here.told()] == ["firing"]


def test_an_acknowledgement_needs_an_alert_that_fires(database_url: str) -> None:
    here = world(database_url)
    word = Acknowledgement("ada", "seen", DAY_0)
    with pytest.raises(RecordsError, match=r"there is no alert 1: .*alerts list"):
        acknowledge(here.engine, 1, word)
    here.report(0, "drift")
    here.look(RULES, LATER)
    assert acknowledge(here.engine, 1, word).acknowledged_by == "ada"
    here.report(1, "no drift")
    here.report(2, "no drift")
    here.look(RULES, LATER + 2 * DAY)
    with pytest.raises(RecordsError, match=r"alert 1 \(input-drift\) is not firing"):
        acknowledge(here.engine, 1, word)


def test_who_only_reads_finds_nothing_where_nothing_was_ever_checked(database_url: str) -> None:
    engine = make_engine(database_url)
    assert open_alerts(engine) == [] and waiting(engine) == []


@contextmanager
def dead(postgres: Any, url: str) -> Iterator[None]:
    """The database ends all its connections and takes no others, until the block ends."""
    name = make_url(url).database
    server = make_engine(postgres.get_uri(driver="psycopg"))
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
        )
        try:
            yield
        finally:
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    server.dispose()


def test_a_database_that_dies_in_mid_check_loses_and_doubles_nothing(postgres: Any, postgres_url: str) -> None:
    here = world(postgres_url)
    here.report(0, "drift")
    rules = policies(drift(alert="{repeat: 365d}"), DISK, drift().replace("input-drift", "another"))

    def looked_at_while_it_dies(_path: Path) -> float:
        stack.enter_context(dead(postgres, postgres_url))
        return 0.05

    with ExitStack() as stack:
        sources = replace(here.sources, share_free=looked_at_while_it_dies)
        with pytest.raises(RecordsError, match="cannot be used"):
            check(sources, rules, one_place, LATER)
    here.sources = replace(here.sources, share_free=lambda _path: 0.05)
    here.look(rules, LATER + HOUR)
    here.look(rules, LATER + 2 * HOUR)
    assert [(event, policy) for _, event, policy in here.told()] == [
        ("firing", "input-drift"),
        ("firing", "disk"),
        ("firing", "another"),
    ]


def test_a_database_that_dies_while_a_message_is_sent_has_it_sent_again(
    postgres: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: whether the first one arrived is written nowhere."""
    send_directly(monkeypatch)
    here = world(postgres_url)
    here.report(0, "drift")
    here.look(RULES, LATER)
    with ExitStack() as stack:
        deaths: list[Callable[[], object]] = [lambda: stack.enter_context(dead(postgres, postgres_url))]

        def die_once(handler: Any) -> None:
            if deaths:
                deaths.pop()()
            take(handler)

        with webhook(die_once) as hook:
            to = Recipients({"RESUNET_NOTIFY": hook.url}, 30.0)
            with pytest.raises(RecordsError, match="cannot be used"):
                deliver(here.engine, to, Reports(None), lambda: LATER)
            stack.close()
            assert deliver(here.engine, to, Reports(None), lambda: LATER) == Told(0, ())
            assert deliver(here.engine, to, Reports(None), lambda: LATER + LEASE) == Told(1, ())
            assert hook.get()["title"] == hook.get()["title"] and hook.inbox.empty()

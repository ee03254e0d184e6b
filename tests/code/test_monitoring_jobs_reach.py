"""A database that is there, away, and there again: told once each, tried again after pauses."""

import logging

import pytest
from sqlalchemy import Engine

from monitoring.jobs.reach import Reach
from records.log_database import open_log
from records.watch.leases import LostLeaseError
from resunet.errors import RecordsError


def test_a_database_that_is_away_is_told_once_and_tried_again_after_pauses(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    now, tried, there = [0.0], list[float](), [False]

    def opened() -> Engine:
        tried.append(now[0])
        if not there[0]:
            raise RecordsError("the database is away.")
        return open_log(url)

    reach = Reach(opened, clock=lambda: now[0])

    def used() -> bool:
        with reach.engine() as engine:
            return engine is not None
        return False

    with caplog.at_level(logging.WARNING, "monitoring.schedule"):
        while now[0] < 60:
            assert not used()
            now[0] += 0.5
        assert tried == [0.0, 1.0, 3.0, 7.0, 15.0, 30.0, 45.0]
        there[0] = True
        assert used() and used()
        assert len(tried) == 8
    assert [record.message for record in caplog.records] == [
        "the database is away. The schedule goes on, tries again, and makes up what it misses",
        "the database answers again: what was missed is made up",
    ]
    reach.open().dispose()


def test_an_error_on_it_opens_it_anew_and_a_lost_lease_does_not(url: str) -> None:
    now, tried = [0.0], list[float]()

    def opened() -> Engine:
        tried.append(now[0])
        return open_log(url)

    reach = Reach(opened, clock=lambda: now[0])
    with pytest.raises(LostLeaseError), reach.engine():
        raise LostLeaseError("it was taken over")
    with reach.engine() as engine:
        assert engine is not None
        raise RecordsError("the connection was cut")
    with reach.engine() as engine:
        assert engine is None
    now[0] = 1.0
    with reach.engine() as engine:
        assert engine is not None
        engine.dispose()
    assert tried == [0.0, 1.0]

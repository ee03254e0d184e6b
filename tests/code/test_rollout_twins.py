"""Requests that are answered twice: they never hold an answer back, and hold no more memory than they may."""

import threading
from datetime import UTC, datetime
from multiprocessing.connection import Listener
from pathlib import Path

import numpy as np
import pytest
from waiting import until

from serving.gateway.rollouts.seen import Seen
from serving.gateway.rollouts.shadow_work import agreement
from serving.gateway.rollouts.twins import HELD_BYTES, Kept, Twin, Twins
from serving.request import Options, Row
from serving.rollout.assignment import Assigned, Assignment, Epoch
from serving.rollout.cells import Answer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH = Epoch("r", 1)
ASSIGNED = Assigned(EPOCH, "production", 7, True)
GOOD = Answer(True, 40.0, 0.9)


def keep(twins: Twins, number: int = 0, size: int = 100) -> Kept | None:
    return twins.keep(Row(0, bytes(size), f"request {number}", None, None), np.zeros((8, 8), np.uint8))


def offer(twins: Twins, number: int = 0, size: int = 100) -> None:
    """As a request does that is answered at once."""
    kept = keep(twins, number, size)
    if kept is not None:
        twins.offer(Twin(ASSIGNED, kept, Options(None, "png"), NOON, GOOD))


def test_they_arrive_in_order(tmp_path: Path) -> None:
    address, twins = str(tmp_path / "twins"), Twins()
    with Listener(address, "AF_UNIX") as listener:
        twins.direct(address)
        for number in range(5):
            offer(twins, number)
        with listener.accept() as pipe:
            found = [pipe.recv() for _ in range(5)]
    twins.direct(None)
    assert [one.kept.row.request_id for one in found] == [f"request {number}" for number in range(5)]
    assert found[0].champion == GOOD and found[0].kept.mask.shape == (8, 8) and twins.skipped == 0


def test_what_nobody_takes_is_left_out_and_nothing_waits(tmp_path: Path) -> None:
    address, twins = str(tmp_path / "twins"), Twins()
    with Listener(address, "AF_UNIX"):  # who never accepts
        twins.direct(address)
        for number in range(40):
            offer(twins, number, HELD_BYTES // 10)
        assert twins.skipped >= 40 - 12
        assert twins._held <= HELD_BYTES
        twins.direct(None)
        until(lambda: twins._held <= HELD_BYTES // 9)  # but for what is being sent, which nobody takes


def test_the_largest_image_has_room_where_nothing_waits(tmp_path: Path) -> None:
    address, twins = str(tmp_path / "twins"), Twins()
    with Listener(address, "AF_UNIX") as listener:
        twins.direct(address)
        offer(twins, 0, 2 * HELD_BYTES)
        with listener.accept() as pipe:
            assert len(pipe.recv().kept.row.data) == 2 * HELD_BYTES
    twins.direct(None)


def test_a_shadow_that_is_not_there_yet_costs_what_is_offered_meanwhile(tmp_path: Path) -> None:
    address, twins = str(tmp_path / "twins"), Twins()
    twins.direct(address)
    offer(twins, 0)
    until(lambda: twins.skipped == 1)
    with Listener(address, "AF_UNIX") as listener:
        found: list[Twin] = []

        def take() -> None:
            with listener.accept() as pipe:
                found.append(pipe.recv())

        taking = threading.Thread(target=take)
        taking.start()
        offer(twins, 1)
        taking.join(60)
    twins.direct(None)
    assert found[0].kept.row.request_id == "request 1"


def test_what_requests_keep_until_they_are_answered_takes_room_and_gives_it_back(tmp_path: Path) -> None:
    address, twins = str(tmp_path / "twins"), Twins()
    with Listener(address, "AF_UNIX"):
        twins.direct(address)
        kept = [keep(twins, number, HELD_BYTES // 10) for number in range(40)]
        assert sum(one is not None for one in kept) == 9 and twins.skipped == 31
        kept.clear()  # their clients left before anything was offered
        assert twins._held == 0 and keep(twins) is not None
    twins.direct(None)


def test_of_images_larger_than_all_room_one_has_it_while_the_rest_is_little(tmp_path: Path) -> None:
    address, twins = str(tmp_path / "twins"), Twins()
    with Listener(address, "AF_UNIX"):
        twins.direct(address)
        little, large = keep(twins, 0, HELD_BYTES // 3), keep(twins, 1, 2 * HELD_BYTES)
        assert little is not None and large is not None
        assert keep(twins, 2, 2 * HELD_BYTES) is None and keep(twins, 3) is None
        del large
        assert keep(twins, 4, HELD_BYTES // 3) is not None
    twins.direct(None)


def test_without_a_shadow_nothing_is_kept() -> None:
    twins = Twins()
    offer(twins)
    assert not twins._waiting and twins.skipped == 0


def test_what_is_seen_is_taken_once_and_of_other_shares_not_at_all() -> None:
    seen = Seen()
    seen.record(ASSIGNED, GOOD)
    assert seen.take() is None  # there is no rollout
    seen.direct(Assignment(EPOCH, 0.0, 1.0, "request"))
    assert seen.take() is None
    seen.record(ASSIGNED, GOOD)
    seen.record_shadow(ASSIGNED, GOOD, Answer(False), None)
    seen.record(ASSIGNED._replace(epoch=Epoch("r", 2)), GOOD)
    taken = seen.take()
    assert taken is not None and seen.take() is None
    assert taken.routes["production"].requests == 1 and taken.routes["shadow"].errors == 1


@pytest.mark.parametrize(
    ("one", "other", "dice"),
    [
        ([[255, 255], [0, 0]], [[255, 0], [0, 0]], 2 / 3),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 1.0),
        ([[255, 0], [0, 0]], [[0, 0], [0, 0]], 0.0),
        ([[1, 2], [2, 0]], [[1, 2], [0, 0]], (1 + 2 / 3) / 2),
        ([[1, 2]], [[1], [2]], None),
        (None, [[1]], None),
    ],
)
def test_agreement_is_the_mean_dice_of_the_classes(
    one: list[list[int]] | None, other: list[list[int]], dice: float | None
) -> None:
    masks = [None if mask is None else np.array(mask, np.uint8) for mask in (one, other)]
    assert agreement(*masks) == (None if dice is None else pytest.approx(dice))

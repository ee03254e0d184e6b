"""The owner of a gateway alone: what serves whatever is away, and who is told of it how often."""

import errno
import os
from pathlib import Path

import pytest
from owner_scene import FOUR, ONE, THREE, TWO, OwnerScene, Store, store

from serving.gateway.fleet import Lane
from serving.gateway.owner import Health

__all__ = ["store"]
pytestmark = pytest.mark.usefixtures("store")
MINUTE = 60.0


@pytest.fixture
def scene(tmp_path: Path) -> OwnerScene:
    """One served, and then the gateway was restarted."""
    scene = OwnerScene(tmp_path)
    assert scene.live(ONE).look() == Health("ok", ONE, (), 0)
    return scene.restart()


def test_what_is_live_serves_and_is_followed(scene: OwnerScene) -> None:
    assert scene.look() == Health("ok", ONE, (), 0)
    assert scene.live(TWO).look() == Health("ok", TWO, (), 1)
    assert scene.look() == Health("ok", TWO, (), 1)
    assert scene.processes.prepared == [ONE.uri, TWO.uri] and not scene.alerts


def test_a_restart_while_the_registry_is_away_serves_the_last_good_version(scene: OwnerScene) -> None:
    scene.place.away = True
    health = scene.look()
    assert (health.status, health.serving) == ("degraded", ONE)
    assert health.troubles == ("the registry does not answer; version 1 of resunet goes on serving",)
    assert scene.live(TWO).look() == Health("ok", TWO, (), 1)


def test_a_restart_while_a_new_version_cannot_be_fetched_serves_the_last_good_one(
    scene: OwnerScene, store: Store
) -> None:
    store.away = "ConnectionError"
    health = scene.live(TWO).look()
    assert (health.status, health.serving) == ("degraded", ONE)
    (trouble,) = health.troubles
    assert "version 2 of resunet is live and cannot be fetched" in trouble and "ConnectionError" in trouble
    assert trouble.endswith("version 1 of resunet goes on serving")
    store.away = ""
    assert scene.look() == Health("ok", TWO, (), 1)


def test_a_restart_while_a_version_that_must_not_serve_is_live_serves_the_last_good_one(scene: OwnerScene) -> None:
    health = scene.live(TWO).breaks(TWO).look()
    assert (health.status, health.serving) == ("degraded", ONE)
    (trouble,) = health.troubles
    assert "version 2 of resunet is live and must not serve here: it does not give its golden output" in trouble
    assert scene.alerts == [trouble] and trouble.endswith("version 1 of resunet goes on serving")
    assert scene.live(ONE).look() == Health("ok", ONE, (), 0)


def test_a_restart_while_nothing_is_live_serves_the_last_good_version(scene: OwnerScene) -> None:
    health = scene.live(None).look()
    assert (health.status, health.serving) == ("degraded", ONE)
    assert health.troubles == ("nothing stands at models:/resunet/Production; version 1 of resunet goes on serving",)


def test_what_was_archived_stays_ended_where_that_was_asked_for(tmp_path: Path, store: Store) -> None:
    scene = OwnerScene(tmp_path, stop_when_archived=True)
    scene.live(ONE).look()
    for health in (scene.live(None).look(), scene.restart().look()):
        assert health == Health("down", None, ("nothing stands at models:/resunet/Production; nothing is served",), 0)
    scene.place.away = True  # it says nothing new about what was archived
    assert scene.look().serving is None
    assert scene.restart().look().serving is None
    store.away = "ConnectionError"
    assert scene.live(TWO).look().serving is None
    store.away = ""
    assert scene.live(TWO).look().status == "ok"
    scene.place.away = True
    assert scene.restart().look().serving == TWO


def test_a_disk_that_takes_nothing_does_not_keep_what_was_archived_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = OwnerScene(tmp_path, stop_when_archived=True)
    scene.live(ONE).look()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        health = scene.live(None).look()
        assert (health.status, health.serving) == ("down", None)
        assert any("No space left on device" in trouble for trouble in health.troubles)
        assert {path.name for path in tmp_path.glob("last_good*")} == {"last_good.json"}
    assert len(scene.look().troubles) == 1
    scene.place.away = True
    assert scene.restart().look().serving is None


def test_a_gateway_that_goes_on_is_not_ended_by_one_beside_it_that_stops(tmp_path: Path) -> None:
    stops, goes_on = OwnerScene(tmp_path, stop_when_archived=True), OwnerScene(tmp_path)
    for scene in (stops, goes_on):
        scene.live(ONE).look()
    assert stops.live(None).look().serving is None
    assert goes_on.live(None).restart().look().serving == ONE
    assert stops.live(ONE).look().serving == ONE
    stops.place.away = True
    assert stops.restart().look().serving == ONE


def test_a_live_version_that_fails_is_not_tried_again_as_its_own_copy(scene: OwnerScene) -> None:
    health = scene.breaks(ONE).look()
    assert health.status == "down" and scene.processes.prepared == [ONE.uri]
    assert health.troubles[0].endswith("it does not give its golden output. nothing is served")


def test_a_version_that_fails_is_tried_ever_more_seldom_and_told_of_once(scene: OwnerScene) -> None:
    scene.look()
    scene.live(TWO).breaks(TWO)
    tried = []
    for second in range(300):
        before = len(scene.processes.prepared)
        scene.look(after=1.0)
        if len(scene.processes.prepared) > before:
            tried.append(second)
    assert tried == [0, 30, 90, 210] and len(scene.alerts) == 1
    scene.live(THREE).breaks(THREE).look()
    scene.live(TWO).look()
    assert [alert[:9] for alert in scene.alerts] == ["version 2", "version 3", "version 2"]


def test_files_that_are_away_for_a_moment_are_nobody_s_business_and_for_a_minute_told_of_once(
    scene: OwnerScene, store: Store
) -> None:
    scene.look()
    for _ in range(3):  # each time for less than a minute
        store.away = "ConnectionError"
        for _ in range(5):
            assert scene.live(TWO).look(after=10).status == "degraded"
        store.away = ""
        assert scene.look().serving == TWO
        assert scene.live(ONE).look().status == "ok"
        scene.forget_copy(TWO)
    assert not scene.alerts
    store.away = "ConnectionError"
    scene.live(THREE).look()
    for number in range(30):  # the same, in other words
        store.away = ("ConnectionError", "ReadTimeout")[number % 2]
        assert scene.look(after=5).serving == ONE
        assert len(scene.alerts) == (number >= 11)
    assert "version 3 of resunet is live and cannot be fetched" in scene.alerts[0]
    scene.live(FOUR).look()
    scene.look(after=MINUTE)
    assert len(scene.alerts) == 2 and "version 4" in scene.alerts[1]


def test_a_registry_that_stays_away_is_told_of_once_each_time(scene: OwnerScene) -> None:
    scene.look()
    for outage in (1, 2):
        scene.place.away = True
        for second in range(300):
            scene.look(after=1.0)
            assert len(scene.alerts) == outage - 1 + (second >= MINUTE)
        assert scene.live(ONE).look().status == "ok"
    assert scene.alerts == ["the registry does not answer; version 1 of resunet goes on serving"] * 2


def test_a_damaged_copy_is_told_of_once_and_served_when_it_is_whole_again(scene: OwnerScene) -> None:
    graph = scene.copy_of(ONE) / "graph"
    whole = graph.read_text()
    graph.write_text("something else")
    scene.place.away = True
    for _ in range(5):
        health = scene.look(after=3.0)
        assert health.status == "down" and "kept on this machine, must not serve" in " ".join(health.troubles)
    assert len(scene.alerts) == 1
    graph.write_text(whole)
    health = scene.look(after=MINUTE)
    assert health.serving == ONE and health.status == "degraded" and len(health.troubles) == 1
    assert [alert for alert in scene.alerts if "kept on this machine" in alert] == scene.alerts[:1]


def test_a_copy_that_does_not_load_is_tried_ever_more_seldom_too(scene: OwnerScene) -> None:
    scene.breaks(ONE).place.away = True
    for _ in range(89):
        assert scene.look(after=1.0).status == "down"
    assert scene.processes.prepared == [ONE.uri] * 2 and len(scene.alerts) == 2  # of the copy, and of the registry


def test_a_failure_that_was_not_foreseen_is_a_sentence_too(scene: OwnerScene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(lane: Lane, folder: Path) -> None:
        raise RuntimeError("of a library")

    monkeypatch.setattr(scene.processes, "prepare", fail)
    for live in (lambda: setattr(scene.place, "away", True), lambda: scene.live(TWO)):
        live()
        assert scene.look(after=MINUTE).status == "down"
    assert len(scene.alerts) == 2
    assert all("RuntimeError" in alert and "of a library" not in alert for alert in scene.alerts)


def test_nothing_is_said_any_more_of_a_version_that_is_no_longer_live(scene: OwnerScene) -> None:
    scene.live(TWO).breaks(TWO).look()
    (trouble,) = scene.live(None).look().troubles
    assert "nothing stands at" in trouble

"""The director: what a rollout decides is done by others, in order, and again after a restart."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from director_scene import THREE, TWO, Scene
from rollout_scene import TEXT

from serving.gateway.releases import Release
from serving.gateway.rollouts.director import _Wanted
from serving.gateway.rollouts.standing import Standing
from serving.rollout.state import RolloutError, Version


@pytest.fixture(autouse=True)
def digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version's digest is its number."""

    def version(standing: Standing, release: Release) -> Version:
        standing._shelf.fetch(release)
        return Version(release.version, f"sha256:{release.version}")

    monkeypatch.setattr(Standing, "version_of", version)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_stages_are_carried_out_one_after_the_other(scene: Scene) -> None:
    assert scene.director.order("start", "ada", "a new stain")["phase"] == "shadow"
    assert scene.all.heard() == [("shadow", "2"), ("direct", (0.0, 0.1), "socket")]
    assert scene.later(1)["phase"] == "shadow" and scene.all.heard() == []
    shares = []
    for phase in ("canary", "canary", "canary", "finishing"):
        scene.see()
        told = scene.later()
        assert told["phase"] == phase, told["waiting"]
        shares.append(told["canary"])
    assert shares == [0.01, 0.25, 0.5, 0.5]
    assert scene.all.heard() == [
        *(("prepare", "canary", "2"), ("switch", "canary")),
        *(("direct", (share, 0.0), None) for share in (0.01, 0.25, 0.5)),
    ]
    assert "all stages are through" in scene.alerts[-1]
    scene.director.order("finish", "ada", "")
    assert scene.all.heard() == [("promote", "2")]
    scene.live = TWO
    assert scene.later()["phase"] == "finished"
    assert scene.all.heard() == [("direct", None, None), ("forget", "canary")]


def test_a_gateway_that_has_only_just_started_is_asked_and_answers(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(scene.director.order, "status", "ada", "")
        with pytest.raises(TimeoutError):
            told.result(0.2)
        scene.director.tick()
        assert told.result(10)["phase"] == "idle"


def test_what_was_seen_of_other_shares_does_not_count(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.see()
    late, scene.all.seen = scene.all.seen, []
    scene.director.order("abort", "ada", "")
    scene.director.order("start", "ada", "")
    scene.all.seen = late
    scene.later(0)
    assert scene.director.order("status", "ada", "")["routes"]["shadow"]["requests"] == 0


def test_harm_ends_it_and_somebody_is_told(scene: Scene) -> None:
    scene.policy.write_text(TEXT.replace("share: 0.1", "share: 0.0", 1))
    scene.director.order("start", "ada", "")
    scene.all.heard()
    scene.see(failing=0.5)
    assert scene.later()["phase"] == "aborted"
    assert scene.all.heard() == [("direct", None, None), ("forget", "canary")]
    assert "does harm: errors" in scene.alerts[-1]
    assert not scene.cache.pinned


def test_a_shadow_that_ends_by_itself_ends_the_rollout(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.all.trouble = "its process ended by itself (exit code -11)"
    assert scene.later()["phase"] == "aborted"
    assert "exit code -11" in scene.alerts[-1]


def test_a_version_that_must_not_serve_here_is_taken_back_before_it_answers(scene: Scene) -> None:
    scene.policy.write_text(TEXT.replace("share: 0.1", "share: 0.0", 1))
    scene.all.breaks = True
    scene.director.order("start", "ada", "")
    told = scene.later(0)
    assert told["phase"] == "aborted" and "golden output" in told["events"][-1]["reason"]
    assert ("direct", None, None) in scene.all.heard()


def test_what_the_registry_refused_is_told_and_the_canary_goes_on(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.director.order("finish", "ada", "")
    scene.all.said = "the gate floor blocks"
    told = scene.later()
    assert told["phase"] == "finishing" and told["refused"]
    assert "the gate floor blocks" in scene.alerts[-1]


def test_a_killed_gateway_does_again_what_was_decided(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.see()
    scene.later()
    scene.director.order("finish", "ada", "")
    scene.killed()
    scene.later(0)
    assert scene.all.heard() == [
        ("prepare", "canary", "2"),
        ("switch", "canary"),
        ("direct", (0.01, 0.0), None),
        ("promote", "2"),
    ]


def test_evidence_survives_the_process(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.see(100)
    before = scene.later(0)["routes"]["shadow"]["requests"]
    scene.director.stop()
    scene.director = scene.new()
    assert scene.later(0)["routes"]["shadow"]["requests"] == before == 100


def test_while_the_registry_is_away_nothing_goes_on_but_harm_ends_it(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.stage.away = True
    scene.director.look()
    scene.see()
    assert scene.later()["phase"] == "shadow"
    scene.see(failing=0.5)
    assert scene.later()["phase"] == "aborted"  # harm is harm, whatever stands where


def test_started_again_without_the_registry_it_waits_for_it(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.director.stop()
    scene.all.heard()
    scene.stage.away, scene.director = True, scene.new()
    assert scene.later()["phase"] == "shadow" and scene.all.heard() == []
    scene.stage.away = False
    scene.later()
    assert scene.all.heard() == [("shadow", "2"), ("direct", (0.0, 0.1), "socket")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda scene: setattr(scene.stage, "release", THREE), "version 3 is in Staging"),
        (lambda scene: setattr(scene.stage, "release", None), "no longer in Staging"),
        (lambda scene: setattr(scene, "live", THREE), "version 3 is in Production"),
    ],
)
def test_another_version_in_either_stage_ends_it(scene: Scene, change: Callable[[Scene], None], told: str) -> None:
    scene.director.order("start", "ada", "")
    change(scene)
    after = scene.later()
    assert after["phase"] == "superseded" and told in after["events"][-1]["reason"]
    assert ("direct", None, None) in scene.all.heard()


def test_one_gateway_at_a_time_has_the_rollout(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    other = scene.new()
    with pytest.raises(RolloutError, match="another gateway"):
        other.order("abort", "bob", "")
    scene.director.stop()
    assert other.order("abort", "bob", "odd masks")["phase"] == "aborted"


def test_a_damaged_file_is_told_and_left_alone(scene: Scene) -> None:
    file = scene.folder / "rollout.json"
    file.write_text("{")
    with pytest.raises(RolloutError, match="damaged"):
        scene.director.order("start", "ada", "")
    scene.director.tick()
    assert "damaged" in scene.director.troubles[0] and file.read_text() == "{"
    file.unlink()
    assert scene.director.order("start", "ada", "")["phase"] == "shadow" and not scene.director.troubles


def test_a_mistake_in_the_policy_is_told_while_nothing_is_rolled_out(scene: Scene) -> None:
    scene.director.tick()
    scene.policy.write_text(TEXT.replace("alpha", "alfa"))
    scene.director.tick()
    assert "policy.yaml, line" in scene.director.troubles[0]


def test_nothing_in_staging_is_nothing_to_roll_out(scene: Scene) -> None:
    scene.stage.release = None
    with pytest.raises(RolloutError, match="no version is in Staging"):
        scene.director.order("start", "ada", "")


def test_who_decided_and_why_is_kept(scene: Scene) -> None:
    scene.director.order("start", "ada", "a new stain")
    events = scene.director.order("abort", "bob", "odd masks")["events"]
    assert "by ada: a new stain" in events[0]["reason"] and events[-1]["reason"] == "by bob: odd masks"


def test_what_is_aborted_is_not_promoted_any_more(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.director.order("finish", "ada", "")
    scene.director.order("abort", "bob", "")
    assert scene.all.heard()[-3:] == ["cancelled", ("direct", None, None), ("forget", "canary")]
    scene.later()
    assert scene.all.heard() == []


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        (lambda scene: setattr(scene, "live", TWO), "finished"),
        (lambda scene: setattr(scene.stage, "release", None), "superseded"),
        (lambda scene: setattr(scene.stage, "release", THREE), "superseded"),
    ],
    ids=["it was promoted", "it was taken out", "another one came"],
)
def test_what_became_of_it_while_the_gateway_was_down_is_seen_before_anything_is_done_again(
    scene: Scene, change: Callable[[Scene], None], phase: str
) -> None:
    scene.director.order("start", "ada", "")
    scene.director.order("finish", "ada", "")
    scene.killed()
    change(scene)
    assert scene.later(0)["phase"] == phase
    assert scene.all.heard() == [("direct", None, None), ("forget", "canary")]


def test_what_fails_for_a_reason_of_the_machine_is_done_again(scene: Scene) -> None:
    scene.all.full = True
    with pytest.raises(OSError, match="no space"):
        scene.director.order("start", "ada", "")
    with pytest.raises(OSError, match="no space"):
        scene.later(0)
    scene.all.full = False
    assert scene.later(0)["phase"] == "shadow"
    assert scene.all.heard() == [("shadow", "2"), ("direct", (0.0, 0.1), "socket")]


def test_a_process_that_dies_while_it_has_the_candidate_ends_the_rollout(scene: Scene) -> None:
    scene.policy.write_text(TEXT.replace("share: 0.1", "share: 0.0", 1))
    scene.all.deaths = 3
    scene.director.order("start", "ada", "")
    assert scene.later(0)["phase"] == "canary"
    scene.all.deaths += 1
    assert scene.later(0)["phase"] == "aborted"


def test_a_gateway_that_crashes_again_and_again_with_the_candidate_goes_on_without_it(scene: Scene) -> None:
    scene.policy.write_text(TEXT.replace("share: 0.1", "share: 0.0", 1))
    scene.director.order("start", "ada", "")
    scene.killed()
    assert scene.later(0)["phase"] == "canary"
    scene.director.stop()  # in order: that is no crash
    scene.director = scene.new()
    assert scene.later(0)["phase"] == "canary"
    scene.killed()
    told = scene.later(0)
    assert told["phase"] == "aborted" and "2 times" in told["events"][-1]["reason"]


def test_who_wants_it_to_end_does_not_wait_for_it_to_begin(scene: Scene) -> None:
    scene.policy.write_text(TEXT.replace("share: 0.1", "share: 0.0", 1))

    def somebody_aborts() -> None:
        scene.director._orders.put(_Wanted("abort", "by bob", None))

    scene.all.meanwhile = somebody_aborts
    scene.director.order("start", "ada", "")
    assert ("direct", (0.01, 0.0), None) not in scene.all.heard()
    assert scene.later(0)["phase"] == "aborted"


def test_a_candidate_on_its_way_to_production_is_in_neither_stage_for_a_moment(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.stage.release, scene.stage.elsewhere = None, "Production"
    assert scene.later(0)["phase"] == "shadow"
    scene.live = TWO
    assert scene.later(0)["phase"] == "finished"


def test_what_is_asked_while_it_is_busy_is_answered_at_once(scene: Scene) -> None:
    scene.director.order("start", "ada", "")
    scene.see()
    busy, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        busy.set()
        assert go_on.wait(60)

    scene.all.meanwhile = hang
    scene.now += timedelta(minutes=61)
    working = threading.Thread(target=scene.director.tick)
    working.start()
    assert busy.wait(60)
    assert scene.director.order("status", "ada", "")["phase"] == "shadow"
    assert scene.director.brief is not None and not scene.director.troubles
    go_on.set()
    working.join(60)

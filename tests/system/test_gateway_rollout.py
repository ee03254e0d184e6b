"""A version is rolled out beside the one that is live, by real processes: shadow, canary, and back again."""

import base64
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from gateway_scene import DEADLINE_S, IMAGE, NAME, ROOT, Gateway, GatewayScene
from records_rows import stored_rows
from version_factory import draw, encode, make_spec
from waiting import until

from serving.access.keys import KeyStore, keys_path

TENSOR = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(IMAGE).decode()]}
PNG = {"Content-Type": "image/png"}
QUICK = """\
format: 1
sticky: request
shadow: {share: 1.0, requests: 20, minutes: 0, rules_out: 80}
canary:
  - {share: 0.5, requests: 20, minutes: 0, rules_out: 80}
limits: {error_rate: 0.01, latency_ratio: 1.2, confidence_drop: 0.02}
finish: {promote: false}
"""
SHADOW_ONLY = QUICK.replace("requests: 20, minutes: 0", "requests: 100000, minutes: 0", 1)
CANARY_ONLY = QUICK.replace("share: 1.0", "share: 0.0").replace(
    "- {share: 0.5, requests: 20", "- {share: 0.5, requests: 100000"
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayScene]:
    scene = GatewayScene(tmp_path_factory.mktemp("rolled out"))
    scene.start_tracking()
    yield scene
    scene.stop_tracking()


@pytest.fixture(scope="module")
def made(scene: GatewayScene) -> list[str]:
    """Two versions that are equally good."""
    return [scene.add_version(), scene.add_version()]


@pytest.fixture
def two(scene: GatewayScene, made: list[str]) -> tuple[str, str]:
    """The first is in Production, and the second in Staging."""
    champion, candidate = made
    return scene.promote(champion), scene.promote(candidate, "Staging")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


def running(scene: GatewayScene, policy: Path, text: str, *options: str, **more: str) -> Any:
    policy.write_text(text)
    where = {"RESUNET_GATEWAY_ROLLOUT_POLICY": str(policy), "RESUNET_HOME": str(policy.parent / "home")}
    return scene.gateway(*options, **(where | more))


def rollout(scene: GatewayScene, gateway: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving", "rollout", *words, "--gateway", gateway.url]
    return subprocess.run(
        command, cwd=ROOT, env=scene.environment(), capture_output=True, text=True, timeout=DEADLINE_S
    )


def begun(gateway: Gateway, reason: str = "") -> dict[str, Any]:
    answer = gateway.http.post("/rollout/start", json={"reason": reason})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def status(gateway: Gateway) -> dict[str, Any]:
    told: dict[str, Any] = gateway.http.get("/rollout").json()
    return told


def asked(gateway: Gateway, count: int = 20, **headers: str) -> list[httpx.Response]:
    answers = [gateway.http.post("/segment", content=IMAGE, headers=PNG | headers) for _ in range(count)]
    assert {answer.status_code for answer in answers} <= {200, 500}, Counter(answer.text for answer in answers)
    return answers


def given(gateway: Gateway, **headers: str) -> set[str]:
    """Versions of some answers, none of which failed."""
    answers = asked(gateway, **headers)
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["X-Model-Version"] for answer in answers}


def asked_until(gateway: Gateway, phase: str) -> dict[str, Any]:
    """Ask until the rollout is there."""
    found: dict[str, Any] = {}

    def there() -> bool:
        asked(gateway, 5)
        found.update(status(gateway))
        return found["phase"] == phase

    until(there, lambda: f"{found}\n{gateway.words()}", DEADLINE_S, every=0.05)
    return found


def shadow_of(gateway: Gateway) -> psutil.Process:
    found = [
        child for child in psutil.Process(gateway.process.pid).children() if "spawn_main" in " ".join(child.cmdline())
    ]
    assert len(found) == 1
    return found[0]


def unsure() -> Any:
    spec = make_spec()
    calibration = spec.calibration.model_copy(update={"confidence_y": [0.01, 0.2]})
    return spec.model_copy(update={"calibration": calibration})


def test_a_good_version_goes_from_the_shadow_to_some_callers_and_waits_for_a_person(
    scene: GatewayScene, policy: Path, two: tuple[str, str]
) -> None:
    champion, candidate = two
    with running(scene, policy, QUICK) as gateway:
        assert status(gateway)["phase"] == "idle"
        started = rollout(scene, gateway, "start", "--reason", "new stain")
        assert started.returncode == 0, started.stderr
        assert f"version {candidate} beside version {champion}: shadow" in started.stdout
        assert given(gateway) == {champion}
        seen = asked_until(gateway, "finishing")
        assert [event["phase"] for event in seen["events"]] == ["shadow", "canary", "finishing"]
        assert "Dice between the masks 1.000" in seen["events"][1]["reason"]
        assert Counter(answer.headers["X-Model-Version"] for answer in asked(gateway, 40)).keys() == {
            champion,
            candidate,
        }
        shown = " ".join(rollout(scene, gateway, "status").stdout.split())
        assert "finishing" in shown and "rollout finish" in shown
        reasons = [event["reason"] for event in seen["events"]]
        assert "new stain" in reasons[0] and "127.0.0.1" in reasons[0]
        assert gateway.health()["rollout"]["phase"] == "finishing"
        refused = gateway.http.post("/rollout/start")
        assert refused.status_code == 409 and "rollout abort" in refused.json()["message"]
        assert rollout(scene, gateway, "abort").returncode == 0
        assert {answer.headers["X-Model-Version"] for answer in asked(gateway, 40)} == {champion}
        assert rollout(scene, gateway, "abort").returncode == 2
    rows = stored_rows(f"sqlite:///{scene.folder / 'log.db'}")
    by_route = {route: [row for row in rows if row.route == route] for route in ("production", "canary", "shadow")}
    assert {row.model_version for row in by_route["production"]} == {champion}
    assert {row.model_version for row in by_route["canary"] + by_route["shadow"]} == {candidate}
    assert {row.request_id for row in by_route["shadow"]} <= {row.request_id for row in by_route["production"]}
    assert all(row.latency_ms > 0 and row.status == "ok" for row in by_route["shadow"])
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    twins = [line for line in lines if line["message"] == "twin"]
    assert twins and {line["request_id"] for line in twins} <= {row.request_id for row in by_route["production"]}
    for line in twins:  # of both, as of the same image by the same network
        assert line["champion_ok"] and line["candidate_ok"] and line["dice"] == 1.0
        assert line["champion_confidence"] == pytest.approx(line["candidate_confidence"], abs=1e-3)
        assert line["champion_milliseconds"] > 0 and line["candidate_milliseconds"] > 0


def test_a_caller_keeps_its_version(scene: GatewayScene, policy: Path, two: tuple[str, str]) -> None:
    champion, candidate = two
    with running(scene, policy, CANARY_ONLY.replace("sticky: request", "sticky: header:X-Session")) as gateway:
        begun(gateway)
        sessions = map(str, range(10_000))
        until(lambda: candidate in given(gateway, **{"X-Session": next(sessions)}), gateway.words, DEADLINE_S)
        versions_of = {
            session: {answer.headers["X-Model-Version"] for answer in asked(gateway, 4, **{"X-Session": session})}
            for session in map(str, range(30))
        }
        assert {len(versions) for versions in versions_of.values()} == {1}
        assert {version for versions in versions_of.values() for version in versions} == {champion, candidate}
        named = {
            gateway.http.post(
                f"/v2/models/{NAME}/versions/{version}/infer",
                content=json.dumps({"inputs": [TENSOR]}),
                headers={"X-Session": "7"},
            ).headers["X-Model-Version"]
            for version in (champion, candidate)
        }
        assert named == {champion, candidate}


def test_a_version_that_fails_on_some_images_is_taken_back(
    scene: GatewayScene, policy: Path, two: tuple[str, str]
) -> None:
    champion, _ = two
    candidate = scene.promote(scene.add_version(least_side=100), "Staging")
    with running(scene, policy, CANARY_ONLY) as gateway:
        begun(gateway)
        told = asked_until(gateway, "aborted")
        assert f"version {candidate} does harm: errors" in told["events"][-1]["reason"]
        assert given(gateway) == {champion}


def test_a_version_that_is_less_sure_is_taken_back_out_of_the_shadow(
    scene: GatewayScene, policy: Path, two: tuple[str, str]
) -> None:
    champion, _ = two
    scene.promote(scene.add_version(spec=unsure()), "Staging")
    with running(scene, policy, SHADOW_ONLY) as gateway:
        begun(gateway)
        told = asked_until(gateway, "aborted")
        assert "does harm: confidence" in told["events"][-1]["reason"]
        assert given(gateway) == {champion}


def test_a_shadow_that_fails_or_hangs_or_dies_costs_no_answer(
    scene: GatewayScene, policy: Path, two: tuple[str, str]
) -> None:
    champion, _ = two
    with running(scene, policy, SHADOW_ONLY) as gateway:
        begun(gateway)
        until(lambda: asked(gateway, 5) and status(gateway)["agreement"]["count"] > 0, gateway.words, DEADLINE_S)
        shadow = shadow_of(gateway)
        assert shadow.nice() == 19
        shadow.suspend()
        large = encode(draw(1500, 1500))

        def skipped() -> bool:
            assert gateway.http.post("/segment", content=large, headers=PNG).status_code == 200
            lines = gateway.http.get("/metrics").text.splitlines()
            return float(next(line for line in reversed(lines) if "shadow_skipped" in line).split()[-1]) > 0

        until(skipped, gateway.words, DEADLINE_S, every=0)
        shadow.kill()
        told = asked_until(gateway, "aborted")
        assert "its process ended by itself" in told["events"][-1]["reason"]
        assert given(gateway) == {champion}


def test_a_gateway_that_is_killed_goes_on_where_the_rollout_was(
    scene: GatewayScene, policy: Path, two: tuple[str, str]
) -> None:
    _, candidate = two
    with running(scene, policy, CANARY_ONLY) as gateway:
        before = begun(gateway)
        until(lambda: candidate in given(gateway), gateway.words, DEADLINE_S)
        until(lambda: status(gateway)["routes"]["canary"]["requests"] > 0, gateway.words, DEADLINE_S)
        gateway.kill()
    with running(scene, policy, CANARY_ONLY) as gateway:
        until(lambda: status(gateway).get("phase") == "canary", gateway.words, DEADLINE_S)
        assert status(gateway)["id"] == before["id"]
        until(lambda: candidate in given(gateway), gateway.words, DEADLINE_S)


def test_another_version_in_staging_ends_it(scene: GatewayScene, policy: Path, two: tuple[str, str]) -> None:
    champion, _ = two
    with running(scene, policy, CANARY_ONLY) as gateway:
        begun(gateway)
        other = scene.promote(scene.add_version(), "Staging")
        told = asked_until(gateway, "superseded")
        assert f"version {other} is in Staging" in told["events"][-1]["reason"]
        assert given(gateway) == {champion}


def test_a_policy_is_changed_while_it_runs_and_a_mistake_in_it_is_told(
    scene: GatewayScene, policy: Path, two: tuple[str, str]
) -> None:
    _, candidate = two
    with running(scene, policy, CANARY_ONLY) as gateway:
        begun(gateway)
        policy.write_text(CANARY_ONLY.replace("share: 0.5", "share: 0.9"))
        until(lambda: status(gateway)["canary"] == 0.9, gateway.words, DEADLINE_S)
        assert Counter(answer.headers["X-Model-Version"] for answer in asked(gateway, 60))[candidate] > 40
        policy.write_text(CANARY_ONLY.replace("alpha", "alfa").replace("share: 0.5", "share: 1.5"))
        health = until(lambda: (now := gateway.health())["troubles"] and now, gateway.words, DEADLINE_S)
        assert health["status"] == "degraded" and "policy.yaml, line 5" in health["troubles"][0]
        assert status(gateway)["canary"] == 0.9


def test_all_processes_share_one_rollout(scene: GatewayScene, policy: Path, two: tuple[str, str]) -> None:
    champion, candidate = two
    with running(scene, policy, QUICK, "--workers", "2") as gateway:

        def session(number: int) -> set[str]:
            answers = (
                httpx.post(f"{gateway.url}/segment", content=IMAGE, headers=PNG, timeout=DEADLINE_S, trust_env=False)
                for _ in range(8)
            )
            return {answer.headers["X-Model-Version"] for answer in answers}

        begun(gateway)
        with ThreadPoolExecutor(4) as pool:

            def there() -> bool:
                return set().union(*pool.map(session, range(4))) == {champion, candidate}

            until(there, lambda: f"{status(gateway)}\n{gateway.words()}", DEADLINE_S)
        told = asked_until(gateway, "finishing")
        assert told["routes"]["canary"]["requests"] >= 20
        assert rollout(scene, gateway, "abort").returncode == 0
        assert given(gateway) == {champion}


def test_who_may_order_a_rollout_needs_the_key_for_it(scene: GatewayScene, policy: Path) -> None:
    home = scene.folder / "home of keys"
    store = KeyStore(keys_path(home))
    tokens = {scope: store.add(scope, {scope})[1] for scope in ("predict", "metrics", "admin")}
    with running(scene, policy, CANARY_ONLY, RESUNET_HOME=str(home)) as gateway:
        for scope, token in tokens.items():
            headers = {"Authorization": f"Bearer {token}"}
            assert (gateway.http.get("/rollout", headers=headers).status_code == 200) == (scope != "predict")
            started = gateway.http.post("/rollout/abort", headers=headers).status_code
            assert started == (409 if scope == "admin" else 403)


def test_a_version_that_is_through_promotes_itself_if_the_gates_let_it(
    scene: GatewayScene, policy: Path, two: tuple[str, str]
) -> None:
    _, candidate = two
    gates = policy.with_name("gates.yaml")
    gates.write_text("format: 1\nstages:\n  Production: {intact: , floor: {dice: 0.7}}\n")
    by_itself = QUICK.replace("promote: false", "promote: true")
    with running(scene, policy, by_itself, RESUNET_POLICY=str(gates)) as gateway:
        begun(gateway)
        told = asked_until(gateway, "finishing")
        until(
            lambda: "nobody noted where the data set" in status(gateway)["events"][-1]["reason"],
            lambda: f"{status(gateway)}\n{gateway.words()}",
            DEADLINE_S,
        )
        gates.write_text("format: 1\nstages:\n  Production: {intact: }\n")
        assert rollout(scene, gateway, "finish").returncode == 0
        told = asked_until(gateway, "finished")
        assert f"version {candidate} is in Production" in told["events"][-1]["reason"]
        gateway.follows_to(candidate)
        assert not gateway.health()["troubles"]

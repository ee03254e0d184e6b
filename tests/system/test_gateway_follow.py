"""A real gateway follows a real registry: promotions, rollbacks, versions that must not serve, servers away."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from gateway_scene import DEADLINE_S, NAME, ROOT, GatewayScene
from inboxes import webhook
from records_rows import stored_ids
from waiting import until

from records.digests import write_digests

pytestmark = pytest.mark.usefixtures("gateway_registry")


@pytest.fixture
def scene(gateway_registry: GatewayScene) -> GatewayScene:
    return gateway_registry


def test_a_promotion_and_a_rollback_are_followed_and_no_request_is_lost(scene: GatewayScene) -> None:
    first, second = scene.promote(scene.add_version()), scene.add_version()
    with scene.gateway() as gateway:
        assert gateway.version() == first
        ends, failed, seen = threading.Event(), [], set()

        def client() -> None:
            while not ends.is_set():
                answer = gateway.ask()
                seen.add(answer.headers.get("X-Model-Version"))
                if answer.status_code != 200:
                    failed.append(answer.text)

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client) for _ in range(4)]
            for version in (second, first, second):
                scene.promote(version)
                gateway.follows_to(version)
            ends.set()
            for one in clients:
                one.result()
        assert not failed and seen == {first, second}
        assert gateway.health()["swaps"] == 3


def test_a_version_that_does_not_give_its_golden_output_is_not_served(scene: GatewayScene) -> None:
    good = scene.promote(scene.add_version())
    with scene.gateway() as gateway:
        broken = scene.promote(scene.add_version(broken=True))
        until(lambda: gateway.health()["troubles"], gateway.words, DEADLINE_S)
        health = gateway.health()
        assert (health["status"], health["version"]) == ("degraded", good)
        assert f"version {broken} of {NAME} is live and must not serve here" in health["troubles"][0]
        assert "golden" in health["troubles"][0] and f"version {good} of {NAME} goes on" in health["troubles"][0]
        assert gateway.version() == good
        better = scene.promote(scene.add_version())
        gateway.follows_to(better)
        assert gateway.health()["status"] == "ok"


def test_somebody_is_told_once_of_a_version_that_must_not_serve(scene: GatewayScene) -> None:
    good = scene.promote(scene.add_version())
    with webhook() as hook, scene.gateway(RESUNET_NOTIFY=hook.url, NO_PROXY="127.0.0.1") as gateway:
        broken = scene.promote(scene.add_version(broken=True))
        told = hook.get()
        assert told["type"] == "failure" and f"version {broken} of {NAME}" in told["message"]
        assert f"version {good} of {NAME} goes on" in told["message"]
        better = scene.promote(scene.add_version())
        gateway.follows_to(better)
        assert hook.inbox.empty()


def test_a_version_whose_stored_bytes_were_changed_is_not_served(scene: GatewayScene) -> None:
    good = scene.promote(scene.add_version())
    with scene.gateway() as gateway:
        changed = scene.add_version()
        source = scene.client.get_model_version_download_uri(NAME, changed).removeprefix("mlflow-artifacts:/")
        graph = scene.artifacts / source / "artifacts" / "version" / "model.onnx"
        graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
        scene.promote(changed)
        until(lambda: gateway.health()["troubles"], gateway.words, DEADLINE_S)
        assert "model.onnx" in gateway.health()["troubles"][0]
        assert gateway.version() == good
    with scene.gateway() as gateway:  # from its own copy
        assert gateway.version() == good and gateway.health()["status"] == "degraded"
        assert f"version {changed} of {NAME}" in gateway.health()["troubles"][0]


def test_the_code_of_a_version_is_never_run(scene: GatewayScene, tmp_path_factory: pytest.TempPathFactory) -> None:
    mark = tmp_path_factory.mktemp("mark") / "run"
    version = scene.promote(scene.add_version())
    with scene.gateway() as gateway:
        version = scene.add_version()
        root = scene.artifacts / scene.client.get_model_version_download_uri(NAME, version).removeprefix(
            "mlflow-artifacts:/"
        )
        for code in [root / "model_code.py", *root.glob("code/**/*.py")]:
            code.write_text(f"open({str(mark)!r}, 'w').close()\n" + code.read_text())
        write_digests(root)
        scene.promote(version)
        gateway.follows_to(version)
    assert not mark.exists()


def test_while_the_tracking_server_is_away_it_serves_and_comes_up_from_its_own_copy(scene: GatewayScene) -> None:
    version = scene.promote(scene.add_version())
    try:
        with scene.gateway() as gateway:
            scene.stop_tracking()
            until(lambda: gateway.health()["status"] == "degraded", gateway.words, DEADLINE_S)
            assert "the registry does not answer" in gateway.health()["troubles"][0]
            assert gateway.version() == version
            gateway.kill()
        with scene.gateway() as gateway:
            assert gateway.version() == version
            assert gateway.health()["status"] == "degraded"
            scene.start_tracking()
            until(lambda: gateway.health()["status"] == "ok", gateway.words, DEADLINE_S)
            newer = scene.promote(scene.add_version())
            gateway.follows_to(newer)
    finally:
        scene.start_tracking()


def test_its_own_copy_is_not_served_when_it_was_changed(scene: GatewayScene) -> None:
    version = scene.promote(scene.add_version())
    with scene.gateway() as gateway:
        assert gateway.version() == version
    (folder,) = scene.versions.glob(f"*-{version}-*")
    graph = folder / "artifacts" / "version" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    scene.stop_tracking()
    try:
        with scene.gateway("--wait") as gateway:
            assert gateway.ask().status_code == 503
            assert "model.onnx" in " ".join(gateway.health()["troubles"])
    finally:
        scene.start_tracking()
    with scene.gateway() as gateway:  # with the store there, it is fetched anew
        assert gateway.version() == version


def test_with_nothing_in_production_the_last_version_goes_on_unless_told_otherwise(scene: GatewayScene) -> None:
    version = scene.promote(scene.add_version())
    with scene.gateway() as goes_on, scene.gateway("--stop-when-archived") as stops:
        scene.promote(version, "Archived")
        until(lambda: goes_on.health()["status"] == "degraded", goes_on.words, DEADLINE_S)
        assert goes_on.version() == version
        assert "nothing stands at models:/resunet/Production" in goes_on.health()["troubles"][0]
        until(lambda: stops.health()["status"] == "down", stops.words, DEADLINE_S)
        assert stops.ask().status_code == 503
        assert stops.ask().headers["Retry-After"].isdigit()
        assert stops.http.get("/ping").status_code == 404
        scene.promote(version)
        stops.follows_to(version)


def test_an_announcement_is_followed_at_once(scene: GatewayScene) -> None:
    first, second = scene.promote(scene.add_version()), scene.add_version()
    with scene.gateway("--poll", "3600") as gateway:
        scene.promote(second)
        assert gateway.version() == first
        assert gateway.http.post("/announce", content=b"whatever it says").status_code == 202
        gateway.follows_to(second)


# The second is what the console script `resunet` runs.
@pytest.mark.parametrize(
    "words",
    [["-m", "serving", "up"], ["-c", "from pipelines.console import main; main()", "serve"]],
    ids=["python -m serving up", "resunet serve"],
)
def test_without_anything_to_serve_it_says_so_and_ends(scene: GatewayScene, words: list[str]) -> None:
    command = [sys.executable, *words, "-p", "0", "-m", "models:/nothing of this name/Production"]
    done = subprocess.run(
        command, cwd=ROOT, env=scene.environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 2
    assert "nothing stands at models:/nothing of this name/Production" in done.stderr and "--wait" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_request_s_own_id_is_its_answer_s_and_its_row_s(scene: GatewayScene) -> None:
    scene.promote(scene.add_version())
    with scene.gateway() as gateway:
        answer = gateway.ask(headers={"X-Request-Id": "mine 1"})
        assert answer.headers["X-Request-Id"] == "mine 1"
        assert answer.json()["predictions"][0]["request_id"] == "mine 1"
        assert gateway.ask(headers={"X-Request-Id": "x" * 300}).status_code == 400
        made = [gateway.ask().headers["X-Request-Id"] for _ in range(2)]
        assert made[0] != made[1]
    assert {"mine 1", *made} <= set(stored_ids(f"sqlite:///{scene.folder / 'log.db'}"))

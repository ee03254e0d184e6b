"""A real gateway with keys, rates, metrics and a log: who may do what, and what is written down of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from gateway_scene import DEADLINE_S, IMAGE, ROOT, Gateway, GatewayScene, workers_of
from prometheus_client.parser import text_string_to_metric_families
from records_rows import stored_ids
from version_factory import draw, encode
from waiting import until

from serving.access.keys import KeyStore, keys_path
from serving.access.scopes import Scope

PNG = {"Content-Type": "image/png"}


def new_key(scene: GatewayScene, name: str, *scopes: Scope) -> dict[str, str]:
    _, token = KeyStore(keys_path(scene.folder / "home")).add(name, set(scopes))
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayScene]:
    scene = GatewayScene(tmp_path_factory.mktemp("keys"))
    scene.start_tracking()
    scene.promote(scene.add_version())
    yield scene
    scene.stop_tracking()


@pytest.fixture(scope="module")
def keys(scene: GatewayScene) -> dict[str, dict[str, str]]:
    scopes: tuple[Scope, ...] = ("predict", "probabilities", "metrics", "admin")
    return {scope: new_key(scene, scope, scope) for scope in scopes}


@pytest.fixture(scope="module")
def gateway(scene: GatewayScene, keys: dict[str, dict[str, str]]) -> Iterator[Gateway]:
    assert keys
    with scene.gateway() as running:
        yield running


def test_without_a_key_nothing_but_the_pages_and_health_is_answered(gateway: Gateway) -> None:
    for method, path in (
        ("POST", "/segment"),
        ("POST", "/invocations"),
        ("POST", "/v2/models/resunet/infer"),
        ("GET", "/metrics"),
        ("POST", "/announce"),
    ):
        answer = gateway.http.request(method, path, content=IMAGE, headers=PNG)
        assert answer.status_code == 401, (path, answer.text)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for path in ("/", "/docs", "/health", "/ping", "/version", "/v2/health/ready", "/openapi.json"):
        assert gateway.http.get(path).status_code == 200, path


def test_a_key_opens_what_its_scopes_say(gateway: Gateway, keys: dict[str, dict[str, str]]) -> None:
    asked = {
        "predict": ("POST", "/segment", {}),
        "metrics": ("GET", "/metrics", {}),
        "admin": ("POST", "/announce", {}),
    }
    for scope, (method, path, params) in asked.items():
        for name, headers in keys.items():
            answer = gateway.http.request(method, path, content=IMAGE, headers=PNG | headers, params=params)
            allowed = name in (scope, "admin")
            assert (answer.status_code < 400) == allowed, (scope, name, answer.text)
            assert allowed or (answer.status_code == 403 and scope in answer.json()["message"])
    view = {"view": "probability"}
    assert gateway.http.post("/segment", content=IMAGE, headers=PNG | keys["predict"], params=view).status_code == 403
    assert gateway.http.post("/segment", content=IMAGE, headers=PNG | keys["admin"], params=view).status_code == 200


def test_a_key_that_is_revoked_while_it_runs_is_refused(scene: GatewayScene, gateway: Gateway) -> None:
    key = new_key(scene, "for a day", "predict")
    assert gateway.http.post("/segment", content=IMAGE, headers=PNG | key).status_code == 200
    command = [sys.executable, "-m", "serving", "keys", "revoke", "for a day"]
    subprocess.run(command, cwd=ROOT, env=scene.environment(), check=True, capture_output=True, timeout=DEADLINE_S)
    assert gateway.http.post("/segment", content=IMAGE, headers=PNG | key).status_code == 401


def test_metrics_count_what_was_answered(gateway: Gateway, keys: dict[str, dict[str, str]]) -> None:
    def numbers() -> dict[tuple[str, str], float]:
        text = gateway.http.get("/metrics", headers=keys["metrics"]).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, sample.labels.get("route", "")): sample.value for sample in samples}

    before = numbers()
    for _ in range(3):
        gateway.http.post("/segment", content=IMAGE, headers=PNG | keys["predict"])
    after = numbers()
    count = ("resunet_request_seconds_count", "/segment")
    assert after[count] - before[count] == 3
    assert after[("resunet_request_images_count", "")] - before[("resunet_request_images_count", "")] == 3
    assert after[("resunet_resident_memory_bytes", "")] > 1e6 and after[("resunet_version_info", "")] == 1


def test_the_log_has_a_line_of_json_a_request_and_neither_key_nor_image(
    gateway: Gateway, keys: dict[str, dict[str, str]]
) -> None:
    headers = PNG | keys["predict"] | {"X-Request-Id": "in the log"}
    gateway.http.post("/segment", content=IMAGE, headers=headers)
    text = until(
        lambda: (words := gateway.log.read_text()) and "in the log" in words and words, gateway.words, DEADLINE_S
    )
    lines = [json.loads(line) for line in text.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "in the log"]
    assert (line["route"], line["status"], line["method"], line["bytes_in"]) == ("/segment", 200, "POST", len(IMAGE))
    assert line["version"] and line["caller"] and line["milliseconds"] > 0
    assert not [secret for key in keys.values() if (secret := key["Authorization"].split("_")[-1]) in text]


def test_rows_of_the_log_name_the_key_that_asked_and_images_are_kept_where_that_is_asked_for(
    scene: GatewayScene, keys: dict[str, dict[str, str]]
) -> None:
    with scene.gateway("--keep-images", "1") as gateway:
        headers = PNG | keys["predict"] | {"X-Request-Id": "whose"}
        gateway.http.post("/segment", content=IMAGE, headers=headers, params={"client": "ward 3"})
    assert "whose" in stored_ids(f"sqlite:///{scene.folder / 'log.db'}")
    assert IMAGE in [kept.read_bytes() for kept in (scene.folder / "home" / "images").rglob("*.image")]


def test_who_asks_too_much_waits(scene: GatewayScene, keys: dict[str, dict[str, str]]) -> None:
    rates = {"RESUNET_GATEWAY_REQUESTS_PER_SECOND": "0.5", "RESUNET_GATEWAY_MEGAPIXELS_PER_SECOND": "0.15"}
    with scene.gateway(**rates) as gateway:
        answers = [gateway.http.post("/segment", content=IMAGE, headers=PNG | keys["predict"]) for _ in range(4)]
        assert {answer.status_code for answer in answers} == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["Retry-After"]) >= 1
        # Of another key, and far more pixels than it may send at once: they are owed, for longer than any request.
        ask = partial(gateway.http.post, "/segment", content=encode(draw(2000, 2000)), headers=PNG | keys["admin"])
        assert ask().status_code == 200
        refused = ask()
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 1 / 0.5


def test_a_public_address_is_not_listened_on_without_keys(scene: GatewayScene) -> None:
    environment = scene.environment(RESUNET_HOME=str(scene.folder / "no keys"))
    command = [sys.executable, "-m", "serving", "up", "-p", "0", "--host", "0.0.0.0"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 2 and "keys add" in done.stderr and "Traceback" not in done.stderr


def test_no_process_lets_anybody_in_once_the_keys_are_gone(scene: GatewayScene) -> None:
    home = scene.folder / "keys that vanish"
    store = KeyStore(keys_path(home))
    _, token = store.add("ward", {"predict"})
    key = {"Authorization": f"Bearer {token}"}

    def statuses(headers: dict[str, str]) -> set[int]:
        """Of requests on connections of their own, so that all processes are asked."""
        ask = partial(httpx.post, f"{gateway.url}/segment", content=IMAGE, timeout=DEADLINE_S, trust_env=False)
        return {ask(headers=PNG | headers).status_code for _ in range(8)}

    with scene.gateway("--workers", "2", RESUNET_HOME=str(home)) as gateway:
        whole = store.path.rename(store.path.with_name("aside"))  # before anybody was let in by any of them
        assert statuses({}) == statuses(key) == {503}
        first = workers_of(gateway)
        for worker in first:
            worker.kill()
        until(lambda: not {*first} & {*workers_of(gateway)}, gateway.words, DEADLINE_S)
        assert statuses({}) == statuses(key) == {503}
        whole.rename(store.path)
        assert statuses({}) == {401} and statuses(key) == {200}


def test_a_key_labels_its_own_requests_alone(
    scene: GatewayScene, gateway: Gateway, keys: dict[str, dict[str, str]]
) -> None:
    ours, theirs = (new_key(scene, name, "predict", "labels") for name in ("ours", "theirs"))
    sent = ours | {"X-Request-Id": "mine", "Content-Type": "image/png"}
    assert gateway.http.post("/segment", content=IMAGE, headers=sent).status_code == 200
    body = {"request_id": "mine", "dice": 0.5}
    label = partial(gateway.http.post, "/labels")
    # Once the prediction has reached the database.
    until(lambda: label(json=body, headers=ours).status_code == 200, gateway.words, DEADLINE_S)
    assert label(json=body, headers=theirs).status_code == 404
    assert label(json=body | {"source": "audit"}, headers=ours).status_code == 403
    assert label(json=body | {"source": "audit"}, headers=keys["admin"]).status_code == 200

"""A real gateway of several processes: one owner, one registry, and the same version in all of them."""

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from gateway_scene import BODY, DEADLINE_S, Gateway, GatewayScene, workers_of
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from records.log_database import open_log
from records.tables import prepare
from records.watch.jobs import jobs
from records.watch.leases import acquire


@pytest.fixture
def scene(gateway_registry: GatewayScene) -> GatewayScene:
    return gateway_registry


def answers(gateway: Gateway, count: int) -> Counter[tuple[int, str]]:
    """Status and version of so many requests, each on a connection of its own."""

    def ask(_: int) -> tuple[int, str]:
        answer = httpx.post(f"{gateway.url}/invocations", json=BODY, timeout=DEADLINE_S, trust_env=False)
        return answer.status_code, answer.headers.get("X-Model-Version", "")

    with ThreadPoolExecutor(4) as pool:
        return Counter(pool.map(ask, range(count)))


def test_a_caller_has_one_rate_whichever_process_answers(scene: GatewayScene) -> None:
    scene.promote(scene.add_version())
    # A burst of one; the next one comes after a quarter of an hour.
    with scene.gateway("--workers", "2", RESUNET_GATEWAY_REQUESTS_PER_SECOND="0.001") as gateway:
        told = []
        for other in reversed(workers_of(gateway)):
            other.suspend()  # so it is the other one that answers
            try:
                told.append(httpx.post(f"{gateway.url}/invocations", json=BODY, timeout=DEADLINE_S, trust_env=False))
            finally:
                other.resume()
        assert [answer.status_code for answer in told] == [200, 429]
        assert {status for status, _ in answers(gateway, 8)} == {429}


def test_all_processes_switch_together_and_no_request_is_lost(scene: GatewayScene) -> None:
    first, second = scene.promote(scene.add_version()), scene.add_version()
    with scene.gateway("--workers", "2") as gateway:
        assert len(workers_of(gateway)) == 2
        assert answers(gateway, 20) == {(200, first): 20}
        seen: list[tuple[float, str]] = []
        ends, failed = threading.Event(), []

        def client() -> None:
            while not ends.is_set():
                answer = httpx.post(f"{gateway.url}/invocations", json=BODY, timeout=DEADLINE_S, trust_env=False)
                seen.append((time.monotonic(), answer.headers.get("X-Model-Version", "")))
                if answer.status_code != 200:
                    failed.append(answer.text)

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client) for _ in range(4)]
            scene.promote(second)
            until(lambda: [version for _, version in seen[-40:]] == [second] * 40, gateway.words, DEADLINE_S)
            ends.set()
            for one in clients:
                one.result()
        assert not failed and {version for _, version in seen} == {first, second}
        # From the first answer of the new one on, the old one is nobody's but of requests that were under way.
        begins = min(moment for moment, version in seen if version == second)
        late = [moment - begins for moment, version in seen if version == first and moment > begins]
        assert max(late, default=0) < 5


def test_a_version_that_one_process_cannot_load_is_served_by_none(scene: GatewayScene) -> None:
    good = scene.promote(scene.add_version())
    with scene.gateway("--workers", "2") as gateway:
        scene.promote(scene.add_version(broken=True))
        until(lambda: gateway.health()["troubles"], gateway.words, DEADLINE_S)
        assert answers(gateway, 10) == {(200, good): 10}
        assert gateway.health()["status"] == "degraded"


def test_a_process_that_dies_is_replaced_by_one_with_the_same_version(scene: GatewayScene) -> None:
    version = scene.promote(scene.add_version())
    with scene.gateway("--workers", "2") as gateway:
        before = {child.pid for child in workers_of(gateway)}
        os.kill(min(before), signal.SIGKILL)
        until(
            lambda: len(now := {child.pid for child in workers_of(gateway)}) == 2 and now != before,
            gateway.words,
            DEADLINE_S,
        )
        until(lambda: set(answers(gateway, 8)) == {(200, version)}, gateway.words, DEADLINE_S)


def test_a_process_that_could_not_load_what_is_live_is_tried_again(scene: GatewayScene) -> None:
    version = scene.promote(scene.add_version())
    with scene.gateway("--workers", "2") as gateway:
        (graph,) = scene.versions.glob(f"*-{version}-*/**/model.onnx")
        aside = graph.rename(graph.with_name("aside"))
        before = {child.pid for child in workers_of(gateway)}
        os.kill(min(before), signal.SIGKILL)
        until(lambda: "cannot serve production" in gateway.words(), gateway.words, DEADLINE_S)
        assert answers(gateway, 8) == {(200, version): 8}
        idle = {child.pid for child in workers_of(gateway)} - before
        aside.rename(graph)
        until(lambda: not idle & {child.pid for child in workers_of(gateway)}, gateway.words, DEADLINE_S)
        os.kill(max(before), signal.SIGKILL)  # now only the one that was tried again is left
        until(lambda: set(answers(gateway, 8)) == {(200, version)}, gateway.words, DEADLINE_S)


def test_workers_end_with_their_owner(scene: GatewayScene) -> None:
    scene.promote(scene.add_version())
    with scene.gateway("--workers", "2") as gateway:
        children = workers_of(gateway)
        os.kill(gateway.process.pid, signal.SIGKILL)
        until(lambda: not [child for child in children if child.is_running() and child.status() != "zombie"], str, 30.0)


def test_whichever_process_is_asked_tells_the_metrics_of_all(scene: GatewayScene) -> None:
    scene.promote(scene.add_version())
    # A job of monitoring, which runs elsewhere on the same database.
    engine = open_log(scene.environment()["RESUNET_INFERENCE_LOG"])
    prepare(engine, jobs)
    assert acquire(engine, "report resunet 24h", "node1", datetime.now(UTC), timedelta(minutes=1))
    engine.dispose()
    with scene.gateway("--workers", "2") as gateway:
        answers(gateway, 30)
        text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        counted = [
            sample.value
            for sample in samples
            if sample.name == "resunet_request_seconds_count" and sample.labels["route"] == "/invocations"
        ]
        assert sum(counted) == 30
        job = 'resunet_monitoring_job_heartbeat_timestamp_seconds{name="report resunet 24h"}'
        metrics = f"{gateway.url}/metrics"
        found = until(
            lambda: (text := httpx.get(metrics, trust_env=False).text) and job in text and text,
            gateway.words,
            DEADLINE_S,
            every=0.2,
        )
        assert found.count(job) == 1

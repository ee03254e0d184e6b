"""What the gateway measures of itself: the numbers are right, and the dashboard asks for none that there is not."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine
from waiting import until

from records.log_database import open_log
from records.tables import prepare
from records.watch.jobs import JobState, jobs, jobs_state
from records.watch.leases import acquire, finish, holding
from serving.gateway.job_metrics import JobMetrics
from serving.gateway.metrics import SHARED, Metrics, Now

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana-gateway.json"
NOW = Now(
    requests=2, held_bytes=300, model="resunet", version="7", digest="sha256:aa", swaps=1, troubles=0, spool_bytes=5
)


def samples(metrics: Metrics) -> dict[str, float]:
    text = metrics.render()[0].decode()
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {f"{sample.name}{sorted(sample.labels.values())}": sample.value for sample in found}


def test_requests_are_counted_by_route_status_and_version() -> None:
    metrics = Metrics(lambda: NOW)
    for status in (200, 200, 400):
        metrics.answered("/segment", status, 0.04, "7")
    metrics.asked(3, 500_000)
    found = samples(metrics)
    assert found["resunet_requests_total['/segment', '200', '7']"] == 2
    assert found["resunet_requests_total['/segment', '400', '7']"] == 1
    assert found["resunet_request_seconds_count['/segment']"] == 3
    assert found["resunet_request_images_sum[]"] == 3 and found["resunet_request_megapixels_sum[]"] == 0.5
    assert found["resunet_requests_here[]"] == 2 and found["resunet_spool_bytes[]"] == 5


def test_the_images_of_each_run_are_counted_and_those_that_wait_for_theirs() -> None:
    metrics = Metrics(lambda: dataclasses.replace(NOW, waiting_images=3))
    for images in (1, 4, 4):
        metrics.ran(images)
    found = samples(metrics)
    assert found["resunet_batch_images_count[]"] == 3 and found["resunet_batch_images_sum[]"] == 9
    assert found["resunet_batch_images_bucket['3.0']"] == 1 and found["resunet_batch_images_bucket['4.0']"] == 3
    assert found["resunet_queue_images[]"] == 3


def test_the_version_that_answers_is_the_one_with_a_1() -> None:
    now = [NOW]
    metrics = Metrics(lambda: now[0])
    assert samples(metrics)["resunet_version_info['7', 'resunet', 'sha256:aa']"] == 1
    now[0] = Now(0, 0, "resunet", "8", "sha256:bb", 2, 0, 0)
    found = samples(metrics)
    assert found["resunet_version_info['7', 'resunet', 'sha256:aa']"] == 0
    assert found["resunet_version_info['8', 'resunet', 'sha256:bb']"] == 1


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    metrics = Metrics(lambda: NOW)
    metrics.answered("/segment", 200, 0.04, "7")
    metrics.asked(1, 100)
    metrics.ran(1)
    there = {name.partition("[")[0] for name in samples(metrics)}
    asked = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    assert len(asked) > 10
    assert {name for expression in asked for name in re.findall(r"resunet_\w+", expression)} <= there


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run_job(url: str, name: str, outcome: str) -> None:
    engine = open_log(url)
    prepare(engine, jobs)
    lease = acquire(engine, name, "node1", NOON, timedelta(minutes=1))
    assert lease is not None
    with holding(engine, lease) as connection:
        finish(connection, lease, NOON + timedelta(seconds=5), outcome=outcome, due=NOON + timedelta(hours=1))
    engine.dispose()


def test_a_reading_that_could_not_begin_is_begun_with_the_next_scrape(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(url, "alerts", "ok")
    metrics = Metrics(lambda: NOW, JobMetrics(url))

    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refused)
        assert not [name for name in samples(metrics) if "monitoring_job" in name]
    assert until(lambda: [name for name in samples(metrics) if "monitoring_job" in name])


def test_the_jobs_of_monitoring_are_told_as_the_database_has_them(database_url: str) -> None:
    run_job(database_url, "report resunet 24h", "ok")
    for _ in range(2):
        run_job(database_url, "alerts", "exit code 1: no mail server")
    metrics = Metrics(lambda: NOW, JobMetrics(database_url))
    found = until(lambda: {k: v for k, v in samples(metrics).items() if "monitoring_job" in k})
    at, noon = "timestamp_seconds", NOON.timestamp()
    assert found == {
        f"resunet_monitoring_job_last_success_{at}['report resunet 24h']": noon + 5,
        f"resunet_monitoring_job_heartbeat_{at}['report resunet 24h']": noon,
        f"resunet_monitoring_job_heartbeat_{at}['alerts']": noon,
        f"resunet_monitoring_job_due_{at}['report resunet 24h']": noon + 3600,
        f"resunet_monitoring_job_due_{at}['alerts']": noon + 3600,
        "resunet_monitoring_job_failures_total['report resunet 24h']": 0,
        "resunet_monitoring_job_failures_total['alerts']": 2,
    }


def test_a_scrape_waits_for_no_database_and_reads_it_seldom(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_job(url, "alerts", "ok")
    answers, asked, now = threading.Event(), list[float](), [0.0]

    def slow(engine: Engine) -> list[JobState]:
        asked.append(now[0])
        assert answers.wait(60)
        return jobs_state(engine)

    monkeypatch.setattr("serving.gateway.job_metrics.jobs_state", slow)
    metrics = Metrics(lambda: NOW, JobMetrics(url, every_s=10, clock=lambda: now[0]))
    for moment in (0.0, 5.0, 100.0):
        now[0] = moment
        # The database does not answer yet, and the scrape has all else.
        assert samples(metrics)["resunet_requests_here[]"] == 2
    until(lambda: asked == [0.0])
    answers.set()
    until(lambda: any("heartbeat" in name for name in samples(metrics)))
    now[0] = 200.0
    for _ in range(3):
        samples(metrics)
        until(lambda: not any(thread.name == "gateway-jobs" for thread in threading.enumerate()))
    assert asked.count(200.0) == 1
    # Away: what was read last stays.
    database = Path(url.removeprefix("sqlite:///"))
    database.rename(tmp_path / "away")
    database.mkdir()
    now[0] = 300.0
    until(lambda: samples(metrics) and 300.0 in asked)
    assert any("heartbeat" in name for name in samples(metrics))


def test_of_several_processes_the_one_that_is_asked_tells_the_jobs_once(url: str, tmp_path: Path) -> None:
    run_job(url, "alerts", "ok")
    program = (
        "import sys, time\n"
        "from serving.gateway.job_metrics import JobMetrics\n"
        "from serving.gateway.metrics import Metrics, Now\n"
        "metrics = Metrics(lambda: Now(0, 0, '', '', '', 0, 0, 0), JobMetrics(sys.argv[1]))\n"
        "ends = time.monotonic() + 60\n"
        "while b'heartbeat_timestamp_seconds{' not in (text := metrics.render()[0]) and time.monotonic() < ends:\n"
        "    time.sleep(0.02)\n"
        "print(text.decode())\n"
    )
    shared = tmp_path / "shared"
    shared.mkdir()
    told = subprocess.run(
        [sys.executable, "-c", program, url],
        env={**os.environ, SHARED: str(shared)},
        cwd=DASHBOARD.parents[1],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.count('resunet_monitoring_job_heartbeat_timestamp_seconds{name="alerts"}') == 1
    assert "resunet_requests_here 0.0" in told

"""What the gateway measures of itself: the numbers are right, and the dashboard asks for none that there is not."""

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from serving.gateway.metrics import Metrics, Now

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
    there = {name.partition("[")[0] for name in samples(metrics)}
    asked = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    assert len(asked) > 10
    assert {name for expression in asked for name in re.findall(r"resunet_\w+", expression)} <= there

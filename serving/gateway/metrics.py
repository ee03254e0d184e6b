"""What the gateway measures of itself, for Prometheus.

metrics = Metrics()
metrics.answered("/segment", 200, seconds=0.041, version="7")
metrics.watch(gauges)                   # numbers that are asked for when somebody looks
text, media_type = metrics.render()
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

_SECONDS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MEGAPIXELS: Final = (0.01, 0.07, 0.3, 1.0, 4.0, 16.0, 50.0, 100.0)


@dataclass(frozen=True)
class Now:
    """Numbers of this moment.

    Attributes:
        requests, waiting_bytes: that the desk holds.
        model, version, digest: of what answers; empty where nothing does.
        swaps: since the start.
        troubles: sentences that `/health` tells.
        spool_bytes: of predictions that are not in the database yet; None where the log is off.
    """

    requests: int
    held_bytes: int
    model: str
    version: str
    digest: str
    swaps: int
    troubles: int
    spool_bytes: int | None


class Metrics:
    """Counters and histograms of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "resunet_requests", "Requests answered.", ("route", "status", "version"), registry=self._registry
        )
        self._seconds = Histogram(
            "resunet_request_seconds",
            "From a request's first byte to its answer's last.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._images = Histogram(
            "resunet_request_images", "Images of a request.", buckets=_IMAGES, registry=self._registry
        )
        self._megapixels = Histogram(
            "resunet_request_megapixels",
            "Megapixels of a request, all images together.",
            buckets=_MEGAPIXELS,
            registry=self._registry,
        )

    def answered(self, route: str, status: int, seconds: float, version: str) -> None:
        """Count a request; `route` is a template, so that there are few of them."""
        self._requests.labels(route, str(status), version).inc()
        self._seconds.labels(route).observe(seconds)

    def asked(self, images: int, pixels: int) -> None:
        """Count the images of a request."""
        self._images.observe(images)
        self._megapixels.observe(pixels / 1e6)

    def watch(self, now: Callable[[], Now]) -> None:
        """Ask for these numbers whenever somebody looks."""
        self._registry.register(_Gauges(now))

    def render(self) -> tuple[bytes, str]:
        """All of it as Prometheus reads it, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Gauges:
    """Numbers of this moment, as metrics."""

    def __init__(self, now: Callable[[], Now]) -> None:
        self._now = now
        self._process = psutil.Process(os.getpid())

    def collect(self) -> Iterator[Metric]:
        """As of Prometheus."""
        now = self._now()
        yield GaugeMetricFamily("resunet_requests_here", "Requests that wait or are worked on.", now.requests)
        yield GaugeMetricFamily("resunet_held_bytes", "Bytes of their bodies.", now.held_bytes)
        yield GaugeMetricFamily("resunet_troubles", "Things that /health says are wrong.", now.troubles)
        yield CounterMetricFamily("resunet_swaps", "Versions that took over since the start.", now.swaps)
        version = GaugeMetricFamily(
            "resunet_version_info", "The version that answers.", labels=("model", "version", "digest")
        )
        if now.version:
            version.add_metric((now.model, now.version, now.digest), 1)
        yield version
        if now.spool_bytes is not None:
            yield GaugeMetricFamily(
                "resunet_spool_bytes", "Bytes of predictions that the database does not have yet.", now.spool_bytes
            )
        spent = self._process.cpu_times()
        yield CounterMetricFamily("process_cpu_seconds", "CPU time spent.", spent.user + spent.system)
        yield GaugeMetricFamily("process_resident_memory_bytes", "Memory in use.", self._process.memory_info().rss)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the moment."""
        return []

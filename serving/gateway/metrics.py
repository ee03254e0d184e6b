"""What the gateway measures of itself, for Prometheus.

    metrics = Metrics(now=process.now)
    metrics.answered("/segment", 200, seconds=0.041, version="7")
    text, media_type = metrics.render()

With several processes their numbers meet in files of one folder, whose name `SHARED` holds before this module is
imported; whichever of them is asked answers for all.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

# The library's own variable.
SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BATCH: Final = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_MEGAPIXELS: Final = (0.01, 0.07, 0.3, 1.0, 4.0, 16.0, 50.0, 100.0)


@dataclass(frozen=True)
class Now:
    """Numbers of this moment, of one process.

    Attributes:
        requests, held_bytes: that the desk holds.
        model, version, digest: of what answers; empty where nothing does.
        swaps: since the start.
        troubles: sentences that `/health` tells.
        spool_bytes: of predictions that are not in the database yet, of all processes; 0 where the log is off.
        canary, shadow: shares of a rollout.
        skipped: requests that the shadow had no time for, since the start.
        waiting_images: that wait to be run in company.
    """

    requests: int
    held_bytes: int
    model: str
    version: str
    digest: str
    swaps: int
    troubles: int
    spool_bytes: int
    canary: float = 0.0
    shadow: float = 0.0
    skipped: int = 0
    waiting_images: int = 0


class Metrics:
    """Counters, histograms and gauges of one process.

    Args:
        now: the numbers of this moment.
        others: what is told besides, the same by each process.
    """

    def __init__(self, now: Callable[[], Now], others: Collector | None = None) -> None:
        self._now = now
        self._others = others
        self._process = psutil.Process(os.getpid())
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "resunet_requests", "Requests answered.", ("route", "status", "version"), registry=registry
        )
        self._seconds = Histogram(
            "resunet_request_seconds",
            "From a request's start to its answer's end.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = Histogram("resunet_request_images", "Images of a request.", buckets=_IMAGES, registry=registry)
        self._batch = Histogram(
            "resunet_batch_images",
            "Images, or tiles of large ones, of a run of the engine.",
            buckets=_BATCH,
            registry=registry,
        )
        self._megapixels = Histogram(
            "resunet_request_megapixels",
            "Megapixels of a request, all images together.",
            buckets=_MEGAPIXELS,
            registry=registry,
        )

        def summed(name: str, told: str) -> Gauge:
            return Gauge(name, told, registry=registry, multiprocess_mode="livesum")

        def highest(name: str, told: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, told, labels, registry=registry, multiprocess_mode="livemax")

        self._here = summed("resunet_requests_here", "Requests that wait or are worked on.")
        self._queue = summed("resunet_queue_images", "Images that wait to be run in company.")
        self._held = summed("resunet_held_bytes", "Bytes of their bodies.")
        self._cpu = summed("resunet_cpu_seconds", "CPU time spent.")
        self._memory = summed("resunet_resident_memory_bytes", "Memory in use.")
        self._swaps = highest("resunet_swaps", "Versions that took over since the start.")
        self._troubles = highest("resunet_troubles", "Things that /health says are wrong.")
        self._spool = highest("resunet_spool_bytes", "Bytes of predictions that the database does not have yet.")
        self._canary = highest("resunet_canary_share", "Share of the callers that the candidate answers.")
        self._shadow = highest("resunet_shadow_share", "Share of the requests that it answers for nobody.")
        self._skipped = summed("resunet_shadow_skipped", "Requests that the shadow had no time for.")
        self._version = highest("resunet_version_info", "1 for what answers.", ("model", "version", "digest"))
        self._told: tuple[str, str, str] = ("", "", "")
        if others is not None:
            registry.register(others)

    def answered(self, route: str, status: int, seconds: float, version: str) -> None:
        """Count a request; `route` is a template, so that there are few of them."""
        self._requests.labels(route, str(status), version).inc()
        self._seconds.labels(route).observe(seconds)

    def asked(self, images: int, pixels: int) -> None:
        """Count the images of a request."""
        self._images.observe(images)
        self._megapixels.observe(pixels / 1e6)

    def ran(self, images: int) -> None:
        """Count a run of the engine."""
        self._batch.observe(images)

    def refresh(self) -> None:
        """Write down the numbers of this moment, for whichever process is asked."""
        now = self._now()
        self._here.set(now.requests)
        self._queue.set(now.waiting_images)
        self._held.set(now.held_bytes)
        self._swaps.set(now.swaps)
        self._troubles.set(now.troubles)
        self._spool.set(now.spool_bytes)
        self._canary.set(now.canary)
        self._shadow.set(now.shadow)
        self._skipped.set(now.skipped)
        spent = self._process.cpu_times()
        self._cpu.set(spent.user + spent.system)
        self._memory.set(self._process.memory_info().rss)
        answers = (now.model, now.version, now.digest)
        if answers != self._told:
            if any(self._told):
                self._version.labels(*self._told).set(0)
            if any(answers):
                self._version.labels(*answers).set(1)
            self._told = answers

    def render(self) -> tuple[bytes, str]:
        """All of it as Prometheus reads it, and its media type."""
        self.refresh()
        if not os.environ.get(SHARED):
            return generate_latest(self._registry), CONTENT_TYPE_LATEST
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        if self._others is not None:
            everybody.register(self._others)
        return generate_latest(everybody), CONTENT_TYPE_LATEST

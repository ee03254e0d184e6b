"""The jobs of monitoring, for Prometheus: when each last ended well, was last looked after, and how often it failed.

    metrics = Metrics(now, JobMetrics("postgresql+psycopg://…"))

They run elsewhere, and leave what they did in the table `jobs`. A scrape tells what was read last and has it read
anew, at most every few seconds and in a thread of its own: no request waits for the database. While that is away the
last numbers stay, and the times in them show it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from records.engines import make_engine
from records.watch.jobs import JobState, jobs_state
from resunet.errors import RecordsError

_EVERY_S: Final = 10.0
_PREFIX: Final = "resunet_monitoring_job"
_TIMES: Final = {
    "last_success": "When the job last ended well.",
    "heartbeat": "When a schedule last looked after the job.",
    "due": "When the job is to run next.",
}
_log = logging.getLogger(__name__)


class JobMetrics(Collector):
    """Reads the table `jobs` of an inference log.

    Args:
        url: of its database.
        every_s: seconds between two readings, at least.
        clock: seconds.
    """

    def __init__(self, url: str, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._every_s = every_s
        self._clock = clock
        self._guard = threading.Lock()
        self._read_at: float | None = None
        self._reading = False
        self._states: Sequence[JobState] = ()

    def collect(self) -> Iterator[Metric]:
        """What was read last; as of prometheus_client."""
        self._begin_to_read()
        states = self._states
        for name, told in _TIMES.items():
            family = GaugeMetricFamily(f"{_PREFIX}_{name}_timestamp_seconds", told, labels=("name",))
            for state in states:
                moment = getattr(state, name)
                if moment is not None:
                    family.add_metric((state.name,), moment.timestamp())
            yield family
        failures = CounterMetricFamily(f"{_PREFIX}_failures", "Runs of the job that failed.", labels=("name",))
        for state in states:
            failures.add_metric((state.name,), state.failures)
        yield failures

    def describe(self) -> Iterator[Metric]:
        """Names alone: to register it is no reason to read."""
        yield from (GaugeMetricFamily(f"{_PREFIX}_{name}_timestamp_seconds", told) for name, told in _TIMES.items())
        yield CounterMetricFamily(f"{_PREFIX}_failures", "Runs of the job that failed.")

    def _begin_to_read(self) -> None:
        with self._guard:
            now = self._clock()
            if self._reading or (self._read_at is not None and now - self._read_at < self._every_s):
                return
            self._reading, self._read_at = True, now
        try:
            threading.Thread(target=self._read, name="gateway-jobs", daemon=True).start()
        except RuntimeError as error:
            # No more threads just now: the next scrape tries again.
            _log.debug("the jobs of monitoring could not be read: %s", error)
            self._reading, self._read_at = False, None

    def _read(self) -> None:
        try:
            engine = make_engine(self._url)
            try:
                self._states = jobs_state(engine)
            finally:
                engine.dispose()
        except RecordsError as error:
            _log.debug("the jobs of monitoring could not be read: %s", error)
        finally:
            self._reading = False

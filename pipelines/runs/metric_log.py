"""Metrics on their way to the tracking server, which may be away for a while without stopping a training.

    with MetricLog(MlflowClient(), run_id, console.print) as log:
        log.add(120, {"train_loss": 0.31, "validation_dice": 0.87})

A thread sends them, so that a step never waits for a server. What the server does not take is kept and sent again;
when the block ends, all of it has arrived.
"""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from mlflow import MlflowClient
from mlflow.entities import Metric

from pipelines.runs.tracking_errors import reason

RETRY_SECONDS = 30.0
# MLflow refuses longer batches.
_BATCH = 1000


class MetricLog:
    """Sends the metrics of one run.

    Args:
        client: of the tracking server.
        run_id: of the run.
        tell: prints a line; called when the server goes away and when it is back.
        retry_seconds: how long after a failure it tries again by itself.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        tell: Callable[[str], None],
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._client, self._run_id, self._tell, self._retry_seconds = client, run_id, tell, retry_seconds
        self._waiting: list[Metric] = []
        self._handed: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._lost: Exception | None = None
        # A daemon: a process that is interrupted does not stay for a server that is away.
        self._thread = threading.Thread(target=self._work, name="MetricLog", daemon=True)

    def __enter__(self) -> "MetricLog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all has arrived; after an error, only for what is under way.

        Raises:
            MlflowException: the server did not take the rest.
        """
        self._closing = True
        self._wake.set()
        if error is not None:
            self._thread.join(timeout=5)
            return
        if self._lost is not None:
            self._tell("waiting for the tracking server to take the metrics that it missed")
        self._thread.join()
        if self._lost is not None:
            raise self._lost

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand over the metrics of a step; returns at once."""
        now = int(time.time() * 1000)
        with self._lock:
            self._handed |= {(name, step) for name in metrics}
            self._waiting += [Metric(name, value, now, step) for name, value in metrics.items()]
        self._wake.set()

    def fill(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        """Add those rows, of the same metrics each, by step, that neither this process nor the one before it has sent.

        A process that was killed may have left a step in its checkpoint and not on the server.
        """
        name = next((first for metrics in rows.values() for first in metrics), "")
        if not (missing := {step: metrics for step, metrics in rows.items() if (name, step) not in self._handed}):
            return
        there = {metric.step for metric in self._client.get_metric_history(self._run_id, name)}
        for step in sorted(missing.keys() - there):
            self.add(step, missing[step])

    def _work(self) -> None:
        while True:
            self._wake.wait(self._retry_seconds if self._lost else None)
            self._wake.clear()
            closing = self._closing
            try:
                self._send()
            except Exception as error:  # none may end the thread: the caller gets the last one
                if self._lost is None:
                    self._tell(f"the tracking server does not answer ({reason(error)}); training goes on without it")
                self._lost = error
            else:
                if self._lost is not None:
                    self._tell("the tracking server is back, and has the metrics that it missed")
                self._lost = None
            if closing:
                return

    def _send(self) -> None:
        while True:
            with self._lock:
                batch = self._waiting[:_BATCH]
            if not batch:
                return
            self._client.log_batch(self._run_id, metrics=batch)
            with self._lock:
                del self._waiting[: len(batch)]

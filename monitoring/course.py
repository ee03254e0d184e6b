"""The course of what reports find, as lines in MLflow: one run a series of windows, with a point a window.

    log_course(client, "resunet-monitoring", Course("resunet", "windows", timedelta(days=1), LIVE_ROUTES), values, end)

A report has a run of its own, with its pages, and the MLflow UI draws a point of it. This run has the same metrics of
all windows of a model that are of one length and on the same routes, by their ends; a step is a minute.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType

from monitoring.tracking import experiment_id, explained_tracking
from monitoring.window import span

COURSE_TAG: Final = "resunet_course"
_AT_ONCE: Final = 900


@dataclass(frozen=True)
class Course:
    """A series of windows.

    Attributes:
        kind: what is told of them: "windows", "trends", or "performance of version 3".
        length: of a window.
    """

    model: str
    kind: str
    length: timedelta
    routes: Sequence[str]

    @property
    def name(self) -> str:
        """What its run is called; nothing else is called so."""
        return f"{self.model}: course of {self.kind}, {span(self.length)}, {', '.join(sorted(self.routes))}"


def log_course(
    client: MlflowClient, experiment: str, course: Course, values: Mapping[str, float], end: datetime
) -> str:
    """Add a window to its series, whose run is made with the first one; return the id of the run.

    A window that is told of again with the same values adds nothing.

    Args:
        experiment: its name; made when it is missing.
        values: finite metrics by name.
        end: of the window.

    Raises:
        TrackingError: MLflow does not answer.
    """
    moment = int(end.timestamp() * 1000)
    # Its step in minutes: windows may overlap, and each has a place of its own on the axis of steps too.
    metrics = [Metric(name, value, moment, moment // 60_000) for name, value in values.items()]
    with explained_tracking():
        run = _run_of(client, experiment_id(client, experiment), course)
        for start in range(0, len(metrics), _AT_ONCE):
            client.log_batch(run, metrics=metrics[start : start + _AT_ONCE])
    return run


def _run_of(client: MlflowClient, home: str, course: Course) -> str:
    # Names of models hold characters that a query cannot.
    key = hashlib.sha256(course.name.encode()).hexdigest()[:32]
    # Of two that were made at once the older one goes on.
    found = client.search_runs(
        [home], f"tags.{COURSE_TAG} = '{key}'", ViewType.ACTIVE_ONLY, max_results=1, order_by=["attributes.start_time"]
    )
    if found:
        return str(found[0].info.run_id)
    tags = {COURSE_TAG: key, "model_name": course.model}
    run = str(client.create_run(home, run_name=course.name, tags=tags).info.run_id)
    # It is open for further points all the same, and no run that somebody waits for.
    client.set_terminated(run)
    return run

"""What the run that made a version noted: its parameters, its code, its data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, get_args

from mlflow import MlflowClient
from mlflow.entities import DatasetInput
from mlflow.exceptions import MlflowException

from registry.evidence import Interval, Metric

_CONTEXT: Final = "mlflow.data.context"
_ABSENT: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


@dataclass(frozen=True)
class RunFacts:
    """A run.

    Attributes:
        commit, working_tree: of the code; the commit says little where the tree is not `clean`.
        data: name of the data set.
        splits: images in each split.
        metrics: the last value of each.
    """

    run_id: str
    name: str
    status: str
    user: str
    started: datetime | None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        return self.tags.get("mlflow.source.git.commit", "")

    @property
    def working_tree(self) -> str:
        return self.tags.get("git_working_tree", "")

    @property
    def overall(self) -> dict[Metric, Interval]:
        """Its test metrics, as a training logs them."""
        found: dict[Metric, Interval] = {}
        for metric in get_args(Metric):
            names = (f"test_{metric}", f"test_{metric}_low", f"test_{metric}_high")
            if all(name in self.metrics for name in names):
                mean, low, high = (self.metrics[name] for name in names)
                found[metric] = Interval(mean=mean, low=low, high=high)
        return found


def read_run(client: MlflowClient, run_id: str) -> RunFacts | None:
    """The facts of a run; None where there is none, or it is there no more."""
    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return None
    inputs = list(run.inputs.dataset_inputs) if run.inputs else []
    started = run.info.start_time
    return RunFacts(
        run_id=run_id,
        name=str(run.info.run_name or ""),
        status=str(run.info.status),
        user=str(run.data.tags.get("mlflow.user") or run.info.user_id or ""),
        started=datetime.fromtimestamp(started / 1000, tz=UTC) if started else None,
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
        data=next((str(one.dataset.name) for one in inputs), ""),
        splits=_splits(inputs),
    )


def _splits(inputs: list[DatasetInput]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in inputs:
        split = next((str(tag.value) for tag in one.tags if tag.key == _CONTEXT), "")
        try:
            rows = int(json.loads(one.dataset.profile or "{}")["num_rows"])
        except (ValueError, KeyError, TypeError):
            continue
        if split:
            found[split] = rows
    return {split: found[split] for split in sorted(found, key=_order)}


def _order(split: str) -> tuple[int, str]:
    known = ("train", "validation", "test")
    return (known.index(split) if split in known else len(known)), split

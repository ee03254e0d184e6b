"""One measurement of a window: its files in a folder, its figures in MLflow.

    done = measure_window(request, engine, stores)
    write_files(done, folder)
    log_figures(done, client, "resunet-monitoring")

MLflow gets means, intervals and the confusion matrix alone: no request id and no image, which `records forget` would
not find there.
"""

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import Metric
from sqlalchemy import Engine

from monitoring.course import Course, log_course
from monitoring.live import LIVE_ROUTES
from monitoring.performance.confusion import CONFUSION_FILE, PixelTable, draw_confusion, pixel_table
from monitoring.performance.page import PAGE_FILE, write_page
from monitoring.performance.window import Measured, Weighing, summarise, weighed
from monitoring.performance.words import SHOWN, method_text, no_labels, notes
from monitoring.performance.worst import WORST_FILE, draw_sheet, worst_of
from monitoring.tracking import explained_tracking, report_run
from monitoring.window import Window
from records.stores import Stores
from resunet.errors import DataError

JSON_FILE: Final = "performance.json"
FORMAT_VERSION: Final = 1
# Tags of a run: the digests of what was asked, and of the figures that came out.
_ASKED: Final = "question_digest"
_FIGURES: Final = "figures_digest"
# A batch of MLflow's.
_METRICS_AT_ONCE: Final = 1000


class NoLabelsError(DataError):
    """A window without labels that count."""


@dataclass(frozen=True)
class PerformanceQuestion:
    """What is measured; see `monitoring.performance.window.measured`."""

    model: str
    window: Window
    by: tuple[str, ...] = ()
    version: str | None = None
    routes: tuple[str, ...] = LIVE_ROUTES
    picked: bool = False
    client: bool = False

    @property
    def answers(self) -> str:
        """Whose answers are looked at, in words."""
        return self.model if self.version is None else f"version {self.version} of {self.model}"


@dataclass(frozen=True)
class Performance:
    """What came out, and what it came from; `pixels` by version, where labels tell them."""

    question: PerformanceQuestion
    weighing: Weighing
    measured: tuple[Measured, ...]
    pixels: Mapping[str, PixelTable]

    @property
    def headline(self) -> str:
        labelled = self.weighing.labelled
        shown = ", labels of clients" if self.question.client else ""
        return (
            f"{self.question.model}, {self.question.window}: {len(labelled.rows):,} labels count, "
            f"{labelled.answers:,} answers{shown}"
        )

    @property
    def versions(self) -> list[str]:
        return list(dict.fromkeys(one.version for one in self.measured))

    def as_json(self, versions: Sequence[str]) -> dict[str, Any]:
        """`performance.json` of some versions: no request is named in it."""
        return {
            "format_version": FORMAT_VERSION,
            "model_name": self.question.model,
            "window_start": self.question.window.start.isoformat(),
            "window_end": self.question.window.end.isoformat(),
            "routes": list(self.question.routes),
            "answers": self.weighing.labelled.answers,
            "ambiguous": len(self.weighing.labelled.ambiguous),
            "labels_by_source": self.weighing.labelled.sources,
            "method": method_text(self.measured),
            "measured": [_as_json(one) for one in self.measured if one.version in versions],
            "pixels": {
                version: {"images": table.images, "counts": table.counts.round().astype(int).tolist()}
                for version, table in self.pixels.items()
                if version in versions
            },
        }


def _as_json(one: Measured) -> dict[str, Any]:
    scores = {name: getattr(one, name) for name in SHOWN}
    return {
        "version": one.version,
        "slice": one.slice,
        "route": one.route,
        "images": one.images,
        "sources": list(one.sources),
        "weighted": one.weighted,
        **{name: None if math.isnan(score.mean) else score._asdict() for name, score in scores.items()},
    }


def measure_window(question: PerformanceQuestion, engine: Engine) -> Performance:
    """Measure.

    Raises:
        NoLabelsError: there is nothing to measure with.
        DataError: a picked label cannot be weighted.
        RecordsError: the database does not answer.
    """
    weighing = weighed(
        engine,
        question.model,
        question.window,
        version=question.version,
        routes=question.routes,
        picked=question.picked,
        client=question.client,
    )
    if not weighing.labelled.rows:
        raise NoLabelsError(no_labels(question.answers, question.window, weighing.labelled))
    rows, pixels = weighing.labelled.rows, dict[str, PixelTable]()
    for version in sorted({row.model_version for row in rows}):
        mine = [place for place, row in enumerate(rows) if row.model_version == version]
        table = pixel_table([rows[place] for place in mine], weighing.of(mine))
        if table is not None:
            pixels[version] = table
    return Performance(question, weighing, tuple(summarise(weighing, question.by)), pixels)


def write_files(done: Performance, folder: Path, stores: Stores, worst: int = 12) -> None:
    """Write page, sheet of the worst, confusion matrix and figures.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    matrices = _write_figures(done, folder, done.versions)
    shown = worst_of(done.weighing.labelled.rows, stores, worst)
    draw_sheet(shown, title=f"Lowest Dice: {done.headline}", path=folder / WORST_FILE)
    write_page(folder / PAGE_FILE, done.headline, done.measured, done.weighing, matrices, shown)


def _write_figures(done: Performance, folder: Path, versions: Sequence[str]) -> dict[str, Path]:
    """Write the figures of some versions, and return the pictures of their matrices."""
    content = json.dumps(done.as_json(versions), indent=2, allow_nan=False)
    (folder / JSON_FILE).write_text(content + "\n", "utf-8")
    pictures = {}
    for version in versions:
        if version in done.pixels:
            title = f"Version {version}, pixels of {done.pixels[version].images} labelled images"
            pictures[version] = folder / CONFUSION_FILE.format(_safe(version))
            draw_confusion(done.pixels[version], title=title, path=pictures[version])
    return pictures


def log_figures(done: Performance, client: MlflowClient, experiment: str, *, only_new: bool = False) -> list[str]:
    """Keep the figures of each version in an MLflow run of its own, at the end of the window, and return their ids.

    Args:
        only_new: leave out a version whose very figures a run has already.

    Raises:
        TrackingError: MLflow does not answer.
    """
    return [
        _log_version(done, version, client, experiment)
        for version in done.versions
        if not (only_new and _is_known(done, version, client, experiment))
    ]


def _is_known(done: Performance, version: str, client: MlflowClient, experiment: str) -> bool:
    with explained_tracking():
        home = client.get_experiment_by_name(experiment)
        if home is None:
            return False
        same = f"attributes.status = 'FINISHED' and tags.{_ASKED} = '{_asked(done, version)}'"
        # A label that was corrected, and then back again, makes figures that an older run has: the last one counts.
        last = client.search_runs([home.experiment_id], same, max_results=1, order_by=["attributes.start_time DESC"])
        return bool(last) and last[0].data.tags.get(_FIGURES) == _figures(done, version)


def _asked(done: Performance, version: str) -> str:
    return _digest(f"{done.question} {version}")


def _figures(done: Performance, version: str) -> str:
    return _digest(json.dumps(done.as_json([version]), sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _log_version(done: Performance, version: str, client: MlflowClient, experiment: str) -> str:
    question = done.question
    tags = {
        "kind": "performance",
        "model_name": question.model,
        "model_version": version,
        "window_start": question.window.start.isoformat(),
        "window_end": question.window.end.isoformat(),
        _ASKED: _asked(done, version),
        _FIGURES: _figures(done, version),
        "label_sources": ", ".join(sorted({row.source for row in done.weighing.labelled.rows})),
    }
    name = f"{question.model} {version} performance until {question.window.end:%Y-%m-%d %H:%M}"
    moment = int(question.window.end.timestamp() * 1000)
    rows = [one for one in done.measured if one.version == version]
    with report_run(client, experiment, name, tags) as run_id, tempfile.TemporaryDirectory() as scratch:
        values = _metrics(rows)
        metrics = [Metric(key, value, moment, 0) for key, value in values.items()]
        for start in range(0, len(metrics), _METRICS_AT_ONCE):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
        _write_figures(done, Path(scratch), [version])
        client.log_artifacts(run_id, scratch)
        lines = [done.headline, method_text(rows), *notes(done.weighing, named=False)]
        client.set_tag(run_id, "mlflow.note.content", "\n\n".join(lines))
        length = question.window.end - question.window.start
        labels = ["picked labels"] * question.picked + ["clients' labels"] * question.client
        kind = ", ".join([f"performance of version {version}", *labels])
        course = Course(question.model, kind, length, question.routes)
        log_course(client, experiment, course, values, question.window.end)
    return run_id


def _metrics(rows: Sequence[Measured]) -> dict[str, float]:
    """Of one version: names such as `performance.dice.low` and, of a part, `performance.slice brightfield.dice`."""
    values: dict[str, float] = {}
    for one in rows:
        parts = [f"slice {one.slice}" if one.slice is not None else "", f"route {one.route}" if one.route else ""]
        start = ".".join(["performance", *(_safe(part) for part in parts if part)])
        values[f"{start}.images"] = float(one.images)
        for name in SHOWN:
            score = getattr(one, name)
            if not math.isnan(score.mean):
                values |= {f"{start}.{name}": score.mean, f"{start}.{name}.low": score.low}
                values[f"{start}.{name}.high"] = score.high
    return values


def _safe(text: str) -> str:
    """A slice is a client's word; MLflow takes letters, digits and a few signs."""
    return re.sub(r"[^\w .-]", "_", text)[:100]

"""An evaluation for people and for other programs: a table, a file of scores, the metrics of a run.

console.print(evaluation_table(evaluation, "models:/resunet/3 on nuclei"))
write_scores(evaluation, Path("scores.csv"))
mlflow.log_metrics(run_metrics(evaluation))
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, cast

from rich.table import Table

from registry.evidence import Evaluation, ImageScore, Interval, Metric
from resunet.errors import SettingsError
from resunet.metrics import METRICS

# MLflow refuses a longer name of a metric.
MAX_METRIC_NAME: Final = 250
_SLICE: Final = "slice."
_HASH_DIGITS: Final = 8


def metric_name(name: str) -> Metric:
    """A name of `METRICS` as the type that `evaluation.json` is checked by; a test holds that they are the same."""
    return cast(Metric, name)


def format_interval(interval: Interval | None) -> str:
    """`0.912 (0.900–0.925)`, or a dash where there is none."""
    return "–" if interval is None else f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def evaluation_table(evaluation: Evaluation, title: str) -> Table:
    """An evaluation as a table: a row overall and a row a slice, each metric with its 95 % interval."""
    table = Table("", "images", title=f"{title}: mean (95 % interval)")
    metrics = [metric for metric in METRICS if metric_name(metric) in evaluation.overall]
    for metric in metrics:
        table.add_column(metric.replace("_", " "), no_wrap=True)
    rows: list[tuple[str, int, Mapping[Metric, Interval]]] = [("all", evaluation.images, evaluation.overall)]
    rows += [(name, part.images, part.metrics) for name, part in evaluation.slices.items()]
    for name, count, values in rows:
        cells = [format_interval(values.get(metric_name(metric))) for metric in metrics]
        table.add_row(name, str(count), *cells)
    for name in evaluation.unevaluated_slices:
        table.add_row(name, "0", "not evaluated", *[""] * (len(metrics) - 1))
    return table


def check_scores_file(path: Path) -> None:
    """See that scores can be written there, before they are measured.

    Raises:
        SettingsError: its name ends neither in .json nor in .csv, or its folder is missing.
    """
    if path.suffix.lower() not in (".json", ".csv"):
        raise SettingsError(f"out: {path.name} ends neither in .json (all of it) nor in .csv (a row an image)")
    if not path.parent.is_dir():
        raise SettingsError(f"out: there is no folder {path.parent}; make it, or write elsewhere")


def write_scores(evaluation: Evaluation, path: Path) -> None:
    """Write all of an evaluation (`.json`, the format of `evaluation.json`) or its scores, a row an image (`.csv`).

    Raises:
        SettingsError: the file cannot be written.
    """
    try:
        if path.suffix.lower() == ".json":
            path.write_text(evaluation.model_dump_json(indent=2) + "\n", encoding="utf-8")
            return
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(ImageScore.model_fields))
            writer.writeheader()
            writer.writerows(score.model_dump() for score in evaluation.per_image)
    except OSError as error:
        raise SettingsError(f"out: {path} cannot be written ({error.strerror}); write elsewhere") from error


def run_metrics(evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as metrics of an MLflow run: `test_dice`, its bounds, and `slice.<column>.<value>.dice`."""
    values: dict[str, float] = {}
    for metric, interval in evaluation.overall.items():
        values |= {f"test_{metric}": interval.mean}
        values |= {f"test_{metric}_low": interval.low, f"test_{metric}_high": interval.high}
    keys = slice_keys(evaluation.slices)
    for name, result in evaluation.slices.items():
        values |= {f"{_SLICE}{keys[name]}.{metric}": value.mean for metric, value in result.metrics.items()}
    return values


def slice_keys(names: Iterable[str]) -> dict[str, str]:
    """What to call slices in a run: a slice's value is any text of any length ("H&E"), a metric's name is not.

    A name that is cut, or that another slice would have too ("H&E" and "H_E"), ends in a hash of the slice.

    Args:
        names: `column=value`, each once.

    Returns:
        the key of each.
    """
    plain = {name: re.sub(r"[^\w.-]", "_", name.replace("=", ".", 1)) for name in names}
    # Some databases hold two names for one that differ in case alone.
    users = Counter(key.casefold() for key in plain.values())
    room = MAX_METRIC_NAME - len(_SLICE) - 1 - max(map(len, METRICS))
    keys = {}
    for name, key in plain.items():
        if users[key.casefold()] > 1 or len(key) > room:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
            key = f"{key[: room - _HASH_DIGITS - 1]}.{digest}"
        keys[name] = key
    return keys

"""Evidently's part: the p-values, and a page that opens without a network.

    page = Page(heading="resunet version 3", rule="…", rows={"brightness": Row(0.4, ("54", "87", "+2.1 SD"))})
    p_values = run_evidently(usable, page, threshold=0.0005, min_effect=0.1, folder=folder)

Importing this module takes seconds, Evidently's: import it where it is needed.

Evidently draws its own verdict on each descriptor. So that its page and this platform's verdict are the same
sentence, it is given a test of our own: its Kolmogorov–Smirnov p-value with our threshold and least effect.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.core.container import MetricContainer
from evidently.legacy.calculations.stattests import StatTest, ks_stat_test, register_stattest
from evidently.legacy.core import ColumnType
from evidently.legacy.renderers.html_widgets import CounterData, counter, table_data
from evidently.metrics import ValueDrift

from monitoring.drift import Comparison, effect

HTML_FILE = "evidently.html"
JSON_FILE = "evidently.json"
CELLS = ("reference mean", "live mean", "shift")
_METHOD = "ks_with_effect"


@dataclass(frozen=True)
class Row:
    """What the page's table says of a descriptor besides its p-value; `cells` stand below `CELLS`."""

    effect: float
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """What stands above Evidently's own blocks, and the descriptors in the order to show them."""

    heading: str
    rule: str
    rows: Mapping[str, Row]


class _DriftPage(MetricContainer):  # type: ignore[misc]
    """A block a descriptor, what moved first: Evidently's own preset puts that on its last page."""

    heading: str
    rule: str
    effects: dict[str, float]
    cells: dict[str, list[str]]
    threshold: float
    min_effect: float

    def generate_metrics(self, context: Any) -> list[Any]:
        return [ValueDrift(column=column, method=_METHOD, threshold=self.threshold) for column in self.effects]

    def render(self, context: Any, child_widgets: Any = None) -> list[Any]:
        blocks = []
        for (column, gap), (metric, widgets) in zip(self.effects.items(), child_widgets or [], strict=True):
            p_value = float(context.get_metric_result(metric).value)
            moved = p_value <= self.threshold and gap >= self.min_effect
            mark = "moved" if moved else ""
            blocks.append((moved, [column, mark, f"{gap:.2f}", f"{p_value:.1e}", *self.cells[column]], widgets))
        blocks.sort(key=lambda block: not block[0])
        moved_columns = sum(moved for moved, _, _ in blocks)
        counters = [
            CounterData("descriptors compared", str(len(blocks))),
            CounterData("descriptors moved", str(moved_columns)),
            CounterData("verdict", "drift" if moved_columns else "no drift"),
        ]
        table = table_data(
            title=self.rule,
            column_names=["descriptor", "", "effect", "p-value", *CELLS],
            data=[row for _, row, _ in blocks],
        )
        rest = [widget for _, _, widgets in blocks for widget in widgets]
        return [counter(title=self.heading, counters=counters), table, *rest]


def run_evidently(
    comparisons: Sequence[Comparison], page: Page, *, threshold: float, min_effect: float, folder: Path
) -> dict[str, float]:
    """Run Evidently on descriptors without gaps, and keep its report in a folder.

    Args:
        comparisons: at most some 10,000 values a side, for the report to take seconds.
        page: its rows name the same descriptors.
        threshold: p-value at or below which a descriptor has moved.
        min_effect: Kolmogorov–Smirnov statistic that it must reach besides.
        folder: where `evidently.html` and `evidently.json` go.

    Returns:
        Evidently's p-value of each descriptor.
    """
    _register(min_effect)
    definition = DataDefinition(numerical_columns=list(page.rows))
    container = _DriftPage(
        heading=page.heading,
        rule=page.rule,
        effects={column: row.effect for column, row in page.rows.items()},
        cells={column: list(row.cells) for column, row in page.rows.items()},
        threshold=threshold,
        min_effect=min_effect,
    )
    with warnings.catch_warnings():
        # It correlates all columns with each other, which has no answer for a constant one.
        warnings.simplefilter("ignore")
        snapshot = Report([container]).run(
            Dataset.from_pandas(_frame({c.column: c.live for c in comparisons}), definition),
            Dataset.from_pandas(_frame({c.column: c.reference for c in comparisons}), definition),
        )
        snapshot.save_html(str(folder / HTML_FILE))
        snapshot.save_json(str(folder / JSON_FILE))
    values = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
    return {c.column: values[c.column] for c in comparisons}


def _register(min_effect: float) -> None:
    def test(reference: Any, live: Any, kind: Any, threshold: float) -> tuple[float, bool]:
        p_value, significant = ks_stat_test.func(reference, live, kind, threshold)
        gap = effect(reference.to_numpy(), live.to_numpy())
        return float(p_value), bool(significant and gap >= min_effect)

    name = f"Kolmogorov–Smirnov p-value, with an effect of at least {min_effect:g}"
    register_stattest(StatTest(_METHOD, name, [ColumnType.Numerical]), test)


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    """Columns of unequal length, filled up with NaN, which Evidently drops before it compares."""
    return pd.DataFrame({name: pd.Series(values, dtype="float64") for name, values in columns.items()})

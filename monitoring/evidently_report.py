"""Evidently's part: a page that opens without a network, and a snapshot for its workspace.

    rows = {"brightness": Row(0.004, moved=True, effect=0.4, cells=("54", "87", "+2.1 SD"))}
    page = Page(heading="resunet version 3", rule="…", verdict="drift", rows=rows)
    run_evidently(values, page, folder, when=window.end)

Importing this module takes seconds, Evidently's: import it where it is needed.

Evidently draws its own verdict on each descriptor. So that its page and this platform's verdict are the same
sentence, each descriptor is given a test of our own there: the p-value of the permutation test, and whether it moved.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.core.container import MetricContainer
from evidently.core.report import Snapshot
from evidently.legacy.calculations.stattests import StatTest, register_stattest
from evidently.legacy.core import ColumnType
from evidently.legacy.renderers.html_widgets import CounterData, counter, table_data
from evidently.metrics import DriftedColumnsCount, ValueDrift

from monitoring.drift import Values
from monitoring.parts.words import Listed

HTML_FILE = "evidently.html"
JSON_FILE = "evidently.json"
CELLS = ("reference mean", "live mean", "shift")
_METHOD = "resunet_{}"


@dataclass(frozen=True)
class Row:
    """What the page says of a descriptor; `cells` stand below `CELLS`."""

    p_value: float
    moved: bool
    effect: float
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """What stands above Evidently's own blocks, and the descriptors in the order to show them.

    All of it stands in a script: of what clients wrote only what `monitoring.parts.names` lets through may be in it.
    """

    heading: str
    rule: str
    verdict: str
    rows: Mapping[str, Row]
    tables: tuple[Listed, ...] = ()


class _DriftPage(MetricContainer):  # type: ignore[misc]
    """A block a descriptor, what moved first: Evidently's own preset puts that on its last page."""

    heading: str
    rule: str
    verdict: str
    columns: list[str]
    moved: int
    cells: list[list[str]]
    tables: list[tuple[str, list[str], list[list[str]]]]

    def generate_metrics(self, context: Any) -> list[Any]:
        methods = {column: _METHOD.format(column) for column in sorted(self.columns)}
        each = [ValueDrift(column=column, method=methods[column]) for column in self.columns]
        # For the dashboard of the workspace: of the page it would say by Evidently's own rule what is drift.
        return [*each, DriftedColumnsCount(columns=list(methods), per_column_method=methods)]

    def render(self, context: Any, child_widgets: Any = None) -> list[Any]:
        counters = [
            CounterData("descriptors compared", str(len(self.columns))),
            CounterData("descriptors moved", str(self.moved)),
            CounterData("verdict", self.verdict),
        ]
        table = table_data(
            title=self.rule, column_names=["descriptor", "", "effect", "p-value", *CELLS], data=self.cells
        )
        each = list(child_widgets or [])[: len(self.columns)]
        rest = [widget for _, widgets in each for widget in widgets]
        more = [table_data(title=title, column_names=names, data=rows) for title, names, rows in self.tables]
        return [counter(title=self.heading, counters=counters), table, *more, *rest]


def run_evidently(values: Mapping[str, Values], page: Page, folder: Path, when: datetime) -> Snapshot:
    """Run Evidently on descriptors without gaps, and keep its report in a folder.

    Args:
        values: at most some 10,000 a side, for the report to take seconds.
        page: its rows name the same descriptors.
        folder: where `evidently.html` and `evidently.json` go.
        when: the time that the report is of.
    """
    ranked = sorted(page.rows.items(), key=lambda item: not item[1].moved)
    for column, row in ranked:
        _register(column, row)
    container = _DriftPage(
        heading=page.heading,
        rule=page.rule,
        verdict=page.verdict,
        columns=[column for column, _ in ranked],
        moved=sum(row.moved for _, row in ranked),
        cells=[
            [column, "moved" if row.moved else "", f"{row.effect:.2f}", f"{row.p_value:.1e}", *row.cells]
            for column, row in ranked
        ],
        tables=[(one.title, list(one.cells), [list(row) for row in one.rows]) for one in page.tables],
    )
    definition = DataDefinition(numerical_columns=[column for column, _ in ranked])
    with warnings.catch_warnings():
        # It correlates all columns with each other, which has no answer for a constant one.
        warnings.simplefilter("ignore")
        snapshot = Report([container]).run(
            Dataset.from_pandas(_frame({name: both[1] for name, both in values.items()}), definition),
            Dataset.from_pandas(_frame({name: both[0] for name, both in values.items()}), definition),
            timestamp=when,
            name=page.heading,
            tags=[page.verdict],
        )
        snapshot.save_html(str(folder / HTML_FILE))
        snapshot.save_json(str(folder / JSON_FILE))
    return snapshot


def _register(column: str, row: Row) -> None:
    def test(reference: Any, live: Any, kind: Any, threshold: float) -> tuple[float, bool]:
        return row.p_value, row.moved

    title = "largest gap between the cumulative distributions, permutation p-value for all descriptors together"
    register_stattest(StatTest(_METHOD.format(column), title, [ColumnType.Numerical]), test)


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    """Columns of unequal length, filled up with NaN, which Evidently drops before it compares."""
    return pd.DataFrame({name: pd.Series(values, dtype="float64") for name, values in columns.items()})

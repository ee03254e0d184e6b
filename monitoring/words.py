"""How a report reads: units, numbers, what changed, the ranked table and the one-line summary.

change(column)                  # "brightness +38 %", "saturation 0.02 → 0.41", "entropy 4.1 → 5.2 bits"
"""

from typing import Protocol

from rich.table import Table

from monitoring.drift import Drift, TestResult

STILL_SHOWN = 4
_NAMED = 3
MOVED = "→"
_LEVELS = "grey levels"
_UNITS = {
    "width": "px",
    "height": "px",
    "brightness": _LEVELS,
    "contrast": _LEVELS,
    **{f"{what}_{channel}": _LEVELS for what in ("mean", "std") for channel in "rgb"},
    "entropy": "bits",
    "sharpness": "grey levels²",
    "noise": _LEVELS,
    "clipped_low": "of pixels",
    "clipped_high": "of pixels",
    "foreground_fraction": "of pixels",
    "component_count": "objects",
}
# Amounts of something: of these a ratio says more than the numbers.
_AMOUNTS = ("brightness", "contrast", "sharpness", "noise", "width", "height", "component_count")

_SIDES = {"input": "images", "prediction": "predictions"}
_SEEN = {
    "gaps": "descriptors of {side} moved",
    "shift": "descriptors of {side} moved together, none of them far by itself",
    "strangers": "{share} more of the {side} than by chance are like none of the reference",
    "energy": "embeddings of the {side} moved",
}


class Changed(Protocol):
    """A descriptor's means."""

    @property
    def column(self) -> str: ...

    @property
    def reference_mean(self) -> float: ...

    @property
    def live_mean(self) -> float: ...


def label(column: str) -> str:
    """A descriptor with its unit, if it has one."""
    return f"{column} ({_UNITS[column]})" if column in _UNITS else column


def unit(column: str) -> str:
    """A descriptor's unit, empty if it has none."""
    return _UNITS.get(column, "")


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def change(column: Changed) -> str:
    """How a descriptor's mean changed: in percent where that says more than the numbers, else from where to where."""
    before, now = column.reference_mean, column.live_mean
    if is_ratio(column):
        return f"{column.column} {now / before - 1:+.0%}".replace("%", " %")
    return f"{column.column} {from_to(column)}"


def is_ratio(column: Changed) -> bool:
    """Whether a descriptor's change is told in percent."""
    return column.column in _AMOUNTS and column.reference_mean > 0


def from_to(column: Changed) -> str:
    """A descriptor's means in its unit."""
    return f"{number(column.reference_mean)} → {number(column.live_mean)} {unit(column.column)}".rstrip()


def shift_text(shift: float | None) -> str:
    """A shift in standard deviations of the reference; empty where that is 0."""
    return "" if shift is None else f"{shift:+.1f} SD"


def rule_text(drift: Drift) -> str:
    """When a descriptor counts as moved."""
    levels = sorted({test.level for test in drift.tests})
    within = " or ".join(f"{limit:.2g}" for limit in levels)
    return (
        f"{MOVED} moved: p (for all descriptors together) at most {within}, so that of 100 windows without drift "
        f"{drift.rule.alpha * 100:g} at most raises an alarm; and effect (largest gap between the cumulative "
        f"distributions) at least {drift.rule.min_effect:g}."
    )


def summary(drift: Drift) -> str:
    """The verdict in one line."""
    if drift.verdict == "no drift":
        return f"no drift: none of {len(drift.columns)} descriptors moved"
    seen = [finding.words for finding in drift.faults]
    if drift.moved:
        share = f"{len(drift.moved)} of {len(drift.columns)}"
        seen.append(f"{share} descriptors moved, most of all {', '.join(map(change, drift.moved[:_NAMED]))}")
    seen += [said(test) for test in drift.alarms if test.name != "gaps" and not (drift.moved and test.name == "shift")]
    return f"drift: {'; '.join(seen)}"


def said(test: TestResult) -> str:
    """What a test that raised an alarm has seen."""
    return _SEEN[test.name].format(side=_SIDES[test.side], share=f"{test.effect:.0%}")


def drift_table(drift: Drift, title: str) -> Table:
    """What moved, ranked, and the first that did not, for a terminal of 80 columns."""
    table = Table(title=title, title_justify="left", caption=rule_text(drift), caption_justify="left")
    table.add_column("descriptor", no_wrap=True)
    for heading in ("effect", "p-value", "reference", "live", "shift"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    still = [column for column in drift.columns if not column.moved]
    for column in (*drift.moved, *still[:STILL_SHOWN]):
        table.add_row(
            f"{MOVED if column.moved else ' '} {column.column}",
            f"{column.effect:.2f}",
            f"{column.p_value:.1e}",
            number(column.reference_mean),
            number(column.live_mean),
            shift_text(column.shift),
            unit(column.column),
            style="bold red" if column.moved else "dim",
        )
    if len(still) > STILL_SHOWN:
        table.add_row(f"and {len(still) - STILL_SHOWN} that did not move", style="dim")
    return table


def markdown(drift: Drift, headline: str) -> str:
    """The same for the description of an MLflow run."""
    lines = [f"**{summary(drift)}**", "", headline, ""]
    lines += [
        "| descriptor | moved | effect | p-value | reference mean | live mean | shift |",
        "| --- " * 7 + "|",
    ]
    lines += [
        f"| {label(c.column)} | {'moved' if c.moved else ''} | {c.effect:.2f} | {c.p_value:.1e} "
        f"| {number(c.reference_mean)} | {number(c.live_mean)} | {shift_text(c.shift)} |"
        for c in drift.columns
    ]
    return "\n".join([*lines, "", rule_text(drift)])

"""What is asked of a window of live images, and what came out.

question = Question(version=find_version(client, "resunet"), window=window)
answer.drift.verdict, answer.headline, answer.notes, answer.as_json()
"""

import math
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from monitoring.drift import FEW_GROUPS, Drift, LeftOut, Rule
from monitoring.explain import looks_like
from monitoring.live import LIVE_ROUTES, RowCounts
from monitoring.parts.as_json import as_json as parts_as_json
from monitoring.parts.breakdown import Breakdown
from monitoring.parts.words import sentences
from monitoring.performance.estimated import Estimate
from monitoring.tracking import WatchedVersion
from monitoring.window import MIN_ROWS, Window
from monitoring.words import summary
from records.watch.reports import Kind, WindowReport

FORMAT_VERSION: Final = 2
NO_ESTIMATE: Final = Estimate(math.nan, math.nan, math.nan, 0, declined="there are too few rows")


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        min_rows: with fewer live rows there is no verdict.
        rule: what is worth an alarm.
        sample_rows: most rows a side that are looked at, drawn with the rule's seed.
    """

    version: WatchedVersion
    window: Window
    routes: tuple[str, ...] = LIVE_ROUTES
    min_rows: int = MIN_ROWS
    rule: Rule = field(default_factory=Rule)
    sample_rows: int = 10_000


@dataclass(frozen=True)
class Answer:
    """What came out.

    Attributes:
        counts: all rows of the window; at most `sample_rows` of the compared ones were looked at.
        not_compared: descriptors for which a side holds too few values.
        run_id: the MLflow run that keeps it.
        estimate: mean Dice of the window without labels.
        parts: the window by slice and by version.
    """

    question: Question
    drift: Drift
    counts: RowCounts
    not_compared: tuple[LeftOut, ...]
    run_id: str
    estimate: Estimate = NO_ESTIMATE
    parts: Breakdown = field(default_factory=Breakdown)

    @property
    def headline(self) -> str:
        window, rows = self.question.window, self.counts.compared
        return f"{self.question.version}, {window}, {rows:,} images"

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        return too_few(self) if self.drift.verdict == "too few rows" else summary(self.drift)

    @property
    def notes(self) -> list[str]:
        """What a reader must know besides the table."""
        notes = [f"Left out: {_left_out(self.counts)}."] if self.counts.left_out else []
        if self.counts.compared > self.question.sample_rows and self.drift.columns:
            looked_at = f"{self.question.sample_rows:,} of the {self.counts.compared:,}"
            notes.append(f"A sample of {looked_at} rows was compared; the live means are of all.")
        if guesses := looks_like(self.drift):
            notes.insert(0, f"Looks like: {'; '.join(guesses)}.")
        notes += sentences(self.parts)
        notes += [f"{finding.words[0].upper()}{finding.words[1:]}." for finding in self.drift.quality]
        notes.append(_estimated(self.estimate))
        notes += [f"{left.column} was not compared: {left.reason}." for left in self.not_compared]
        return notes

    def as_json(self) -> dict[str, Any]:
        """`drift.json`."""
        question = self.question
        return {
            "format_version": FORMAT_VERSION,
            "verdict": self.drift.verdict,
            "model_name": question.version.name,
            "model_version": question.version.version,
            "version_digest": question.version.digest,
            "window_start": question.window.start.isoformat(),
            "window_end": question.window.end.isoformat(),
            "routes": list(question.routes),
            "rows": self.counts.compared,
            "rows_needed": question.min_rows,
            "rows_looked_at": min(self.counts.compared, question.sample_rows),
            "rows_left_out": self.counts.left_out,
            **asdict(self.drift.rule),
            "p_value": self.drift.p_value,
            "share_drifted": self.drift.share_drifted,
            "estimated_dice": _known(self.estimate.dice),
            "estimated_low": _known(self.estimate.low),
            "estimated_high": _known(self.estimate.high),
            "estimate_declined": self.estimate.declined,
            "looks_like": looks_like(self.drift),
            "quality": [asdict(finding) | {"alarm": finding.alarm} for finding in self.drift.quality],
            "tests": [asdict(test) for test in self.drift.tests],
            "columns": [asdict(column) for column in self.drift.columns],
            "not_compared": [asdict(left) for left in self.not_compared],
            **parts_as_json(self.parts),
        }

    def as_row(self, made: datetime, kind: Kind = "window") -> WindowReport:
        """What the database keeps of it."""
        question, drift = self.question, self.drift
        return WindowReport(
            model_name=question.version.name,
            model_version=question.version.version,
            version_digest=question.version.digest,
            window_start=question.window.start,
            window_end=question.window.end,
            routes=question.routes,
            verdict=drift.verdict,
            p_value=drift.p_value,
            rows=self.counts.compared,
            moved=tuple(column.column for column in drift.moved),
            summary=self.summary,
            estimated_dice=_known(self.estimate.dice),
            estimated_low=_known(self.estimate.low),
            estimated_high=_known(self.estimate.high),
            run_id=self.run_id,
            made=made,
            kind=kind,
        )


def too_few(answer: Answer) -> str:
    """Why there is no verdict, and what to do about it."""
    question = answer.question
    if of_groups := [left.reason for left in answer.not_compared if FEW_GROUPS in left.reason]:
        return (
            f"too few rows: {of_groups[0]}. The window {question.window} holds {answer.counts.compared} rows of "
            f"{question.version}; train a version on images of more groups, or without the column `group` if they are "
            "independent of each other"
        )
    others = f" (left out: {_left_out(answer.counts)})" if answer.counts.left_out else ""
    copies = " of so many different images" if answer.counts.compared >= question.min_rows else ""
    return (
        f"too few rows: the window {question.window} holds {answer.counts.compared} rows of "
        f"{question.version}{others}; at least {question.min_rows}{copies} are needed. Ask for a longer "
        "--window, or check that the server logs to this database (RESUNET_INFERENCE_LOG)"
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _estimated(estimate: Estimate) -> str:
    if estimate.declined is not None:
        return f"Dice was not estimated: {estimate.declined}."
    interval = f"{estimate.low:.3f} … {estimate.high:.3f}"
    return f"Estimated mean Dice, without labels: {estimate.dice:.3f} ({estimate.level:.0%} interval {interval})."


def _left_out(counts: RowCounts) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.left_out.items())

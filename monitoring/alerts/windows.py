"""Conditions on windows: a mark for each report, a row of them for each version, set of routes and length of window.

for seen in observe_windows(sources.engine, policy.model_name, policy.when):
    seen.subject, seen.marks
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from monitoring.alerts.conditions import Condition
from monitoring.alerts.looking import furthest_command
from monitoring.alerts.sources import Observation, Subject
from monitoring.alerts.state import Mark
from monitoring.window import span
from records.watch.reports import Kind, WindowReport, latest_reports

# Of more reports than these since the last look the oldest are passed over.
_REPORTS: Final = 1000
_Row = tuple[str, tuple[str, ...], timedelta]


def observe_windows(engine: Engine, model: str, when: Condition) -> list[Observation]:
    """What the reports on a model say of a condition.

    Raises:
        RecordsError: the database does not answer.
    """
    kind: Kind = "trend" if when.name == "trend" else "window"
    reports = latest_reports(engine, model, limit=_REPORTS, kind=kind)
    rows = dict[_Row, list[WindowReport]]()
    for report in reversed(reports):
        length = report.window_end - report.window_start
        rows.setdefault((report.model_version, report.routes, length), []).append(report)
    reach = _has_to_reach(reports, kind)
    return [
        Observation(
            Subject(model, version, _named(routes, length)),
            tuple(_mark(report, when) for report in row),
            watched=row[-1].window_end >= reach[length],
        )
        for (version, routes, length), row in rows.items()
    ]


def _has_to_reach(reports: Sequence[WindowReport], kind: Kind) -> dict[timedelta, datetime]:
    """How far a row has to reach to be still looked at, by length of window.

    Of two schedules one reports first, and a look in between sees the other's row one report behind. So a row has ended
    not with the first report that it lacks but with the second: in windows, when one is reported on that begins after
    its end; in trends, whose windows overlap, when two end after it.
    """
    moments = dict[timedelta, set[datetime]]()
    for report in reports:
        moment = report.window_start if kind == "window" else report.window_end
        moments.setdefault(report.window_end - report.window_start, set()).add(moment)
    if kind == "window":
        return {length: max(starts) for length, starts in moments.items()}
    return {length: sorted(ends)[-2:][0] for length, ends in moments.items()}


def _named(routes: tuple[str, ...], length: timedelta) -> str:
    return f"windows of {span(length)}, {', '.join(routes)}"


def _mark(report: WindowReport, when: Condition) -> Mark:
    good, said = _judge(report, when)
    return Mark(report.window_end, good, said, _details(report), report.window_start, report.run_id)


def _judge(report: WindowReport, when: Condition) -> tuple[bool | None, str]:
    """Whether a window is good, None where it cannot be told, and what it shows."""
    few = report.verdict == "too few rows"
    if when.estimated_dice is not None:
        return _judge_estimate(report, when.estimated_dice.below)
    if when.verdict == "too few rows":
        return not few, f"too few rows: {report.rows} were there to compare" if few else f"{report.rows} rows"
    if few:
        return None, report.summary
    if when.descriptor is not None:
        moved = report.verdict == "drift" and when.descriptor in report.moved
        place = f", in place {report.moved.index(when.descriptor) + 1} of {len(report.moved)}" if moved else ""
        return not moved, f"{when.descriptor} {'moved' if moved else 'did not move'}{place}; {report.summary}"
    return report.verdict == "no drift", report.summary


def _judge_estimate(report: WindowReport, below: float) -> tuple[bool | None, str]:
    dice = report.estimated_dice
    if dice is None:
        return None, "Dice could not be estimated"
    return dice >= below, f"estimated Dice {dice:.3f} ({'below' if dice < below else 'not below'} {below:g})"


def _details(report: WindowReport) -> tuple[str, ...]:
    window = f"{report.window_start:%Y-%m-%d %H:%M} to {report.window_end:%Y-%m-%d %H:%M} UTC"
    lines = [f"window: {window}, {report.rows} rows, routes {', '.join(report.routes)}"]
    if report.p_value is not None:
        lines.append(f"p-value of the window: {report.p_value:.2g}")
    if report.moved:
        lines.append(f"moved most: {', '.join(report.moved[:5])}")
    if report.estimated_dice is not None:
        interval = ""
        if report.estimated_low is not None and report.estimated_high is not None:
            interval = f" ({report.estimated_low:.3f} to {report.estimated_high:.3f})"
        lines.append(f"estimated Dice: {report.estimated_dice:.3f}{interval}")
    # Where all are refused there is nothing to draw.
    if report.verdict == "drift" and report.kind == "window" and report.p_value is not None:
        lines.append(f"the images furthest from the reference: {furthest_command(report)}")
    return tuple(lines)

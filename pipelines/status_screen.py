"""How `resunet status` reads: one screen of 80 columns, which a pipe gets without colours.

Console().print(screen(overview))
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from records.texts import one_line
from records.watch.alerts import Alert, about
from records.watch.job_words import ago
from records.watch.measured import MeasuredDice
from records.watch.overview import Job, Overview, Rollout, Stage, Told
from records.watch.reports import Verdict, WindowReport
from records.watch.traffic import Traffic
from records.watch.wording import (
    estimate,
    failed_text,
    milliseconds,
    moment,
    p_value,
    percent,
    refused_share,
    size,
    with_interval,
)

_BARS: Final = "▁▂▃▄▅▆▇█"
_MARKS: Final[dict[Verdict, str]] = {"no drift": "·", "drift": "!", "too few rows": "?"}
# Of a list, so that all of it is one screen; of windows the newest, in a line.
_MOST: Final = 4
_MOST_WINDOWS: Final = 48
_HEADING: Final = len("Production")
_ALARM, _SOFT = "bold red", "dim"
Lines = Iterator[Text | str]


def screen(seen: Overview) -> Group:
    """All of it."""
    head = Text(f"{one_line(seen.model)}, {moment(seen.span.start)} to {moment(seen.span.now)} UTC", "bold")
    notes = [Text(f"! {one_line(one)}", _ALARM) for one in (*seen.concerns, *seen.failures)]
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="bold", no_wrap=True, min_width=_HEADING)
    table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    for heading, lines in _sections(seen):
        for place, line in enumerate(lines):
            table.add_row("" if place else heading, line)
    return Group(head, *notes, table)


def sparkline(values: Sequence[float | None], low: float | None = None, high: float | None = None) -> str:
    """A bar for each value, a space where there is none; by default from 0 to the largest."""
    known = [value for value in values if value is not None]
    least, most = 0.0 if low is None else low, high if high is not None else max(known, default=0.0)
    reach = most - least

    def bar(value: float | None) -> str:
        if value is None:
            return " "
        share = (value - least) / reach if reach > 0 else 0.0
        place = int(min(max(share, 0.0), 1.0) * (len(_BARS) - 1) + 0.5)
        # What is not nothing is seen to be more than nothing.
        return _BARS[max(place, 1) if value > least and reach > 0 else place]

    return "".join(bar(value) for value in values)


def _sections(seen: Overview) -> Iterator[tuple[str, Lines]]:
    yield "Production", _stage(seen.production)
    yield "Staging", _stage(seen.staging)
    yield "Rollout", _rollout(seen.rollout)
    yield "Traffic", _traffic(seen.traffic)
    yield "Drift", _drift(seen)
    yield "Dice", _dice(seen)
    yield "Alerts", _alerts(seen.alerts, seen.span.now)
    yield "Jobs", _jobs(seen.jobs, seen.span.now)
    yield "Disk", _disk(seen)


def _missing(part: Told[Any]) -> Lines:
    yield Text("not known: see above", _ALARM) if part.failed else Text(one_line(part.missing), _SOFT)


def _stage(part: Told[Stage]) -> Lines:
    stage = part.value
    if stage is None:
        yield from _missing(part)
        return
    since = f", since {moment(stage.since)}" if stage.since else ""
    yield f"version {one_line(stage.version)}{since}" + (f", Dice {stage.dice:.3f} in its test" if stage.dice else "")


def _rollout(part: Told[Rollout]) -> Lines:
    if part.value is None:
        yield from _missing(part)
    else:
        shares = f"{percent(part.value.canary)} of the callers, {percent(part.value.shadow)} of the requests twice"
        yield f"version {one_line(part.value.version)}: {part.value.phase}, {shares}"


def _traffic(part: Told[Traffic]) -> Lines:
    found = part.value
    if found is None:
        yield from _missing(part)
        return
    refused = f"{found.refused:,} refused ({refused_share(found.refused, found.answered)})"
    yield f"{found.answered:,} images answered, {refused}"
    yield Text(failed_text(found), _ALARM if found.failures_lately else "")
    if found.failures:
        yield f"failed   {sparkline([one.failed for one in found.buckets])}"
    if found.answered + found.refused:
        yield f"answered {sparkline([one.answered for one in found.buckets])}"
        yield f"refused  {sparkline([one.refused for one in found.buckets])}"
        yield f"p95      {sparkline([one.p95_ms for one in found.buckets])}"
        yield f"latency  p50 {milliseconds(found.p50_ms)}, p95 {milliseconds(found.p95_ms)}"
    for one in found.parts[:_MOST]:
        latency = f"p50 {milliseconds(one.p50_ms)}, p95 {milliseconds(one.p95_ms)}"
        counts = f"{one.answered:,} answered, {one.refused:,} refused"
        yield Text(f"{one_line(one.version)}, {one.route}: {counts}, {latency}", _SOFT)
    yield from _more(len(found.parts))
    if found.unsummed:
        yield Text(f"of {found.unsummed} hours no latency is known: python -m monitoring trend sums them up", _SOFT)


def _drift(seen: Overview) -> Lines:
    part = seen.drift
    if part.value is None:
        yield from _missing(part)
    else:
        last = part.value.last
        window = f"{moment(last.window_start)} to {moment(last.window_end)}"
        yield _verdict(last, f"{last.verdict}, p {p_value(last)}, {last.rows:,} images of version {last.model_version}")
        yield Text(f"window {window} UTC", _SOFT)
        if last.moved:
            yield Text(f"moved most: {', '.join(last.moved)}", _SOFT)
        course = part.value.course[-_MOST_WINDOWS:]
        yield f"verdicts {''.join(_MARKS[one.verdict] for one in course)}  · no drift, ! drift, ? too few rows"
        yield f"p        {sparkline([one.p_value for one in course], high=1.0)}"
    trend = seen.trend.value
    if trend is None:
        yield from _missing(seen.trend)
    else:
        yield _verdict(trend, f"trend: {one_line(trend.summary)}")


def _verdict(report: WindowReport, text: str) -> Text:
    return Text(one_line(text), _ALARM if report.verdict == "drift" else "")


def _dice(seen: Overview) -> Lines:
    drift, dice = seen.drift.value, seen.dice
    if drift is not None:
        declined = "" if drift.last.estimated_dice is not None else " (the report says why)"
        yield f"estimated without labels: {estimate(drift.last)}{declined}"
        course = [one.estimated_dice for one in drift.course[-_MOST_WINDOWS:]]
        yield f"estimated {sparkline(course, 0.5, 1.0)}  from 0.5 to 1"
    if dice.value is None:
        yield from _missing(dice)
        return
    for one in dice.value.versions[:_MOST]:
        yield f"measured by audits: {_measured(one)}"
    yield from _more(len(dice.value.versions))
    yield f"measured  {sparkline([one.mean for one in dice.value.course], 0.5, 1.0)}  from 0.5 to 1"


def _measured(one: MeasuredDice) -> str:
    return f"{with_interval(one.mean, one.low, one.high)}, {one.images:,} images of version {one_line(one.version)}"


def _alerts(part: Told[tuple[Alert, ...]], now: datetime) -> Lines:
    if part.value is None:
        yield from _missing(part)
        return
    if not part.value:
        yield "nothing fires"
    for one in part.value[:_MOST]:
        known = ", acknowledged" if one.acknowledged_at else ""
        begun = f" for {ago(one.since, now).removesuffix(' ago')}" if one.since else ""
        said = f"{one.id} {one.severity} {one.status}{begun}{known}: {one.policy}, {about(one)}: {one.summary}"
        yield Text(one_line(said), _ALARM if one.status == "firing" and not known else "")
    yield from _more(len(part.value))


def _jobs(part: Told[tuple[Job, ...]], now: datetime) -> Lines:
    if part.value is None:
        yield from _missing(part)
        return
    for job in sorted(part.value, key=lambda job: not job.trouble)[:_MOST]:
        state = job.state
        due = "runs now" if job.running else f"due {ago(state.due, now)}" if state.due else "not due"
        outcome = "failed" if state.failed else "overdue" if job.trouble else state.last_outcome or "has not ended yet"
        said = f"{state.name}: {outcome} {ago(state.last_finished, now)}, {due}, heartbeat {ago(state.heartbeat, now)}"
        yield Text(one_line(said), _ALARM if job.trouble else "")
    yield from _more(len(part.value))


def _disk(seen: Overview) -> Lines:
    disk = seen.disk.value
    if disk is None:
        yield from _missing(seen.disk)
        return
    yield f"{percent(disk.free_share)} free ({size(disk.free_bytes)}), here"
    rejected = f", {size(disk.rejected_bytes)} rejected" if disk.rejected_bytes else ""
    yield f"{size(disk.waiting_bytes)} wait for the database{rejected}"
    for name, kept in (("masks", disk.masks), ("images", disk.images)):
        if kept.oldest is not None:
            yield f"{name} of {kept.days} days, since {kept.oldest}"


def _more(count: int) -> Lines:
    if count > _MOST:
        yield Text(f"and {count - _MOST} more: --json has all of them", _SOFT)

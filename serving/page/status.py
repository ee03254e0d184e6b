"""The page at `/status`: an overview as one HTML file without scripts, which asks for itself again by a meta tag.

text = render(overview, health_status="ok", troubles=(), age_s=2.0, model="resunet")

Whatever people and clients have named is escaped. It tells neither who sent something nor any request's id, nor which
machine runs a job.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from jinja2 import Environment, StrictUndefined, Template

from records.texts import one_line
from records.watch.alerts import Alert, about
from records.watch.job_words import ago
from records.watch.overview import Job, Overview
from records.watch.reports import WindowReport
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
from serving.page.charts import HEIGHT, WIDTH, Chart, dice_chart, drift_chart, latency_chart, traffic_chart

AGAIN_S: Final = 30
_AT_ONCE_S: Final = 3


@dataclass(frozen=True)
class Row:
    """A row of a table; wrong: somebody should look at it."""

    cells: tuple[str, ...]
    wrong: bool = False


@dataclass(frozen=True)
class Gateway:
    """What the gateway says of itself: its status, and sentences on what is wrong."""

    status: str
    troubles: tuple[str, ...]


class Drawn:
    """The page that was drawn last, for all who ask within a second: to draw it takes tens of milliseconds of a core.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._last: tuple[tuple[object, ...], str] | None = None

    def page(self, seen: Overview | None, gateway: Gateway, age_s: float, model: str) -> str:
        """As of `render`; the age is told in whole seconds anyway."""
        asked = (seen, gateway, round(age_s), model)
        with self._guard:
            if self._last is None or self._last[0] != asked:
                self._last = asked, render(seen, gateway, round(age_s), model)
            return self._last[1]


def render(seen: Overview | None, gateway: Gateway, age_s: float, model: str) -> str:
    """The page's text.

    Args:
        seen: None: nothing was read yet.
        gateway: of this moment.
        age_s: how long ago the overview was read.
        model: registered.
    """
    notes = [*gateway.troubles, *((*seen.concerns, *seen.failures) if seen else ())]
    return _template().render(
        model=model,
        seen=seen,
        health=gateway,
        notes=notes,
        mark="! " if notes else "",
        age=f"{age_s:.0f} s",
        again_s=AGAIN_S if seen else _AT_ONCE_S,
        width=WIDTH,
        height=HEIGHT,
        **({} if seen is None else _content(seen)),
    )


def _content(seen: Overview) -> dict[str, object]:
    traffic, drift, dice = seen.traffic.value, seen.drift.value, seen.dice.value
    return {
        "refused": refused_share(traffic.refused, traffic.answered) if traffic else "",
        "charts": tuple(_charts(seen)),
        "alerts": [_alert(one) for one in seen.alerts.value or ()],
        "jobs": [_job(one, seen) for one in seen.jobs.value or ()],
        "parts": [
            Row((one.version, one.route, *_counts(one.answered, one.refused, one.p50_ms, one.p95_ms)))
            for one in (traffic.parts if traffic else ())
        ],
        "buckets": [
            Row((moment(one.start), *_counts(one.answered, one.refused, one.p50_ms, one.p95_ms), f"{one.failed:,}"))
            for one in (reversed(traffic.buckets) if traffic else ())
            if one.answered or one.refused or one.failed
        ],
        "failures": [
            Row((str(one.status), one.path, f"{one.requests:,}")) for one in (traffic.failures if traffic else ())
        ],
        "reports": [_report(one) for one in (reversed(drift.course) if drift else ())],
        "measured": [
            Row((one.version, moment(one.start), f"{one.images:,}", with_interval(one.mean, one.low, one.high)))
            for one in ((*dice.versions, *reversed(dice.course)) if dice else ())
        ],
    }


def _charts(seen: Overview) -> Iterator[Chart]:
    traffic, drift, dice = seen.traffic.value, seen.drift.value, seen.dice.value
    if traffic is not None:
        yield traffic_chart(seen.span, traffic)
        yield latency_chart(seen.span, traffic)
    course = drift.course if drift else ()
    if drift is not None:
        yield drift_chart(seen.span, course)
    if drift is not None or dice is not None:
        yield dice_chart(seen.span, course, dice.course if dice else ())


def _counts(answered: int, refused: int, p50: float | None, p95: float | None) -> tuple[str, ...]:
    return f"{answered:,}", f"{refused:,}", milliseconds(p50), milliseconds(p95)


def _alert(one: Alert) -> Row:
    known = one.acknowledged_at is not None
    state = f"{one.severity}, {one.status}{', acknowledged' if known else ''}"
    # Those of the platform itself name folders and what commands said, which are not for everybody.
    seen = (about(one), one.summary) if one.model_name else ("the platform", "python -m monitoring alerts list")
    cells = (str(one.id), state, moment(one.since), one.policy, *seen)
    return Row(cells, one.status == "firing" and not known)


def _job(job: Job, seen: Overview) -> Row:
    state, now = job.state, seen.span.now
    outcome = "failed" if state.failed else "overdue" if job.trouble else state.last_outcome or "has not ended yet"
    due = "runs now" if job.running else ago(state.due, now) if state.due else ""
    closed = moment(state.window_end) if state.window_end else ""
    cells = (job.called, outcome, ago(state.last_finished, now), due, ago(state.heartbeat, now), closed)
    return Row(cells, bool(job.trouble))


def _report(one: WindowReport) -> Row:
    window = f"{moment(one.window_start)} to {moment(one.window_end)}"
    moved = ", ".join(one.moved)
    cells = (window, one.model_version, one.verdict, p_value(one), f"{one.rows:,}", estimate(one), moved)
    return Row(cells, one.verdict == "drift")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {
        "line": one_line,
        "moment": moment,
        "percent": percent,
        "ms": milliseconds,
        "size": size,
        "failed_text": failed_text,
        "p_value": p_value,
        "estimate": estimate,
    }
    return environment.from_string((resources.files("serving.page") / "status.html").read_text(encoding="utf-8"))

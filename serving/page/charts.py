"""Small charts of an overview, as shapes that a page draws: pure geometry, in a box of WIDTH by HEIGHT.

    chart = traffic_chart(span, traffic)
    chart.bars[0].x, chart.lines[0].points, chart.low, chart.high

A page stretches the box to the width that it has, so there is no text in it, and a dot is a line without a length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from records.watch.measured import MeasuredDice
from records.watch.reports import Verdict, WindowReport
from records.watch.traffic import Bucket, Span, Traffic
from records.watch.wording import estimate, milliseconds, moment, p_value, with_interval

WIDTH: Final = 600.0
HEIGHT: Final = 120.0
# A bar of hardly anything is seen all the same.
_LEAST: Final = 3.0
_GAP: Final = 0.2
_ASIDE: Final = 5.0
# Smaller p-values are drawn as this one.
_SMALLEST_P: Final = 1e-4
_KIND: Final[dict[Verdict, str]] = {"no drift": "fine", "drift": "wrong", "too few rows": "none"}


@dataclass(frozen=True)
class Bar:
    """A rectangle; kind: of which colour; told: what it stands for."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    told: str


@dataclass(frozen=True)
class Line:
    """A line through points; of one point, or of two equal ones, a dot."""

    points: tuple[tuple[float, float], ...]
    kind: str
    told: str

    @property
    def path(self) -> str:
        """As SVG writes it."""
        through = self.points if len(self.points) > 1 else self.points * 2
        return "M" + " L".join(f"{x:.2f} {y:.2f}" for x, y in through)


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        low, high: what stands at the lower and at the upper edge.
        begin, middle, end: times at the left edge, in the middle and at the right edge.
        told: all of it in a sentence.
        keys: kind and name of what is drawn.
    """

    name: str
    title: str
    told: str
    low: str
    high: str
    begin: str
    middle: str
    end: str
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    keys: tuple[tuple[str, str], ...]


def traffic_chart(span: Span, found: Traffic) -> Chart:
    """Images that were answered and refused, and requests that failed: a bar a bucket, one on the other."""
    most = max((one.answered + one.refused + one.failed for one in found.buckets), default=0)
    bars: list[Bar] = []
    for place, one in enumerate(found.buckets):
        counts = {"answered": one.answered, "refused": one.refused, "failed": one.failed}
        told = f"{moment(one.start)}: {one.answered:,} answered, {one.refused:,} refused"
        told += f", {one.failed:,} requests failed" if one.failed else ""
        below = 0.0
        for kind, count in counts.items():
            if count:
                height = _height(count, most)
                bars.append(_bar(span, place, below, height, kind, told))
                below += height
    failed = f", {found.failed:,} requests failed" if found.failed else ""
    told = f"{found.answered:,} images answered and {found.refused:,} refused{failed}; at most {most:,} in one bar."
    keys = (("answered", "answered"), ("refused", "refused"), ("failed", "failed requests"))
    return _chart("traffic", "Images", told, span, ("0", f"{most:,}"), bars=bars, keys=keys)


def latency_chart(span: Span, found: Traffic) -> Chart:
    """How long clients waited for an image: the median, and what 95 of 100 did not exceed."""
    most = max((one.p95_ms or 0.0 for one in found.buckets), default=0.0)
    lines: list[Line] = []
    for kind, name in (("p95", "p95_ms"), ("p50", "p50_ms")):
        for run in _runs(found.buckets, name):
            points = tuple((_middle(span, place), _y((value / most) if most else 0.0)) for place, value in run)
            (first, _), (_, value) = run[0], max(run, key=lambda item: item[1])
            told = f"{kind}, from {moment(span.starts[first])}: at most {milliseconds(value)}"
            lines.append(Line(points, kind if len(run) > 1 else f"{kind} dot", told))
    told = f"All together p50 {milliseconds(found.p50_ms)}, p95 {milliseconds(found.p95_ms)}."
    high = milliseconds(most) if most else ""
    return _chart("latency", "Latency", told, span, ("0", high), lines=lines, keys=(("p50", "p50"), ("p95", "p95")))


def drift_chart(span: Span, reports: Sequence[WindowReport]) -> Chart:
    """The evidence of each window that it differs: the smaller p, the higher."""
    bars = []
    for one in reports:
        left, right = _x(span, one.window_start), _x(span, one.window_end)
        evidence = 0.0 if one.p_value is None else -math.log10(max(one.p_value, _SMALLEST_P))
        height = max(evidence / -math.log10(_SMALLEST_P) * HEIGHT, 2 * _LEAST)
        gap = _GAP / 2 * (right - left)
        told = (
            f"{moment(one.window_start)} to {moment(one.window_end)}, version {one.model_version}: {one.verdict}, "
            f"p {p_value(one)}, {one.rows:,} images"
        )
        bars.append(Bar(left + gap, HEIGHT - height, right - left - 2 * gap, height, _KIND[one.verdict], told))
    count = sum(one.verdict == "drift" for one in reports)
    told = f"{count} of {len(reports)} windows drift. The smaller p of a window, the higher its bar."
    keys = (("fine", "no drift"), ("wrong", "drift"), ("none", "too few rows"))
    return _chart("drift", "Drift", told, span, ("p = 1", f"p ≤ {_SMALLEST_P:g}"), bars=bars, keys=keys)


def dice_chart(span: Span, reports: Sequence[WindowReport], measured: Sequence[MeasuredDice]) -> Chart:
    """Estimates without labels and means of labels, each with its interval."""
    estimated = [one for one in reports if one.estimated_dice is not None]
    means = [one.estimated_dice or 0.0 for one in estimated] + [one.mean for one in measured]
    # Of few labels the interval is wide: what is below the edge is cut off there.
    least = 0.5 if min(means, default=0.5) >= 0.5 else 0.0

    def whisker(start: datetime, end: datetime, values: tuple[float, ...], kind: str, told: str) -> list[Line]:
        # Side by side: both may be of the same day.
        aside = _ASIDE if kind == "measured" else -_ASIDE
        x = (_x(span, start) + _x(span, end)) / 2 + aside
        mean, low, high = (_y((value - least) / (1 - least)) for value in values)
        return [Line(((x, low), (x, high)), f"{kind} range", told), Line(((x, mean),), kind, told)]

    lines: list[Line] = []
    for one in estimated:
        dice = one.estimated_dice or 0.0
        ends = (dice if end is None else end for end in (one.estimated_low, one.estimated_high))
        values = (dice, *ends)
        told = f"{moment(one.window_start)} to {moment(one.window_end)}: estimated {estimate(one)}"
        lines += whisker(one.window_start, one.window_end, values, "estimated", told)
    for bit in measured:
        told = f"{bit.start:%Y-%m-%d}, version {bit.version}: measured {with_interval(bit.mean, bit.low, bit.high)}"
        lines += whisker(bit.start, bit.end, (bit.mean, bit.low, bit.high), "measured", told)
    days = len({bit.start for bit in measured})
    told = f"{len(estimated)} of {len(reports)} windows have an estimate; {days} days have labels of audits."
    keys = (("estimated", "estimated without labels"), ("measured", "measured by audits"))
    return _chart("dice", "Dice", told, span, (f"{least:g}", "1"), lines=lines, keys=keys)


def _chart(
    name: str,
    title: str,
    told: str,
    span: Span,
    edges: tuple[str, str],
    *,
    bars: Sequence[Bar] = (),
    lines: Sequence[Line] = (),
    keys: tuple[tuple[str, str], ...],
) -> Chart:
    form = "%m-%d" if span.end - span.start > timedelta(days=2) else "%H:%M"
    middle = span.start + (span.end - span.start) / 2
    return Chart(
        name=name,
        title=title,
        told=told,
        low=edges[0],
        high=edges[1],
        begin=f"{span.start:{form}}",
        middle=f"{middle:{form}}",
        end=f"{span.end:{form}}",
        bars=tuple(bars),
        lines=tuple(lines),
        keys=keys,
    )


def _bar(span: Span, place: int, below: float, height: float, kind: str, told: str) -> Bar:
    width = WIDTH / len(span.starts)
    return Bar((place + _GAP / 2) * width, HEIGHT - below - height, (1 - _GAP) * width, height, kind, told)


def _height(count: int, most: int) -> float:
    return max(count / most * (HEIGHT - 2 * _LEAST), _LEAST) if count else 0.0


def _runs(buckets: Sequence[Bucket], name: str) -> list[list[tuple[int, float]]]:
    """Buckets that follow each other and have a value, with their places."""
    runs: list[list[tuple[int, float]]] = []
    for place, bucket in enumerate(buckets):
        value = getattr(bucket, name)
        if value is None:
            continue
        if runs and runs[-1][-1][0] == place - 1:
            runs[-1].append((place, value))
        else:
            runs.append([(place, value)])
    return runs


def _middle(span: Span, place: int) -> float:
    return (place + 0.5) * WIDTH / len(span.starts)


def _x(span: Span, at: datetime) -> float:
    return min(max((at - span.start) / (span.end - span.start), 0.0), 1.0) * WIDTH


def _y(share: float) -> float:
    """Of a share of the height, a little away from both edges, so that dots are whole."""
    return HEIGHT - _LEAST - min(max(share, 0.0), 1.0) * (HEIGHT - 2 * _LEAST)

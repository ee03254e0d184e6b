"""Figures of an overview as people read them; the same in a terminal and on a page.

refused_share(3, 1200)                      # 0.2 %
with_interval(0.905, 0.88, 0.93)            # 0.905 (0.880 to 0.930)
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from records.watch.reports import WindowReport
from records.watch.traffic import Failure, Traffic

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


def percent(share: float) -> str:
    """A share of 0 to 1: what is not nothing is not called nothing."""
    return f"{100 * share:.2g} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def refused_share(refused: int, answered: int) -> str:
    """Of all that was asked."""
    return percent(refused / (refused + answered)) if refused + answered else "none asked"


def requests_failed(failures: Iterable[Failure]) -> str:
    """How many requests failed, and how many with which status."""
    statuses = Counter[int]()
    for one in failures:
        statuses[one.status] += one.requests
    count = statuses.total()
    told = ", ".join(f"{found:,} with {status}" for status, found in statuses.most_common())
    return f"{count:,} {'request' if count == 1 else 'requests'} failed" + (f" ({told})" if told else "")


def failed_text(found: Traffic) -> str:
    """How many requests of the span failed, or why that is not known."""
    if not found.failures_known:
        return "failed requests: not known, this role may not read the table request_failures"
    return requests_failed(found.failures)


def milliseconds(found: float | None) -> str:
    """A latency."""
    if found is None:
        return "unknown"
    return f"{found / 1000:.1f} s" if found >= 10_000 else f"{found:.3g} ms" if found < 100 else f"{found:.0f} ms"


def with_interval(mean: float, low: float | None, high: float | None) -> str:
    """A Dice, and between what it is."""
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def size(count: int) -> str:
    """Of bytes."""
    found = float(count)
    for unit in _UNITS:
        if found < 1000 or unit == _UNITS[-1]:
            break
        found /= 1000
    return f"{count} bytes" if count < 1000 else f"{found:.3g} {unit}"


def moment(at: datetime | None) -> str:
    """A time, to the minute."""
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M}"


def p_value(report: WindowReport) -> str:
    """Of a report; a window with too few rows has none."""
    return "none" if report.p_value is None else f"{report.p_value:.2g}"


def estimate(report: WindowReport) -> str:
    """The Dice of a window without labels, or that there is none."""
    if report.estimated_dice is None:
        return "declined"
    return with_interval(report.estimated_dice, report.estimated_low, report.estimated_high)

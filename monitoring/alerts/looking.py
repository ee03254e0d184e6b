"""Commands that show the images behind an alert: they lie on the machines that keep them, and never go out with it.

furthest_command(report)        # python -m monitoring report --model resunet --version 7 --window 1d --until …
worst_command("resunet", "7", window)
"""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from monitoring.live import LIVE_ROUTES
from monitoring.window import MIN_ROWS, Window, span
from records.watch.reports import WindowReport


def furthest_command(report: WindowReport) -> str:
    """The report on the same window by hand, which draws the sheet of the furthest images."""
    window = Window(report.window_start, report.window_end)
    routes = () if set(report.routes) == set(LIVE_ROUTES) else report.routes
    more = [word for route in routes for word in ("--route", route)]
    if report.rows < MIN_ROWS:  # a schedule may ask for fewer than the command does
        more += ["--min-rows", str(max(report.rows, 2))]
    return _command("report", report.model_name, report.model_version, window, more)


def worst_command(model: str, version: str, window: Window) -> str:
    """The measurement of a window by hand, which draws the sheet of the worst images."""
    return _command("performance", model, version, window, ())


def _command(name: str, model: str, version: str, window: Window, more: Sequence[str]) -> str:
    asked = ["--model", model, "--version", version, "--window", span(window.end - window.start)]
    asked += ["--until", _moment(window.end), *more]
    return shlex.join(["python", "-m", "monitoring", name, *asked, "--out", f"{name}-{version}"])


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")

"""Slow drift over weeks, by the command: a real tracking store, a real inference log and its sketches."""

import sys
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from drift_scene import NOON, Scene, draw_descriptors, last_run, post
from PIL import Image

from monitoring.alerts.reports import Reports
from records.console import run
from records.log_database import open_log
from records.watch.reports import latest_reports

Trend = Callable[..., tuple[int, str, str]]
DAYS, ROWS = 16, 24
UNTIL = ("--until", NOON.isoformat(), "--windows", str(DAYS))


@pytest.fixture
def trend(scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trend:
    from monitoring.cli import app

    for name, value in scene.environment.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["monitoring", "trend", *arguments])
        with pytest.raises(SystemExit) as stopped:
            run(app)
        output = capsys.readouterr()
        code = stopped.value.code
        return code if isinstance(code, int) else 0, output.out, output.err

    return call


def weeks(scene: Scene, rise: float) -> None:
    """Log days of images whose brightness rises by so many standard deviations in all."""
    rng = np.random.default_rng(1)
    for day in range(DAYS):
        frame = draw_descriptors(rng, ROWS, {"brightness": rise * day / (DAYS - 1)})
        post(scene, pd.DataFrame(frame), version="1", end=NOON - timedelta(days=DAYS - 1 - day))


def test_a_slow_rise_is_a_trend_with_its_name_and_size(scene: Scene, trend: Trend) -> None:
    weeks(scene, rise=1.5)
    code, printed, _ = trend(*UNTIL)
    assert code == 3
    last = printed.strip().splitlines()[-1]
    assert last.startswith(f"trend over {DAYS} windows: brightness (grey levels) rose by ")
    assert printed.count("→") == 2  # one descriptor, and the caption
    engine = open_log(scene.log)
    assert latest_reports(engine, "resunet", kind="trend") == []
    (row,) = latest_reports(engine, "resunet", kind="trend by hand")
    assert (row.verdict, row.moved, row.rows) == ("drift", ("brightness",), DAYS * ROWS)
    assert row.window_end - row.window_start == timedelta(days=DAYS)
    entry = last_run(scene.client)
    assert (entry.info.status, entry.data.tags["verdict"]) == ("FINISHED", "drift")
    assert entry.data.metrics["trend.change.brightness"] == pytest.approx(1.0, abs=0.3)
    with Reports(scene.client) as reports:
        picture = reports.find(entry.info.run_id).picture
        assert picture is not None and picture.name == "trend.png"
        with Image.open(picture) as shown:
            assert min(shown.size) > 400
    # Of the routes that are asked for alone, and counted where that is asked for.
    assert trend(*UNTIL, "--counts", "--route", "canary", "--brief")[0] == 2
    (counted,) = latest_reports(engine, "resunet", kind="trend")
    assert (counted.routes, counted.rows) == (("canary",), 0)
    engine.dispose()


def test_weeks_that_are_all_alike_are_no_trend(scene: Scene, trend: Trend) -> None:
    weeks(scene, rise=0.0)
    code, printed, _ = trend(*UNTIL, "--brief")
    assert (code, printed) == (0, f"no trend over {DAYS} windows of {DAYS * ROWS} images\n")


def test_windows_with_too_few_rows_are_left_out(scene: Scene, trend: Trend) -> None:
    weeks(scene, rise=0.0)
    code, printed, errors = trend(*UNTIL, "--min-rows", str(ROWS + 1))
    assert (code, printed) == (2, "")
    assert f"too few rows: 0 of the {DAYS} windows until 2026-03-02 12:00 hold at least {ROWS + 1} rows" in errors

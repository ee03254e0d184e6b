"""An alert names the command that shows its images, and the command line takes it word for word."""

import shlex
from dataclasses import replace

import pytest
from alert_scene import DAY_0, Measured, Score, World, policies, world
from sqlalchemy import Engine
from typer.main import get_command

from monitoring.alerts.conditions import Condition
from monitoring.alerts.looking import furthest_command, worst_command
from monitoring.alerts.moments import observe_now
from monitoring.alerts.windows import observe_windows
from monitoring.cli import app
from monitoring.live import LIVE_ROUTES
from monitoring.window import Window, parse_duration, parse_moment

DRIFT = Condition.model_validate({"verdict": "drift"})


@pytest.fixture
def here(url: str) -> World:
    return world(url)


def understood(command: str) -> dict[str, object]:
    """What the command line makes of a command; it fails where it does not take it."""
    python, module, package, name, *words = shlex.split(command)
    assert (python, module, package) == ("python", "-m", "monitoring")
    group = get_command(app)
    return dict(group.commands[name].make_context(name, words).params)  # type: ignore[attr-defined]


def test_the_details_of_drift_name_the_command_that_draws_the_furthest_images(here: World) -> None:
    report = here.report(0, "drift", model_name="cells of liver")
    [seen] = observe_windows(here.engine, "cells of liver", DRIFT)
    told = next(line for line in seen.marks[-1].details if line.startswith("the images furthest"))
    asked = understood(told.split(": ", 1)[1])
    assert asked["model"] == "cells of liver"
    assert (asked["version"], asked["route"]) == (7, ["canary", "production"])
    assert str(asked["out"]) == "report-7"
    window = Window.ending(parse_moment(str(asked["until"])), parse_duration(str(asked["window"])))
    assert (window.start, window.end) == (report.window_start, report.window_end)


def test_routes_are_named_where_they_are_not_all_that_are_live(here: World) -> None:
    report = here.report(0, "drift", routes=tuple(reversed(LIVE_ROUTES)))
    assert "--route" not in furthest_command(report)


def test_a_window_of_few_rows_is_shown_though_the_command_asks_for_more(here: World) -> None:
    assert understood(furthest_command(here.report(0, "drift", rows=12)))["min_rows"] == 12
    assert "--min-rows" not in furthest_command(here.report(1, "drift", rows=20))


@pytest.mark.parametrize(
    ("verdict", "kind", "p_value"), [("no drift", "window", 0.5), ("drift", "trend", 0.5), ("drift", "window", None)]
)
def test_neither_a_good_window_nor_a_trend_nor_refused_images_alone_have_furthest_images(
    here: World, verdict: str, kind: str, p_value: float | None
) -> None:
    here.report(0, verdict, kind=kind, p_value=p_value)  # type: ignore[arg-type]
    when = Condition.model_validate({"trend": "drift"} if kind == "trend" else {"verdict": "drift"})
    [seen] = observe_windows(here.engine, "resunet", when)
    assert not [line for line in seen.marks[-1].details if "furthest" in line]


def test_the_command_for_the_worst_images_is_taken(here: World) -> None:
    asked = understood(worst_command("resunet", "7", Window.ending(DAY_0, parse_duration("30d"))))
    assert (asked["version"], asked["window"], str(asked["out"])) == (7, "30d", "performance-7")


def test_labels_that_show_a_poor_dice_name_the_command_for_the_worst_images(here: World) -> None:
    [policy] = policies("{name: one, when: {measured_dice: {below: 0.8}}, actions: [{alert: {}}]}")

    def measured(_engine: Engine, _model: str, _window: Window) -> list[Measured]:
        return [Measured("4", 20, Score(0.7, 0.65, 0.75)), Measured("5", 20, Score(0.8, 0.75, 0.85))]

    seen = observe_now(replace(here.sources, measured=measured), policy, here.now)
    commands = {one.subject.version: [line for line in one.marks[-1].details if "worst" in line] for one in seen}
    assert commands["5"] == []
    assert understood(commands["4"][0].split(": ", 1)[1])["version"] == 4

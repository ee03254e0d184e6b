"""What each condition sees, on real rows in SQLite and PostgreSQL."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alert_scene import DAY, DAY_0, HOUR, Measured, Score, World, policies, world
from sqlalchemy import Engine, insert

from monitoring.alerts.moments import observe_now
from monitoring.alerts.sources import Sources
from monitoring.alerts.windows import observe_windows
from monitoring.window import Window
from records.tables import prepare
from records.watch.alerts import open_alerts
from records.watch.jobs import jobs
from records.watch.reports import Kind, Verdict

ALERT = "actions: [{alert: {}}]"


@dataclass(frozen=True)
class Job:
    """As `records.watch.jobs.jobs_state` tells it."""

    name: str
    due: datetime | None
    last_started: datetime | None = None
    last_finished: datetime | None = None
    last_outcome: str | None = "ok"
    alive: bool = False

    @property
    def failed(self) -> bool:
        return self.last_outcome not in (None, "ok")

    def overdue(self, now: datetime, patience: timedelta) -> bool:
        return not self.alive and self.due is not None and now - self.due > patience


@pytest.fixture
def here(url: str) -> World:
    return world(url)


def seen(here: World, condition: str) -> dict[str, bool | None]:
    """Of each version and subject whether its newest mark is good."""
    [policy] = policies(f"{{name: one, when: {condition}, {ALERT}}}")
    by_windows = policy.when.by_windows
    found = (
        observe_windows(here.engine, "resunet", policy.when)
        if by_windows
        else observe_now(here.sources, policy, here.now)
    )
    return {one.subject.version or one.subject.named: one.marks[-1].good for one in found}


@pytest.mark.parametrize(
    ("verdict", "condition", "good"),
    [
        ("drift", "{verdict: drift}", False),
        ("no drift", "{verdict: drift}", True),
        ("too few rows", "{verdict: drift}", None),
        ("too few rows", "{verdict: too few rows}", False),
        ("drift", "{verdict: too few rows}", True),
        ("drift", "{descriptor: saturation}", False),
        ("drift", "{descriptor: noise}", True),
        ("no drift", "{descriptor: saturation}", True),
        ("too few rows", "{descriptor: saturation}", None),
        ("drift", "{estimated_dice: {below: 0.95}}", False),
        ("drift", "{estimated_dice: {below: 0.9}}", True),
    ],
)
def test_a_window_is_good_bad_or_tells_nothing(here: World, verdict: str, condition: str, good: bool | None) -> None:
    here.report(0, verdict)  # type: ignore[arg-type]
    assert seen(here, condition) == {"7": good}


def test_reports_on_shorter_windows_do_not_end_those_on_longer_ones(here: World) -> None:
    here.report(0, "drift")
    after = DAY_0 + 2 * DAY
    here.report(0, "no drift", window_start=after, window_end=after + HOUR)
    [policy] = policies(f"{{name: one, when: {{verdict: drift}}, {ALERT}}}")
    watched = {one.marks[-1].good: one.watched for one in observe_windows(here.engine, "resunet", policy.when)}
    assert watched == {False: True, True: True}
    here.report(2, "no drift", model_version="8")
    found = observe_windows(here.engine, "resunet", policy.when)
    assert [one.watched for one in found if one.subject.version == "7"].count(False) == 1


def test_a_declined_estimate_tells_nothing(here: World) -> None:
    here.report(0, "drift", estimated_dice=None)
    assert seen(here, "{estimated_dice: {below: 0.9}}") == {"7": None}


def test_the_share_of_refused_images_is_of_a_version_s_clients(database_url: str) -> None:
    here = world(database_url)
    here.now = DAY_0 + DAY
    condition = "{refused_share: {above: 0.1, over: 6h, at_least: 20}}"
    here.predict(here.now - HOUR, 18)
    here.predict(here.now - HOUR, 2, status="refused")
    here.predict(here.now - 7 * HOUR, 50, status="refused")
    here.predict(here.now - HOUR, 50, status="refused", route="shadow")
    here.predict(here.now - HOUR, 50, status="refused", model_name="another")
    here.predict(here.now - HOUR, 19, status="refused", model_version="8")
    assert seen(here, condition) == {"7": True, "8": None}
    here.predict(here.now - HOUR, 1, status="refused")
    here.predict(here.now - HOUR, 1, model_version="8")
    assert seen(here, condition) == {"7": False, "8": False}


def test_an_outage_is_of_what_answers_clients(database_url: str) -> None:
    here = world(database_url)
    here.now = DAY_0 + DAY
    condition = "{no_predictions: {during: 2h}}"
    assert seen(here, condition) == {"routes production, canary": None}
    here.predict(here.now - 2 * HOUR)
    here.predict(here.now - HOUR, status="refused")
    here.predict(here.now - HOUR, route="shadow")
    here.predict(here.now - HOUR, route="batch")
    here.predict(here.now - HOUR, model_name="another")
    here.predict(here.now + HOUR)
    assert seen(here, condition) == {"routes production, canary": False}
    here.predict(here.now - 2 * HOUR + timedelta(minutes=1), route="canary")
    assert seen(here, condition) == {"routes production, canary": True}


def test_measured_dice_is_below_when_all_of_its_interval_is(here: World) -> None:
    asked = list[tuple[str, Window]]()

    def measured(engine: Engine, model: str, window: Window) -> list[Measured]:
        asked.append((model, window))
        nan = float("nan")
        return [
            Measured("4", 20, Score(0.75, 0.71, 0.799)),
            Measured("5", 20, Score(0.75, 0.70, 0.80)),
            Measured("6", 19, Score(0.5, 0.4, 0.6)),
            Measured("7", 20, Score(nan, nan, nan)),
        ]

    here.now = DAY_0 + 40 * DAY
    here.sources = replace(here.sources, measured=measured)
    condition = "{measured_dice: {below: 0.8, over: 30d, at_least: 20}}"
    assert seen(here, condition) == {"4": False, "5": True, "6": None, "7": None}
    assert asked == [("resunet", Window(DAY_0 + 10 * DAY, DAY_0 + 40 * DAY))]


def test_a_job_is_in_trouble_when_it_failed_or_is_late(here: World) -> None:
    here.now = now = DAY_0 + DAY
    jobs = [
        Job("well", now + HOUR),
        Job("failed", now + HOUR, last_outcome="the database does not answer", last_finished=now - HOUR),
        Job("late", now - 3 * HOUR, last_started=now - 9 * HOUR),
        Job("running", now - 3 * HOUR, last_started=now - 3 * HOUR, alive=True),
        Job("not yet late", now - HOUR),
        Job("new", None, last_outcome=None),
    ]
    here.sources = replace(here.sources, jobs=lambda engine: jobs)
    assert seen(here, "{job: {late_by: 2h}}") == {
        "job well": True,
        "job failed": False,
        "job late": False,
        "job running": True,
        "job not yet late": True,
        "job new": None,
    }
    assert seen(here, "{job: {name: la*e}}") == {"job late": False}


def test_a_disk_is_the_one_of_the_folder_and_of_a_home_that_is_not_made_yet(here: World, tmp_path: Path) -> None:
    asked = list[Path]()

    def share_free(path: Path) -> float:
        asked.append(path)
        return 0.1

    here.sources = Sources(here.engine, tmp_path / "not" / "made", share_free=share_free)
    assert seen(here, "{disk_free: {below: 0.1}}") == {f"disk of {tmp_path}": True}
    assert seen(here, f"{{disk_free: {{below: 0.11, path: {tmp_path}/x}}}}") == {f"disk of {tmp_path}/x": False}
    assert asked == [tmp_path, tmp_path / "x"]
    real = Sources(here.engine, tmp_path).share_free(tmp_path)
    assert 0 <= real <= 1


def test_a_condition_that_is_gone_is_closed_and_one_that_cannot_be_read_is_not(here: World) -> None:
    rules = policies(f"{{name: jobs, when: {{job: {{}}}}, {ALERT}}}")
    late = Job("report", DAY_0 - DAY)
    here.sources = replace(here.sources, jobs=lambda engine: [late])
    assert len(here.look(rules).firing) == 1
    here.sources = replace(here.sources, jobs=None)
    here.look(rules)
    assert [one.status for one in open_alerts(here.engine)] == ["firing"]
    here.sources = replace(here.sources, jobs=lambda engine: [])
    here.look(rules)
    assert [event for _, event, _ in here.told()] == ["firing", "ended"]
    assert open_alerts(here.engine) == []


def test_labels_are_read_where_the_platform_measures_them(here: World) -> None:
    pytest.importorskip("monitoring.performance.window")
    here.now = DAY_0 + DAY
    here.label(DAY_0, *(0.5 + number / 400 for number in range(40)))
    here.sources = Sources.of_platform(here.engine, Path())
    assert seen(here, "{measured_dice: {below: 0.8}}") == {"7": False}
    assert seen(here, "{measured_dice: {below: 0.5}}") == {"7": True}


def test_jobs_are_read_where_the_platform_keeps_them(here: World) -> None:
    here.now = DAY_0 + DAY
    prepare(here.engine, jobs)
    usual = {"token": 1, "failing": 0, "failures": 0, "last_outcome": "ok", "heartbeat": here.now}
    with here.engine.begin() as connection:
        for name, due in (("late", here.now - 2 * HOUR), ("well", here.now + HOUR)):
            connection.execute(insert(jobs).values(name=name, due=due, **usual))
    here.sources = Sources.of_platform(here.engine, Path())
    assert seen(here, "{job: {late_by: 1h}}") == {"job late": False, "job well": True}


@pytest.mark.parametrize(("kind", "when"), [("window", "verdict"), ("trend", "trend")])
def test_of_two_schedules_of_a_model_the_one_that_reports_first_closes_no_alert_of_the_other(
    here: World, kind: Kind, when: str
) -> None:
    rules = policies(f"{{name: drifts, when: {{{when}: drift}}, actions: [{{alert: {{repeat: 365d}}}}]}}")
    span = 28 * DAY if kind == "trend" else DAY

    def look_after(version: str, day: int, verdict: Verdict) -> None:
        end = DAY_0 + (day + 1) * DAY
        here.report(day, verdict, model_version=version, kind=kind, window_start=end - span)
        here.look(rules, end + HOUR)

    for day in range(4):
        look_after("7", day, "no drift")
        look_after("8", day, "drift")
    assert [event for _, event, _ in here.told()] == ["firing"]
    assert [(alert.model_version, alert.status) for alert in open_alerts(here.engine)] == [("8", "firing")]
    # That of version 8 has ended.
    for day in (4, 5):
        look_after("7", day, "no drift")
    assert [(day, event) for day, event, _ in here.told()] == [(6 + 1 / 24, "ended")]
    assert open_alerts(here.engine) == []

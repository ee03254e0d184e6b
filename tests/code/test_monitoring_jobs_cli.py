"""`python -m monitoring jobs`: what it shows, and when it exits with 3."""

import json
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from monitoring.cli import app
from monitoring.jobs.homes import home_name
from monitoring.jobs.job import Job
from monitoring.jobs.table import Reporting, commands_of, jobs_of
from records.log_database import open_log
from records.tables import prepare
from records.watch import jobs as table
from records.watch.job_words import ago, trouble
from records.watch.jobs import JobState, database_time
from records.watch.leases import acquire, finish, holding
from resunet.errors import SettingsError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PATIENCE = timedelta(minutes=15)


@pytest.fixture
def jobs(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", database_url)
    open_log(database_url).dispose()
    return lambda *arguments: CliRunner().invoke(app, ["jobs", *arguments], env={"COLUMNS": "160"})


def ran(url: str, name: str, outcome: str = "ok", due: timedelta = 2.2 * HOUR) -> None:
    engine = open_log(url)
    prepare(engine, table.jobs)
    now = database_time(engine)
    lease = acquire(engine, name, "node1", now, HOUR)
    assert lease is not None
    with holding(engine, lease) as connection:
        finish(connection, lease, now, outcome=outcome, due=now + due)
    engine.dispose()


def state(**known: object) -> JobState:
    values: dict[str, object] = dict.fromkeys(JobState.__dataclass_fields__)
    values |= {"name": "report", "token": 1, "failing": 0, "failures": 0}
    return JobState(**values | known)  # type: ignore[arg-type]


def test_where_no_schedule_ever_ran_it_says_so(jobs: Callable[..., Result]) -> None:
    shown = jobs()
    assert shown.exit_code == 3 and "start `python -m monitoring schedule`" in shown.output
    assert json.loads(jobs("--json").output) == []


def test_jobs_that_run_as_they_should_are_shown(jobs: Callable[..., Result], database_url: str) -> None:
    ran(database_url, "report resunet 24h")
    ran(database_url, "alerts")
    shown = jobs()
    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.output.splitlines() if "report resunet 24h" in line]
    assert len(lines) == 1 and " ok " in lines[0] and "in 2 h" in lines[0] and re.search(r"\b\d+ s ago", lines[0])
    first, second = json.loads(jobs("--json").output)
    assert (first["name"], second["name"], second["trouble"], second["running"]) == (
        "alerts",
        "report resunet 24h",
        None,
        False,
    )


def test_a_job_that_failed_or_is_overdue_is_told(jobs: Callable[..., Result], database_url: str) -> None:
    ran(database_url, "alerts", outcome="exit code 1: no mail server")
    shown = jobs()
    assert shown.exit_code == 3 and "alerts failed: exit code 1: no mail server" in shown.output
    ran(database_url, "alerts")
    assert jobs().exit_code == 0
    ran(database_url, "report", due=-2.2 * HOUR)
    shown = jobs()
    assert shown.exit_code == 3 and "report is overdue: it was due 2 h ago" in shown.output
    assert jobs("--patience", "3h").exit_code == 0


def test_a_job_that_no_schedule_has_any_more_is_removed_by_name(jobs: Callable[..., Result], database_url: str) -> None:
    ran(database_url, "report resunet 1h", due=-HOUR)
    ran(database_url, "report resunet 24h")
    assert jobs("--remove", "report resunet 1h").exit_code == 0
    assert "report resunet 1h" not in jobs().output
    with pytest.raises(SettingsError, match="there is no job 'report resunet 1h'"):
        CliRunner().invoke(app, ["jobs", "--remove", "report resunet 1h"], catch_exceptions=False)


def test_a_holder_that_is_gone_is_named_and_one_that_runs_is_no_trouble() -> None:
    held = state(holder="node1:7", lease_until=NOON, due=NOON - HOUR, last_started=NOON - HOUR)
    assert trouble(held, NOON - timedelta(seconds=1), PATIENCE) is None
    assert trouble(held, NOON, PATIENCE) == "report is overdue: node1:7 began it and is gone"
    failed = state(last_outcome="exit code 2: no", failing=3)
    assert trouble(failed, NOON, PATIENCE) == "report failed (3 times in a row): exit code 2: no"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s ago"),
        (59, "59 s ago"),
        (3599, "60 min ago"),
        (7200, "2 h ago"),
        (3 * 86400, "3 d ago"),
        (-90, "in 2 min"),
    ],
)
def test_times_are_told_as_people_say_them(seconds: int, told: str) -> None:
    assert ago(NOON - timedelta(seconds=seconds), NOON) == told
    assert ago(None, NOON) == "never"


def test_a_command_that_comes_is_a_job_and_one_that_is_not_there_is_none(tmp_path: Path) -> None:
    program, alerts = typer.Typer(), typer.Typer()

    @program.command()
    def trend() -> None:
        """Stands for the command of another part."""

    program.add_typer(alerts, name="alerts")

    def names(known: set[str]) -> list[str]:
        return [job.name.split()[0] for job in jobs_of(Reporting(), known=known, home=tmp_path, limit=HOUR)]

    assert names(set()) == ["report"]
    assert names(commands_of(program)) == ["report", "trend", "alerts"]
    (tmp_path / "images").mkdir()
    assert names(set()) == ["report", "upkeep"]
    found = {job.name: job.after for job in jobs_of(Reporting(), known={"alerts"}, home=tmp_path, limit=HOUR)}
    assert found["alerts"] == "report resunet 24h"


def test_upkeep_is_of_a_home_whatever_its_machine_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = [tmp_path / name for name in ("one", "other")]
    for home in homes:
        (home / "masks").mkdir(parents=True)

    def upkeep(home: Path, host: str) -> str:
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        return jobs_of(Reporting(), known=set(), home=home, limit=HOUR)[-1].name

    first = upkeep(homes[0], "node1")
    assert re.fullmatch("upkeep node1 [0-9a-f]{8}", first)
    # The same home in a container of another name, and another home on a machine of the same name.
    assert upkeep(homes[0], "a1b2c3") == first
    assert upkeep(homes[1], "node1") != first
    assert [path.name for path in homes[0].iterdir() if path.is_file()] == ["home-name"]
    (homes[0] / "home-name").write_text("../..\n")
    with pytest.raises(SettingsError, match="delete it, and a new one is made"):
        upkeep(homes[0], "node1")


def test_of_many_who_name_a_home_at_once_all_hear_one_name(tmp_path: Path) -> None:
    ready = threading.Barrier(8)

    def name(number: int) -> str:
        ready.wait(30)
        return home_name(tmp_path, f"node{number}")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(name, range(8)))) == 1


@pytest.mark.parametrize(
    ("asked", "name", "options"),
    [
        ({}, "trend resunet", "--stage Production --window 24h --min-rows 20"),
        ({"window": "1h"}, "trend resunet", "--stage Production --window 24h --min-rows 20"),
        ({"window": "7d"}, "trend resunet 7d", "--stage Production --window 7d --min-rows 20"),
        (
            {"stage": "Staging", "routes": ("shadow",)},
            "trend resunet Staging shadow",
            "--stage Staging --window 24h --route shadow --min-rows 20",
        ),
        ({"version": 3}, "trend resunet version 3", "--version 3 --window 24h --min-rows 20"),
    ],
)
def test_the_trend_is_of_what_the_reports_are_of(
    tmp_path: Path, asked: dict[str, object], name: str, options: str
) -> None:
    reporting = Reporting(**asked)  # type: ignore[arg-type]
    report, trend = jobs_of(reporting, known={"trend"}, home=tmp_path, limit=HOUR)
    assert (trend.name, trend.after, trend.once_in) == (name, report.name, trend.every)
    assert " ".join(trend.command).endswith(f"monitoring trend --brief --counts --model resunet {options}")
    assert "--counts" in report.command


def test_how_many_rows_are_enough_is_told_to_the_reports_and_to_the_trend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[Job]()

    def begin(jobs: list[Job], *_: object, **__: object) -> int:
        begun.extend(jobs)
        return 0

    monkeypatch.setattr("monitoring.schedule.run_schedule", begin)
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path))
    ran = CliRunner().invoke(app, ["schedule", "--once", "--min-rows", "5", "--alpha", "0.02"])
    assert ran.exit_code == 0, ran.output
    commands = {job.name.split()[0]: " ".join(job.command) for job in begun}
    assert "--min-rows 5" in commands["report"] and "--min-rows 5" in commands["trend"]
    # The trend's rate of false alarms is its own.
    assert "--alpha 0.02" in commands["report"] and "--alpha" not in commands["trend"]


@pytest.mark.parametrize(
    ("asked", "name", "options"),
    [
        ({"window": "1h"}, "performance resunet", "--window 24h"),
        ({"stage": "Staging"}, "performance resunet", "--window 24h"),
        ({"window": "7d", "routes": ("canary",)}, "performance resunet canary 7d", "--window 7d --route canary"),
        ({"version": 3}, "performance resunet version 3", "--version 3 --window 24h"),
    ],
)
def test_labels_are_measured_once_for_all_who_ask_the_same(
    tmp_path: Path, asked: dict[str, object], name: str, options: str
) -> None:
    report, job = jobs_of(Reporting(**asked), known={"performance"}, home=tmp_path, limit=HOUR)  # type: ignore[arg-type]
    assert (job.name, job.after) == (name, report.name)
    assert " ".join(job.command).endswith(f"performance --windows 14 --model resunet {options}")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "resunet 24h"),
        ({"window": "1h"}, "resunet 1h"),
        ({"every": "1h"}, "resunet 24h every 1h"),
        ({"every": "24h"}, "resunet 24h"),
        ({"stage": "Staging", "routes": ("shadow", "canary")}, "resunet Staging canary+shadow 24h"),
        ({"version": 3}, "resunet version 3 24h"),
    ],
)
def test_schedules_that_ask_for_something_else_have_another_name(asked: dict[str, object], name: str) -> None:
    assert Reporting(**asked).name == name  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{"window": "7h"}, {"every": "7h"}, {"watermark": "soon"}, {"routes": ("tunnel",)}])
def test_what_makes_no_sense_is_refused_in_words(asked: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"choose|multiple|not a length"):
        jobs_of(Reporting(**asked), known=set(), home=tmp_path, limit=HOUR)  # type: ignore[arg-type]

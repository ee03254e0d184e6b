"""`resunet status`: what the screen shows, what it exits with, and what programs are told."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from mlflow import MlflowClient
from mlflow_state import mlflow_state_kept
from overview_scene import fill
from ready_tables import with_tables
from rich.console import Console
from rollout_scene import begun, through
from typer.testing import CliRunner

from pipelines.console import app
from pipelines.status_screen import screen, sparkline
from records.engines import make_engine
from records.log_database import open_log
from records.watch.overview import Overview, Stage, Stages, read_overview
from resunet.errors import SettingsError
from serving.rollout.file import Kept, RolloutFile

NOW = datetime.now(UTC)
WEEK = timedelta(days=7)
Look = Callable[..., Result]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One with version 1 in Production and 2 in Staging."""
    uri = f"sqlite:///{with_tables(tmp_path_factory.mktemp('registry'))}/mlflow.db"
    client = MlflowClient(uri)
    for name in ("resunet", "unused"):
        client.create_registered_model(name)
    for stage in ("Production", "Staging"):
        made = client.create_model_version("resunet", "file:///nowhere", tags={"dice": "0.912"})
        client.transition_model_version_stage("resunet", made.version, stage)
    return uri


@pytest.fixture
def look(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """Types the command; its log is empty until it is filled."""
    open_log(f"sqlite:///{tmp_path}/log.db").dispose()
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", f"sqlite:///{tmp_path}/log.db")
    with mlflow_state_kept():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)

        def typed(*options: str) -> Result:
            return CliRunner().invoke(app, ["status", *options])

        yield typed


def test_a_model_that_is_well_is_told_on_one_screen_and_exits_0(look: Look) -> None:
    seen = look()
    assert seen.exit_code == 0, seen.output
    lines = seen.output.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    assert any(line.startswith("Production  version 1, since 20") for line in lines)
    assert any(line.startswith("Staging     version 2, since 20") and "Dice 0.912" in line for line in lines)
    assert "no report yet: python -m monitoring report" in seen.output
    assert "0 images answered, 0 refused" in seen.output and "\x1b" not in seen.output


def test_a_week_with_drift_alerts_and_a_failed_job_fits_one_screen_and_exits_3(look: Look, tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path}/log.db", tmp_path / "home", NOW)
    RolloutFile.of_home(tmp_path / "home").write(Kept(through(begun()), None))
    seen = look()
    assert seen.exit_code == 3, seen.output
    lines = seen.output.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    for words in (
        *("! alert 1 fires: input-drift", "! the last window shows drift: version 7"),
        *("73 images answered, 5 refused (6.4 %)", "7, production: 70 answered, 5 refused, p50 41.6 ms, p95 68.4 ms"),
        *("drift, p 0.0004, 10 images of version 7", "moved most: brightness, contrast", "verdicts ·?·!"),
        *("trend: no trend over 12 windows", "declined", "measured by audits: 0.850", "2 images of version 7"),
        *("1 critical firing for 2 d", "2 warning firing for 2 d, acknowledged", "3 critical pending"),
        *("trend resunet: failed", "report resunet 24h: ok", "free (", "0 bytes wait for the database"),
        "version 2: canary, ",
    ):
        assert words in seen.output, f"{words} is not in\n{seen.output}"


def test_programs_are_told_what_the_screen_shows(look: Look, tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path}/log.db", tmp_path / "home", NOW)
    answer = look("--json", "--window", "24h")
    assert answer.exit_code == 3
    told = json.loads(answer.output)
    assert (told["traffic"]["answered"], told["span"]["bucket"]) == (13, 3600)
    assert told["production"]["version"] == "1" and told["staging"]["dice"] == 0.912
    assert "alert 1 fires: input-drift" in told["concerns"] and told["failures"] == []


def test_nothing_in_production_needs_a_look(look: Look) -> None:
    seen = look("--model", "unused")
    assert (seen.exit_code, "! nothing is in Production" in seen.output) == (3, True)
    assert "Production  no version" in seen.output


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9", "the tracking server http://127.0.0.1:9"),
        ("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db", "set MLFLOW_TRACKING_URI"),
        ("RESUNET_INFERENCE_LOG", "postgresql://ada:s3cret@127.0.0.1:9/none", "PostgreSQL database none"),
    ],
)
def test_what_cannot_be_read_is_told_beside_the_rest_and_exits_2(
    look: Look, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    seen = look()
    assert seen.exit_code == 2, seen.output
    assert words in " ".join(seen.output.split()) and "Disk" in seen.output and "s3cret" not in seen.output
    assert ("0 images answered" in seen.output) == (name == "MLFLOW_TRACKING_URI")


def test_no_log_and_no_registry_are_neither_made_nor_missed(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESUNET_INFERENCE_LOG")
    seen = look()
    assert seen.exit_code == 0, seen.output
    assert "no predictions are logged here: set RESUNET_INFERENCE_LOG" in " ".join(seen.output.split())
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("window", ["a week", "0d", "400d"])
def test_a_window_that_makes_no_sense_is_refused(look: Look, window: str) -> None:
    assert isinstance(look("--window", window).exception, SettingsError)


def test_texts_of_strangers_are_neither_markup_nor_commands_of_the_terminal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    fill(url, tmp_path / "home", NOW, slice="[red]a\x1b]0;b\x07\n\nc", model="[bold]m\x1b[2J")
    seen = read_overview(
        make_engine(url), tmp_path, "[bold]m\x1b[2J", NOW, WEEK, lambda: Stages(Stage("7"), None), lambda: None
    )
    console = Console(width=200, record=True, force_terminal=True, color_system=None)
    console.print(screen(seen))
    text = console.export_text(clear=False)
    assert "\x1b" not in text and "\x07" not in text
    assert "[bold]m" in text and "[red]a ]0;b c" in text


def test_many_versions_alerts_and_jobs_are_cut_to_one_screen(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    fill(url, tmp_path / "home", NOW)
    seen = read_overview(
        make_engine(url), tmp_path, "resunet", NOW, WEEK, lambda: Stages(Stage("7"), None), lambda: None
    )
    console = Console(width=80, record=True)
    console.print(screen(many(seen)))
    assert console.export_text().count("and 36 more: --json has all of them") == 3


def many(seen: Overview) -> Overview:
    """The same with 40 of each."""
    assert seen.traffic.value and seen.alerts.value and seen.jobs.value
    traffic = replace(seen.traffic.value, parts=(seen.traffic.value.parts * 10)[:40])
    return replace(
        seen,
        traffic=replace(seen.traffic, value=traffic),
        alerts=replace(seen.alerts, value=(seen.alerts.value * 40)[:40]),
        jobs=replace(seen.jobs, value=(seen.jobs.value * 20)[:40]),
    )


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([0, 0], "▁▁"),
        ([1, 1000], "▂█"),
        ([0, None, 4, 8], "▁ ▅█"),
    ],
)
def test_small_bars_are_seen_and_gaps_are_gaps(values: list[float | None], drawn: str) -> None:
    assert sparkline(values) == drawn
    assert sparkline([0.5, 0.75, 1.0, 1.2], 0.5, 1.0) == "▁▅██"

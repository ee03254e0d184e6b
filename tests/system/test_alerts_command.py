"""`python -m monitoring alerts`, as people and cron run it: real processes, a real tracking server, real mail."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pytest
from alert_scene import DAY, DAY_0, World, world
from apprise.plugins.base import NotifyBase
from inboxes import PASSWORD, MailServer, mail_server
from mlflow import MlflowClient
from mlflow_state import mlflow_state_kept
from typer.testing import CliRunner, Result

from monitoring.cli import app
from resunet.errors import ResunetError

PROJECT = Path(__file__).resolve().parents[2]
POLICIES = """format: 1
policies:
  - name: input-drift
    when: {verdict: drift}
    for: 2 windows
    actions:
      - alert: {severity: critical}
"""


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, tracking_uri: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> World:
    """A log with two days of drift, and an environment that has policies and an address."""
    (tmp_path / "alerts.yaml").write_text(POLICIES)
    url = f"sqlite:///{tmp_path}/records.db"
    settings = {
        "RESUNET_HOME": str(tmp_path),
        "RESUNET_INFERENCE_LOG": url,
        "RESUNET_MONITORING_ALERTS": str(tmp_path / "alerts.yaml"),
        "RESUNET_NOTIFY": mail.url(),
        "MLFLOW_TRACKING_URI": tracking_uri.replace("//", f"//ada:{PASSWORD}@"),
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # The command sets these where nobody has: here a test would find them.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "no_proxy": "127.0.0.1",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(NotifyBase, "request_rate_per_sec", 0)
    return world(url)


def drifted(here: World, tracking_uri: str, folder: Path) -> tuple[str, bytes]:
    """Report two days of drift, and return the link to the run that holds the second report, and its picture."""
    client = MlflowClient(tracking_uri)
    experiment = client.create_experiment(f"alerts of {folder.name}")
    run = client.create_run(experiment).info.run_id
    picture = folder / "drift.png"
    cv2.imwrite(str(picture), np.full((5, 7, 3), 90, np.uint8))
    client.log_artifact(run, str(picture))
    for day in (0, 1):
        here.report(day, "drift", run_id=run)
    return f"{tracking_uri}/#/experiments/{experiment}/runs/{run}", picture.read_bytes()


def command(*words: str) -> Result:
    return CliRunner().invoke(app, ["alerts", *words])


def test_two_checks_at_once_send_one_mail_with_link_and_picture_and_exit_3(
    here: World, mail: MailServer, tracking_uri: str, tmp_path: Path
) -> None:
    link, picture = drifted(here, tracking_uri, tmp_path)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "monitoring", "alerts", "check"],
            cwd=PROJECT,
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [3, 3], said
    for out, problem in said:
        assert (
            out == ("1 critical input-drift, resunet version 7, since 2026-03-02 00:00 UTC: drift on day 1\n")
            and not problem
        )
    arrived = mail.get()
    assert mail.inbox.empty()
    assert arrived.subject == "[resunet] ALERT input-drift: resunet version 7"
    assert f"report: {link}" in arrived.text and PASSWORD not in arrived.message.as_string()
    attached = [part.get_payload(decode=True) for part in arrived.message.walk() if part.get_filename() == "drift.png"]
    assert attached == [picture]


@pytest.mark.parametrize("address", ["banana", "sqlite:////proc/1/mlflow.db"])
def test_a_tracking_address_that_is_none_costs_the_link_and_not_the_message(
    address: str, here: World, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (0, 1):
        here.report(day, "drift", run_id="0123456789")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with mlflow_state_kept():
        mlflow.set_tracking_uri(None)
        done = command("check")
    assert done.exit_code == 2 and "without a link to its report" in done.output, done.output
    assert "report: MLflow run 0123456789" in mail.get().text


def test_an_alert_on_labels_has_a_picture_of_them(here: World, mail: MailServer) -> None:
    rules = POLICIES.replace("{verdict: drift}", "{measured_dice: {below: 0.9}}").replace("    for: 2 windows\n", "")
    Path(os.environ["RESUNET_MONITORING_ALERTS"]).write_text(rules)
    here.label(datetime.now(UTC) - DAY, *np.linspace(0.3, 0.5, 40))
    done = command("check")
    assert done.exit_code == 3 and "measured Dice 0.400" in done.output
    [picture] = [part for part in mail.get().message.iter_attachments() if part.get_filename() == "dice.png"]
    assert picture.get_payload(decode=True)[:4] == b"\x89PNG"  # type: ignore[index]


def test_an_alert_is_listed_acknowledged_and_seen_to_recover(here: World, mail: MailServer) -> None:
    for day in (0, 1):
        here.report(day, "drift", run_id="0" * 32)
    assert command("list").output == "nothing fires, and nothing is about to\n"
    assert command("check").exit_code == 3
    assert "report: MLflow run 000" in mail.get().text
    table = command("list").output
    assert all(part in table for part in ("│ 1 ", "firing", "critical", "input-drift: resunet version 7", "on day 1"))
    told = command("acknowledge", "1", "--reason", "the new stain", "--as", "ada")
    assert told.output == "alert 1, input-drift: acknowledged by ada; recovery is still told\n"
    assert "acknowledged by ada" in command("check").output
    for day in (2, 3):
        here.report(day, "no drift")
    done = command("check")
    assert (done.exit_code, done.output) == (0, "nothing fires\n")
    last = mail.get()
    assert last.subject == "[resunet] RECOVERED input-drift: resunet version 7"
    assert "acknowledged by ada: the new stain" in last.text and mail.inbox.empty()


def test_an_acknowledgement_without_a_reason_is_refused(here: World) -> None:
    refused = command("acknowledge", "1", "--reason", " ")
    assert isinstance(refused.exception, ResunetError) and "a name and a reason" in str(refused.exception)


def test_what_cannot_be_told_is_an_error_that_shows_no_address(
    here: World, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUNET_NOTIFY", mail.url(password=f"not-{PASSWORD}"))
    for day in (0, 1):
        here.report(day, "drift")
    done = command("check")
    assert done.exit_code == 2 and "1 critical input-drift" in done.stdout
    assert "address 1 of 1 in RESUNET_NOTIFY is away, or takes no message" in done.stderr
    assert PASSWORD not in done.output
    monkeypatch.setenv("RESUNET_NOTIFY", "")
    assert "nobody is told: set RESUNET_NOTIFY" in command("check").stderr


def test_a_trial_says_how_many_took_it(here: World, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("test")
    assert (done.exit_code, done.output) == (0, "delivered to 1 of 1 addresses\n")
    assert mail.get().subject == "[resunet] TEST: alerts reach you"
    done = command("test", "--to", "oncall")
    assert done.exit_code == 2 and "RESUNET_NOTIFY_ONCALL is not set" in done.output


def test_a_file_is_checked_and_the_one_that_holds_is_printed(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("policy", "--print").output == POLICIES
    monkeypatch.setenv("RESUNET_MONITORING_ALERTS", "")
    own = tmp_path / "own.yaml"
    own.write_text(command("policy", "--print").output)
    checked = command("policy", "--check", str(own))
    assert checked.exit_code == 0 and "input-drift: verdict, tells default" in checked.output
    own.write_text("format: 1\npolicies: []\n")
    assert "own.yaml, line 2" in str(command("policy", "--check", str(own)).exception)
    assert "say what to do" in str(command("policy").exception)


def test_a_log_of_a_month_ago_is_not_looked_at_as_if_it_were_now(here: World) -> None:
    here.predict(DAY_0 + DAY)
    (Path(os.environ["RESUNET_MONITORING_ALERTS"])).write_text(
        POLICIES.replace("{verdict: drift}", "{no_predictions: {during: 2h}}").replace("    for: 2 windows\n", "")
    )
    done = command("check")
    assert done.exit_code == 3 and "the last prediction in the log is of 2026-03-03 00:00 UTC" in done.stdout

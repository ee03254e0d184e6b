"""docs/monitoring/schedule.md: what it tells people to write is what the commands and the metrics know."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from monitoring.cli import app as monitoring
from monitoring.jobs.table import Reporting, commands_of, jobs_of
from monitoring.window import parse_duration
from records.cli import app as records
from records.log_database import open_log
from serving.gateway.job_metrics import JobMetrics

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "monitoring" / "schedule.md").read_text(encoding="utf-8")
PROGRAMS = {"monitoring": monitoring, "records": records}
# Commands of other parts, that are jobs where they exist.
TO_COME = {"trend", "alerts"}


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [text for named, text in found if named == kind]


def check(command: list[str]) -> None:
    """Parse a command without running it: it exists, and knows its options."""
    module, *words = command[command.index("-m") + 1 :]
    program = typer.main.get_command(PROGRAMS[module])
    name, found, rest = program.resolve_command(program.make_context(module, list(words)), words)  # type: ignore[attr-defined]
    found.make_context(name, rest)


def cron_job() -> dict[str, Any]:
    (found,) = (block for block in blocks("yaml") if "CronJob" in block)
    loaded = yaml.safe_load(found)
    assert isinstance(loaded, dict)
    return loaded


def test_every_command_of_the_page_is_one() -> None:
    typed = [shlex.split(line) for block in blocks("") for line in block.splitlines() if line]
    named = [shlex.split(found) for found in re.findall(r"`(python -m [^`]*)`", PAGE)]
    pod = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    (deployed,) = re.findall(r"`command: (\[.*?\])`", PAGE)
    commands = [*typed, *named, pod, yaml.safe_load(deployed)]
    assert len(commands) > 8
    for command in commands:
        if command[3] not in TO_COME:
            check(command)
    with pytest.raises(Exception, match="No such option"):
        check(["python", "-m", "monitoring", "schedule", "--hourly"])


def test_the_commands_of_the_jobs_exist_and_know_their_options(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    options = ("--alpha", "0.01", "--min-effect", "0.1")
    reporting = Reporting(routes=("production", "shadow"), min_rows=5, options=options)
    jobs = jobs_of(reporting, known=commands_of(monitoring), home=tmp_path, limit=parse_duration("10m"))
    assert {"report resunet production+shadow 24h"} < {job.name for job in jobs}
    for job in jobs:
        words = [word for word in job.command if word != "monitoring.jobs.tied"]
        if job.windows is not None:
            words += ["--until", "2026-03-01T00:00:00+00:00", "--window", "24h", *job.windows.version_option]
        check(["python", "-m", *words])


def test_the_cron_line_names_what_a_report_needs_and_is_a_command(tmp_path: Path) -> None:
    (block,) = blocks("crontab")
    *settings, line = block.splitlines()
    # cron starts a command with an environment of its own, which knows none of these.
    assert {setting.partition("=")[0] for setting in settings} == {"MLFLOW_TRACKING_URI", "RESUNET_INFERENCE_LOG"}
    command = line.partition(" && ")[2].removeprefix(".venv/bin/python ").split()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
    url = f"sqlite:///{tmp_path / 'records.db'}"
    open_log(url).dispose()
    environment |= dict(setting.split("=", 1) for setting in settings) | {"RESUNET_HOME": str(tmp_path)}
    # Nothing listens there: a report says so at once, and in words.
    environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    environment |= {"RESUNET_INFERENCE_LOG": url, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 2, ran.stderr
    assert "Check MLFLOW_TRACKING_URI" in ran.stderr


def test_the_units_of_systemd_are_such(tmp_path: Path) -> None:
    service, timer = blocks("ini")
    read = [configparser.ConfigParser(interpolation=None, strict=False) for _ in range(2)]
    for parser, text in zip(read, (service, timer), strict=True):
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_string(text)
    check(read[0]["Service"]["ExecStart"].split())
    assert read[0]["Service"]["Type"] == "oneshot" and read[1]["Timer"]["Persistent"] == "true"
    assert read[1]["Install"]["WantedBy"] == "timers.target"
    verifies = shutil.which("systemd-analyze")
    if verifies is None:
        return
    # It looks for the program and the user as well: those of this machine.
    here = re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", service).replace("User=resunet\n", "")
    (tmp_path / "resunet-schedule.service").write_text(here)
    (tmp_path / "resunet-schedule.timer").write_text(timer)
    units = [str(tmp_path / f"resunet-schedule.{kind}") for kind in ("service", "timer")]
    found = subprocess.run([verifies, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    assert "resunet-schedule" not in found.stderr, found.stderr


def test_the_cron_job_of_kubernetes_runs_one_at_a_time_and_needs_no_rights() -> None:
    job = cron_job()
    spec = job["spec"]
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["apiVersion"], job["kind"], spec["concurrencyPolicy"]) == ("batch/v1", "CronJob", "Forbid")
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    # A pod that is deleted gets the time that the schedule takes to stop: its grace, and to close the report.
    assert pod["terminationGracePeriodSeconds"] > 20 + 5
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    assert {"name": "RESUNET_HOME", "value": mount["mountPath"]} in container["env"]
    try:
        import kubernetes_validate
    except ImportError:
        return
    kubernetes_validate.validate(job, "1.30", strict=True)


def test_the_metrics_of_the_page_are_those_of_the_gateway() -> None:
    told = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in JobMetrics("sqlite:///nowhere.db").describe()
    }
    assert set(re.findall(r"resunet_monitoring_\w+", PAGE)) == told


def test_the_figures_of_the_page_are_the_defaults() -> None:
    command = typer.main.get_command(monitoring).commands["schedule"]  # type: ignore[attr-defined]
    defaults = {option.name: option.default for option in command.params}
    said = {"window": "24h", "watermark": "10m", "back": "7d", "limit": "10m", "lease": "1m"}
    assert {name: defaults[name] for name in said} == said

"""The README's commands, word for word, in a copy of the project in a folder with a space in its name.

Only the ports differ, so that two runs do not meet. What a block shows as output has to appear, numbers aside.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_server import free_port

from monitoring.settings import MonitoringSettings
from pipelines.settings import TrainingSettings
from records.settings import RecordsSettings
from registry.settings import RegistrySettings
from serving.settings import ServingSettings

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
DEADLINE_S = 480


def console_lines() -> tuple[list[str], list[str]]:
    """Commands and expected output of the `console` blocks, in order."""
    commands, outputs = [], []
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append(line.removeprefix("$ "))
            elif line.strip():
                outputs.append(line)
    return commands, outputs


def normalised(text: str) -> str:
    """One space between words, and every number the same."""
    return re.sub(r"\d+(\.\d+)?", "#", " ".join(text.split()))


def copy_of_project(target: Path) -> Path:
    """What git tracks, as it stands here, with this environment as `.venv`."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    for name in names.decode().split("\0"):
        if name and (PROJECT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target / name)
    (target / ".venv").symlink_to(Path(sys.executable).parent.parent, target_is_directory=True)
    return target


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_commands_do_what_the_readme_shows(tmp_path: Path) -> None:
    built = Path(sys.executable).parent.parent / ".setup"
    assert built.exists(), "this test needs the environment that `make test` builds; else make would install the copy"
    project = copy_of_project(tmp_path / "a clone")
    commands, outputs = console_lines()
    ports = {"5000": str(free_port()), "5001": str(free_port())}
    script = "set -o pipefail\n" + "\n".join(commands)
    script = re.sub("500[01]", lambda found: ports[found[0]], script)
    script = script.replace("make server", f"make server PORT={ports['5000']}")
    # Wait for the server where a person would have waited for its word.
    waiting = f"until curl -sf http://127.0.0.1:{ports['5000']}/health; do sleep 0.5; done\nexport MLFLOW_TRACKING_URI"
    script = script.replace("export MLFLOW_TRACKING_URI", waiting, 1)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
    # The environment is installed already; `make` must not point it at the copy.
    environment = kept | {"MAKEFLAGS": "-o .venv/.setup", "COLUMNS": "160"}
    process = subprocess.Popen(
        ["bash", "-e", "-c", script],
        cwd=project,
        env=environment,
        stdout=(tmp_path / "output").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        code = process.wait(DEADLINE_S)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
    printed = (tmp_path / "output").read_text(errors="replace")
    assert code == 0, printed[-4000:]
    missing = [line for line in outputs if normalised(line) not in normalised(printed)]
    assert not missing, printed[-6000:]


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(RESUNET_\w+)` \| (.*?) \|", README, flags=re.MULTILINE))
    fields = {}
    for settings in (RecordsSettings, ServingSettings, RegistrySettings, MonitoringSettings, TrainingSettings):
        for name, field in settings.model_fields.items():
            fields[f"{settings.model_config['env_prefix']}{name}".upper()] = field.default
    assert set(rows) == set(fields)
    for name, default in fields.items():
        if default is not None:
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert shown in rows[name].replace("`", ""), name


def test_the_two_commands_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)

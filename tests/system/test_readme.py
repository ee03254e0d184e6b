"""The README's commands, word for word, in a copy of the project in a folder with a space in its name.

Only the ports differ, so that two runs do not meet, and the training is shorter, of a smaller network. What a block
shows as output has to appear while that block runs, in the order shown; numbers may differ, exit codes may not.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mlflow_server import free_port
from waiting import until

from monitoring.alerts.recipients import AlertSettings
from monitoring.settings import MonitoringSettings
from records.environment import EnvironmentSettings
from records.settings import RecordsSettings
from registry.settings import RegistrySettings
from registry.signers import SigningSettings
from serving.gateway.settings import GatewaySettings
from serving.settings import ServingSettings

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
GATEWAY = (PROJECT / "docs" / "gateway.md").read_text(encoding="utf-8")
DEADLINE_S = 480
EXIT_CODE = "exit code "
# Printed between blocks; no command prints it.
MARK = "=== the next block of the README ==="


@dataclass(frozen=True)
class Block:
    """A `console` block: what is typed, and what is shown as output."""

    commands: list[str]
    output: list[str]


def console_blocks(text: str) -> list[Block]:
    blocks = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        lines = [line for line in block.splitlines() if line.strip()]
        commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        blocks.append(Block(commands, [line for line in lines if not line.startswith("$ ")]))
    return blocks


def missing_lines(blocks: list[Block], printed: str) -> list[str]:
    """The first line of each block that its part of the output does not show, in the order of the block."""
    parts = printed.split(MARK)
    assert len(parts) == len(blocks), printed[-4000:]
    return [line for block, part in zip(blocks, parts, strict=True) for line in _first_missing(block.output, part)]


def _first_missing(expected: list[str], printed: str) -> list[str]:
    # A progress bar ends in no newline; a narrow terminal would break lines, so ours is wide.
    left = iter([normalised(line) for line in re.split(r"[\r\n]", printed)])
    for line in expected:
        if not any(_shows(found, normalised(line)) for found in left):
            return [line]
    return []


def _shows(found: str, line: str) -> bool:
    return found == line if line.startswith(EXIT_CODE) else line in found


def normalised(text: str) -> str:
    """One space between words, and every number the same, but for exit codes: they are what a script acts on."""
    words = " ".join(text.split())
    return words if words.startswith(EXIT_CODE) else re.sub(r"\d+(\.\d+)?", "#", words)


def copy_of_project(target: Path) -> Path:
    """What git tracks or would, as it stands here, with this environment as `.venv`."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=PROJECT, capture_output=True, check=True).stdout
    for name in names.decode().split("\0"):
        if name and (PROJECT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target / name)
    for name in ("pyproject.toml", "constraints.txt"):
        # Older than any environment: else `make` would install this copy into the one that all share.
        os.utime(target / name, (0, 0))
    (target / ".venv").symlink_to(Path(sys.executable).parent.parent, target_is_directory=True)
    return target


def of_group(group: int) -> list[int]:
    """Processes of a group that are there and not only waited for."""
    found = []
    for each in psutil.process_iter(["pid", "status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(each.pid) == group and each.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(each.pid)
    return found


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_commands_do_what_the_readme_shows(tmp_path: Path) -> None:
    built = Path(sys.executable).parent.parent / ".setup"
    assert built.exists(), "this test needs the environment that `make test` builds; else make would install the copy"
    installed = built.stat().st_mtime_ns
    project = copy_of_project(tmp_path / "a clone")
    blocks = console_blocks(README)
    ports = {port: str(free_port()) for port in ("5000", "5001", "8000")}
    script = "set -o pipefail\n" + f"\necho '{MARK}'\n".join("\n".join(block.commands) for block in blocks)
    script = re.sub("500[01]|8000", lambda found: ports[found[0]], script)
    assert "-P epochs=20" in script
    script = script.replace("-P epochs=20", "-P epochs=6 -P width=8 -P crop=96")  # enough for every gate
    script = script.replace("make server", f"make server PORT={ports['5000']}")
    # Wait for the server's word, as a person would have.
    waiting = 'until grep -q "MLflow is at" "$OUTPUT"; do sleep 0.5; done\nexport MLFLOW_TRACKING_URI'
    script = script.replace("export MLFLOW_TRACKING_URI", waiting, 1)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RESUNET_"))}
    output = tmp_path / "output"
    # Without an index an installation fails before it changes anything.
    environment = kept | {"PIP_NO_INDEX": "1", "COLUMNS": "160", "OUTPUT": str(output)}
    process = subprocess.Popen(
        ["bash", "-e", "-c", script],
        cwd=project,
        env=environment,
        stdout=output.open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        code = process.wait(DEADLINE_S)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        until(lambda: not of_group(process.pid), lambda: f"{of_group(process.pid)} are still there", every=0.5)
    printed = output.read_text(errors="replace")
    assert code == 0, printed[-4000:]
    assert built.stat().st_mtime_ns == installed, "make installed the copy into the environment that all share"
    missing = missing_lines(blocks, printed)
    assert not missing, f"{missing}\n{printed[-6000:]}"


def test_an_output_that_differs_from_what_is_shown_is_noticed() -> None:
    blocks = console_blocks(
        "```console\n$ a\nDice 0.94 on 17\nexit code 3\nexit code 3\n```\n```console\n$ b\nend\n```"
    )
    assert [block.commands for block in blocks] == [["a"], ["b"]]
    as_shown = f"starting\rDice 0.91   on 9 images\nexit code 3\nnoise\nexit code 3\n{MARK}\nend\n"
    assert missing_lines(blocks, as_shown) == []
    for wrong, missed in (
        (as_shown.replace("code 3", "code 2"), ["exit code 3"]),
        (as_shown.replace("code 3\n", "code 2\n", 1), ["exit code 3"]),
        (as_shown.replace("exit code 3", "exit code 30"), ["exit code 3"]),
        (f"exit code 3\nexit code 3\nDice 0.91 on 9\n{MARK}end", ["exit code 3"]),
        (f"end\n{MARK}Dice 0.91 on 9\nexit code 3\nexit code 3", ["Dice 0.94 on 17", "end"]),
    ):
        assert missing_lines(blocks, wrong) == missed


@pytest.mark.parametrize(
    ("page", "classes"),
    [
        (
            README,
            (RecordsSettings, ServingSettings, RegistrySettings, SigningSettings, MonitoringSettings, AlertSettings),
        ),
        (GATEWAY, (GatewaySettings,)),
    ],
    ids=["README", "gateway"],
)
def test_every_setting_is_in_the_table_with_its_default(
    page: str, classes: tuple[type[EnvironmentSettings], ...]
) -> None:
    rows = dict(re.findall(r"^\| `(RESUNET_\w+)` \| (.*?) \|", page, flags=re.MULTILINE))
    fields = {}
    for settings in classes:
        for name, field in settings.model_fields.items():
            fields[f"{settings.model_config['env_prefix']}{name}".upper()] = field.default
    assert set(rows) == set(fields)
    for name, default in fields.items():
        if default is not None:
            shown = f"{default:g}" if isinstance(default, float) else "off" if default is False else str(default)
            assert shown in rows[name].replace("`", ""), name


def test_the_two_commands_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)

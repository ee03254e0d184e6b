"""docs/gates.md: it tells of every gate and setting, and its example of a package with a gate of its own works."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gate_evidence import evidence, scores

from benchmarks.gates import ALONE, BEYOND, GROUPED
from registry.evidence import Evidence
from registry.gates import Verdict, find_gate, known
from registry.judgement import judge
from registry.noninferiority import DRAWS
from registry.policy import Policy, load_policy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """What is said of one gate."""
    found = re.search(rf"^\*\*{name}\*\* .*?(?=\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"nothing is said of {name}"
    return found[0]


@pytest.mark.parametrize("name", known.BUILT_IN)
def test_every_gate_is_told_with_its_settings_and_their_defaults(name: str) -> None:
    gate = find_gate(name)
    assert gate is not None
    told = section(name)
    for setting, field in gate.settings.model_fields.items():
        value = field.get_default(call_default_factory=True)
        assert f"`{setting}` ({value})" in told, setting


def test_no_gate_is_told_that_is_not_there() -> None:
    told = re.findall(r"^\*\*(\w+)\*\* (?:asks|is not in the policy)", PAGE, re.MULTILINE)
    assert told == list(known.BUILT_IN)


def test_the_number_of_draws_is_that_of_the_code() -> None:
    assert f"a bootstrap: {DRAWS:,} times" in PAGE


def test_nothing_is_left_to_be_filled_in() -> None:
    assert re.findall(r"\b[A-Z]+_(?:HEAD|TABLE|TEXT)\b", PAGE) == []


def test_every_simulated_distribution_has_a_row() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", PAGE, re.MULTILINE)
    simulated = [*ALONE, *GROUPED, *(f"beyond: {name}" for name in BEYOND)]
    assert [name for name in simulated if name not in rows] == []


def files(folder: Path) -> None:
    """Write the page's files, whose first line is their path, into a folder."""
    for _, path, text in re.findall(r"```(\w+)\n# (\S+\.\w+)\n(.*?)```", PAGE, re.DOTALL):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed by pip into `installed`, without a network."""
    folder = tmp_path_factory.mktemp("example")
    files(folder)
    assert {path.name for path in folder.rglob("*.*")} == {"pyproject.toml", "worst_images.py", "policy.yaml"}
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "--quiet"]
    command += ["--disable-pip-version-check", "--target", str(folder / "installed"), str(folder / "worst-images")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_policy_that_names_the_gate_of_the_example_is_read_by_the_command(folder: Path) -> None:
    def read(path: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(path)}
        command = [sys.executable, "-m", "registry", "policy", str(folder / "policy.yaml")]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
        )

    done = read(folder / "installed")
    assert done.returncode == 0, done.stderr
    assert "worst_images" in done.stdout and "share 0.2, dice 0.6" in done.stdout
    without = read(folder / "nowhere")
    assert (without.returncode, "there is no gate 'worst_images'" in without.stderr) == (2, True)


@pytest.fixture
def policy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Policy]:
    """The policy of the example, where its package is installed."""
    monkeypatch.syspath_prepend(str(folder / "installed"))
    known._added.cache_clear()
    yield load_policy(folder / "policy.yaml")
    known._added.cache_clear()
    sys.modules.pop("worst_images", None)


def verdict(policy: Policy, given: Evidence) -> Verdict:
    judged = {one.gate: one.verdict for one in judge(policy, given).judged}
    return judged["worst_images"]


def test_the_gate_of_the_example_judges(policy: Policy) -> None:
    bad = verdict(policy, evidence(scores([0.9] * 8 + [0.5, 0.6])))
    assert (bad.outcome, bad.evidence) == ("fail", "mean Dice of the worst 2 of 10 test images: 0.5500 < 0.6000")
    assert bad.advice
    assert verdict(policy, evidence(scores([0.9] * 8 + [0.6, 0.6]))).outcome == "pass"
    missing = verdict(policy, evidence())
    assert (missing.outcome, "registry check resunet 7" in missing.advice) == ("undecided", True)
    assert judge(policy, evidence()).missing == ["lineage", "scores"]

"""The rollout policy: typed, every mistake named by its line, and changeable while it holds."""

import math
import os
from importlib.resources import files
from pathlib import Path

import pytest

from resunet.errors import SettingsError
from serving.rollout.policy import DEFAULT_POLICY, PolicyFile, RolloutPolicy, parse_rollout_policy

DEFAULT = DEFAULT_POLICY.read_text(encoding="utf-8")


def line_of(text: str) -> int:
    return DEFAULT[: DEFAULT.index(text)].count("\n") + 1


def test_the_policy_that_comes_with_the_platform_is_the_documented_one() -> None:
    policy = PolicyFile(None).current()
    assert [step.share for step in policy.canary] == [0.01, 0.05, 0.25, 0.5]
    assert [step.rules_out for step in policy.canary] == [10, 4, 2, 1]
    assert (policy.alpha, policy.finish.promote, policy.sticky, policy.stages) == (0.01, False, "client", 5)
    assert policy.limits.of("latency") == pytest.approx(math.log(1.2))
    assert (policy.limits.of("errors"), policy.limits.of("confidence")) == (0.01, 0.02)


def test_it_is_in_the_package_and_says_what_each_key_does() -> None:
    assert files("serving.rollout").joinpath("policy.yaml").is_file()
    for name in RolloutPolicy.model_fields:
        assert f"\n{name}:" in DEFAULT, f"{name} is not in the file that teaches"
    told = sum(line.startswith("#") or " # " in line for line in DEFAULT.splitlines())
    assert told > 20


MISTAKES = {
    "unknown key": ("alpha: 0.01", "alfa: 0.01", "alfa: there is no such key"),
    "unknown key below": ("promote: false", "promot: false", "finish.promot: there is no such key"),
    "unknown key of a step": ("share: 0.25", "shares: 0.25", "canary.2.share: it is missing"),
    "no number": ("minutes: 20", "minutes: '20'", "canary.1.minutes: it should be a valid number"),
    "yes and no": ("promote: false", "promote: 'no'", "finish.promote: it should be a valid boolean"),
    "shares that shrink": ("share: 0.25", "share: 0.02", "canary: step 3 should have a larger share"),
    "a share of parts of cells": ("share: 0.05", "share: 0.0501", "canary.1.share: it should be a multiple of 0.0005"),
    "a share that is too small": ("share: 0.01", "share: 0.001", "canary.0.share: it should be greater than"),
    "a share of everybody": ("share: 0.50", "share: 1.0", "canary.3.share: it should be less than"),
    "alpha of one": ("alpha: 0.01", "alpha: 1", "alpha: it should be less than"),
    "no doubt at all": ("doubt: 0.05", "doubt: 0", "doubt: it should be greater than 0"),
    "a ratio that is faster": (
        "latency_ratio: 1.2",
        "latency_ratio: 0.9",
        "limits.latency_ratio: it should be greater",
    ),
    "not a number": ("latency_ratio: 1.2", "latency_ratio: .nan", "limits.latency_ratio: it should be"),
    "stickiness": ("sticky: client", "sticky: header:X Y", "sticky: it should be client, request, or header:"),
    "a newer format": ("format: 1", "format: 2", "this release reads format 1"),
    "no YAML": ("alpha: 0.01", "alpha: [", "this is not YAML"),
    "twice": ("doubt: 0.05", "alpha: 0.05", "alpha is written twice"),
}


@pytest.mark.parametrize(("old", "new", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_line(old: str, new: str, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_rollout_policy(DEFAULT.replace(old, new, 1), "rollout.yaml")
    file, _, rest = str(refused.value).partition(", line ")
    line, _, said = rest.partition(": ")
    assert file == "rollout.yaml"
    assert said.startswith(told)
    near = line_of("\ncanary:") + 1 if told.startswith("canary: step") else line_of(old)
    assert abs(int(line) - near) <= (4 if told == "this is not YAML" else 0)


def test_a_canary_has_steps_and_a_shadow_may_be_left_out() -> None:
    start, end = DEFAULT.index("canary:"), DEFAULT.index("# The smallest")
    with pytest.raises(SettingsError, match=r"canary: "):
        parse_rollout_policy(DEFAULT[:start] + "canary: []\n" + DEFAULT[end:])
    assert parse_rollout_policy(DEFAULT.replace("share: 0.1\n", "share: 0\n", 1)).stages == 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rollout.yaml"
    path.write_text(DEFAULT)
    return path


def test_a_change_holds_from_the_next_look_on(path: Path) -> None:
    file = PolicyFile(path)
    assert file.current().alpha == 0.01
    status = path.stat()
    path.write_text(DEFAULT.replace("alpha: 0.01", "alpha: 0.02"))
    # As an editor within the same tick of a coarse clock leaves it.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.current().alpha == 0.02
    assert file.error is None


def test_a_broken_change_leaves_what_held_and_says_so_until_it_is_mended(path: Path) -> None:
    file = PolicyFile(path)
    path.write_text(DEFAULT.replace("alpha: 0.01", "alfa: 0.02"))
    for _ in range(2):
        assert file.current().alpha == 0.01
        assert file.error is not None
        assert f"rollout.yaml, line {line_of('alpha: 0.01')}: alfa: there is no such key" in file.error
        assert "the policy before it holds" in file.error
    path.write_text(DEFAULT.replace("alpha: 0.01", "alpha: 0.02"))
    assert file.current().alpha == 0.02 and file.error is None


@pytest.mark.parametrize("break_it", [Path.unlink, lambda path: path.write_bytes(b"\xff\xfe")], ids=["gone", "no text"])
def test_a_file_that_cannot_be_read_leaves_what_held(path: Path, break_it: object) -> None:
    file = PolicyFile(path)
    break_it(path)  # type: ignore[operator]
    assert file.current().alpha == 0.01
    assert file.error is not None and "cannot be read" in file.error
    path.write_text(DEFAULT)
    assert file.current().alpha == 0.01 and file.error is None


def test_at_the_beginning_there_has_to_be_one_that_holds(path: Path) -> None:
    path.write_text("format: 1\n")
    with pytest.raises(SettingsError, match=r"rollout.yaml, line 1: shadow: it is missing"):
        PolicyFile(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        PolicyFile(path.with_name("none.yaml"))

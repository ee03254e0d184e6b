"""The policy: typed, every mistake named by file and line, and a digest of what it says."""

from pathlib import Path

import pytest

from registry.gates import Judged, Outcome, Verdict
from registry.policy import Action, Policy, load_policy, parse_policy
from resunet.errors import SettingsError

BASE = """\
format: 1
stages:
  Production:
    intact:
"""


def test_the_policy_that_comes_with_the_platform_guards_production_with_every_gate_but_four_eyes() -> None:
    policy = load_policy(None)
    production = [rule.gate.name for rule in policy.stages["Production"]]
    assert production[:4] == ["intact", "evaluated", "floor", "champion"]
    assert {"slices", "robustness", "calibration", "parity", "performance", "signature"} < set(production)
    assert {"dependencies", "data", "signed"} < set(production)
    for rule in policy.stages["Production"]:
        actions = {outcome: rule.action(outcome, policy.outcomes) for outcome in ("pass", "fail", "undecided")}
        assert actions == {"pass": "allow", "fail": "block", "undecided": "block"}
    assert (policy.roles.override, policy.roles.approve) == ([], [])


# What is added behind line 4, the line that is named, and what is said of it.
MISTAKES = {
    "unknown key": ("rules: []\n", 5, "rules: there is no such key"),
    "unknown gate": (
        "    flor: {dice: 0.7}\n",
        5,
        "there is no gate 'flor'; there are approved, calibration, champion",
    ),
    "unknown setting": ("    floor:\n\n      dise: 0.7\n", 7, "stages.Production.floor.dise: there is no such key"),
    "number out of range": (
        "    floor:\n      # of Dice\n      dice: 1.7\n",
        7,
        "floor.dice: it should be less than or",
    ),
    "text for a number": ('    floor: {dice: "0.7"}\n', 5, 'dice: it should be a valid number, not "0.7"'),
    "short exponent": ("    floor: {dice: 7e-1}\n", 5, '"7e-1", which YAML reads as text: write 1.0e-3'),
    "yes for a number": ("    floor: {dice: yes}\n", 5, "dice: it should be a valid number, not true"),
    "fraction for a count": ("    slices: {images: 2.5}\n", 5, "images: it should be a valid integer"),
    "no finite number": ("    floor: {dice: .nan}\n", 5, "dice: it should be a finite number"),
    "nothing for a number": ("    floor: {dice: }\n", 5, "dice: it should be a valid number"),
    "a number inside": (
        "    robustness:\n      each:\n        blur: 2\n",
        7,
        "robustness.each.blur: it should be less",
    ),
    "number for a gate": ("    floor: 0.7\n", 5, "stages.Production.floor: it has to hold keys and values"),
    "list for a gate": ("    floor: [0.7]\n", 5, "stages.Production.floor: it has to hold keys and values"),
    "unknown action": ("    floor: {outcomes: {fail: stop}}\n", 5, "outcomes.fail: it should be 'allow', 'warn' or"),
    "action of a pass": ("outcomes: {pass: block}\n", 5, "outcomes.pass: there is no such key"),
    "number for outcomes": ("    floor: {outcomes: 0}\n", 5, "floor.outcomes: it has to hold keys and values"),
    "unknown role": ("roles: {admin: [ada]}\n", 5, "roles.admin: there is no such key"),
    "name for names": ("roles: {override: ada}\n", 5, "roles.override: it has to be a list"),
    "number for a name": (
        "roles:\n  approve:\n    - ada\n    - 7\n",
        8,
        "roles.approve.1: it should be a valid string",
    ),
    "no name": ('roles: {override: [""]}\n', 5, "roles.override.0: it is empty"),
    "gate twice": ("    floor:\n    intact:\n", 6, "intact is written twice, first in line 4"),
    "setting twice": ("    floor:\n      dice: 0.5\n      dice: 0.6\n", 7, "dice is written twice, first in line 6"),
    "stage twice": ("  Production:\n    floor:\n", 5, "Production is written twice, first in line 3"),
    "open bracket": ("roles: {\n", 6, "this is not YAML: expected the node content"),
    "tabulator": ("\troles:\n", 5, "this is not YAML: found character"),
    "impossible date": ("    floor: {dice: 2020-13-45}\n", 5, "2020-13-45: month must be in 1..12"),
    "impossible date for a key": ("    2020-13-45: {}\n", 5, "2020-13-45: month must be in 1..12"),
    "no truth": ("    floor: {dice: !!bool maybe}\n", 5, "maybe: it is no bool"),
    "no time": ("    floor: {dice: !!timestamp soon}\n", 5, "soon: it is no timestamp"),
    "control character": ("# \x07\n", 5, "a character that YAML does not allow"),
    "object": ("    floor: !!python/object:os.system {}\n", 5, "this is not YAML: could not determine a constructor"),
    "unknown alias": ("    floor: *nothing\n", 5, "this is not YAML: found undefined alias 'nothing'"),
    "alias of itself": ("    robustness: &a\n      each: *a\n", 5, "an alias holds itself"),
    "second document": ("---\nformat: 1\n", 5, "this is not YAML: found another document"),
    "list for a key": ("    ? [a]\n    : b\n", 5, "this is not YAML: found unhashable key"),
    "number for a key": ("    7: {}\n", 5, "stages.Production.7: it should be a valid string"),
}


@pytest.mark.parametrize(("added", "line", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_line(added: str, line: int, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_policy(BASE + added, "policy.yaml")
    assert str(refused.value).startswith(f"policy.yaml, line {line}: ")
    assert told in str(refused.value)


WHOLE_FILES = {
    "nothing": ("", 1, "the policy: it has to hold keys and values"),
    "a list": ("- format\n", 1, "the policy: it has to hold keys and values"),
    "no format": ("stages: {Production: {intact: }}\n", 1, "format: it is missing"),
    "a later format": ("# ours\nformat: 2\nstages: {Production: {intact: }}\n", 2, "this release reads format 1"),
    "a format that is no number": (
        "format: true\nstages: {Production: {intact: }}\n",
        1,
        "this release reads format 1",
    ),
    "no stages": ("format: 1\n", 1, "stages: it is missing"),
    "another stage": ("format: 1\nstages:\n  Prod: {intact: }\n", 3, "stages.Prod: it should be 'Staging' or"),
    "nothing before Production": ("format: 1\nstages:\n  Staging: {intact: }\n", 2, "no gate stands before Production"),
    "an empty Production": ("format: 1\nstages:\n  Production: {}\n", 3, "no gate stands before Production"),
    "a Production of nothing": ("format: 1\nstages:\n  Production:\n", 3, "Production: it has to hold keys and values"),
    "a thousand brackets": ("[" * 3000, 1, "too many brackets"),
}


@pytest.mark.parametrize(("text", "line", "told"), WHOLE_FILES.values(), ids=WHOLE_FILES)
def test_a_file_that_is_no_policy_is_refused(text: str, line: int, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_policy(text, "policy.yaml")
    assert str(refused.value).startswith(f"policy.yaml, line {line}: ")
    assert told in str(refused.value)


def test_a_mistake_behind_an_anchor_is_told_where_it_is_written() -> None:
    text = """\
format: 1
stages:
  Staging:
    floor: &common
      dice: 0.5
    intact:
  Production:
    floor: *common
    slices:
      <<: *common
      images: 2
"""
    with pytest.raises(SettingsError, match=r"^policy.yaml, line 11: stages.Production.slices.images"):
        parse_policy(text, "policy.yaml")
    with pytest.raises(SettingsError, match=r"^policy.yaml, line 5: stages.Staging.floor.dice"):
        parse_policy(text.replace("0.5", "5"), "policy.yaml")
    only_merged = text.replace("    floor: &common", "    slices: &common").replace("    floor: *common\n", "")
    with pytest.raises(SettingsError, match=r"^policy.yaml, line 5: stages.Staging.slices.dice"):
        parse_policy(only_merged.replace("0.5", "5").replace("images: 2", "images: 20"), "policy.yaml")


def test_anchors_and_merges_mean_what_yaml_says() -> None:
    text = BASE.replace("stages:", "outcomes: &o {undecided: warn}\nstages:")
    text += "    floor: &f {dice: 0.5, outcomes: *o}\n    slices:\n      <<: *f\n      images: 30\n"
    rules = {rule.gate.name: rule for rule in parse_policy(text).stages["Production"]}
    assert rules["slices"].settings.model_dump() == {"images": 30, "dice": 0.5, "margin": 0.05}
    assert rules["slices"].outcomes.undecided == "warn"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none.yaml cannot be read: .*; RESUNET_POLICY names it"):
        load_policy(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_policy(tmp_path)
    (tmp_path / "policy.yaml").write_bytes(b"format: \xff\xfe")
    with pytest.raises(SettingsError, match="it is not UTF-8 text"):
        load_policy(tmp_path / "policy.yaml")
    (tmp_path / "policy.yaml").write_text(BASE + "rules: []\n")
    with pytest.raises(SettingsError, match=r"^policy.yaml, line 5"):
        load_policy(tmp_path / "policy.yaml")


def action(policy: Policy, gate: str, outcome: Outcome) -> Action:
    return next(r for r in policy.stages["Production"] if r.gate.name == gate).action(outcome, policy.outcomes)


def test_what_a_verdict_does_is_said_by_the_gate_else_by_the_policy_else_by_default() -> None:
    plain = parse_policy(BASE)
    assert action(plain, "intact", "undecided") == action(plain, "intact", "fail") == "block"
    assert action(plain, "intact", "not_applicable") == action(plain, "intact", "pass") == "allow"
    text = BASE + "    floor: {outcomes: {fail: warn}}\noutcomes: {undecided: warn, not_applicable: block}\n"
    policy = parse_policy(text)
    assert (action(policy, "floor", "fail"), action(policy, "intact", "fail")) == ("warn", "block")
    assert action(policy, "floor", "undecided") == action(policy, "intact", "undecided") == "warn"
    assert action(policy, "intact", "not_applicable") == "block"


def test_only_what_blocks_keeps_a_version_out() -> None:
    judged = [Judged(name, Verdict("fail", ""), name) for name in ("allow", "warn", "block")]  # type: ignore[arg-type]
    assert [one.gate for one in parse_policy(BASE).blocks(judged)] == ["block"]


RICH = BASE + "    floor: {dice: 0.7}\n    champion: {margin: 0.01}\nroles: {override: [ada, grace]}\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.7", "0.71"),
        ("{margin: 0.01}", "{margin: 0.01, images: 20}"),
        ("    champion", "    slices:\n    champion"),
        ("{dice: 0.7}", "{dice: 0.7, outcomes: {undecided: warn}}"),
        ("stages:", "outcomes: {undecided: warn}\nstages:"),
        ("stages:", "stages:\n  Staging: {intact: }"),
        ("[ada, grace]", "[ada]"),
        ("override:", "approve:"),
    ],
)
def test_the_digest_changes_with_what_is_decided(old: str, new: str) -> None:
    assert parse_policy(RICH.replace(old, new, 1)).digest != parse_policy(RICH).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("format: 1", "# of 2026\nformat: 1   # the only one"),
        ("    intact:\n    floor: {dice: 0.7}", "    floor:\n      dice: 0.70\n    intact: {}"),
        ("{dice: 0.7}", "{dice: 7.0e-1}"),
        ("{margin: 0.01}", "{images: 10, margin: 0.01}"),
        ("stages:", "outcomes: {fail: block}\nstages:"),
        ("[ada, grace]", "[grace, ada]"),
    ],
    ids=["comment", "order", "how a number is written", "a default said", "a default action said", "order of names"],
)
def test_the_digest_stays_where_nothing_else_is_decided(old: str, new: str) -> None:
    changed = RICH.replace(old, new, 1)
    assert changed != RICH
    assert parse_policy(changed).digest == parse_policy(RICH).digest


def test_what_the_gates_of_a_stage_read_is_known() -> None:
    policy = parse_policy(RICH + "    \n")
    assert policy.needs("Production") == {"scores", "overlap"}
    assert policy.needs("Staging") == frozenset()
    assert load_policy(None).needs("Production") > {"scores", "lineage", "robustness", "performance"}

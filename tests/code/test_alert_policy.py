"""A file of policies says what is wrong with it: which file, which line, and what to write."""

from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.alerts.conditions import Condition
from monitoring.alerts.policy import load_policies, parse_policies
from monitoring.alerts.state import Lasting
from resunet.errors import SettingsError

TEXT = """format: 1
policies:
  - name: drift
    when: {verdict: drift}
    for: 2 windows
    actions:
      - alert: {severity: warning}
"""

WRONG = [
    ("drift}", "drfit}", "line 4: policies.0.when.verdict: it should be 'drift' or 'too few rows'"),
    ("2 windows", "30m", "line 3: policies.0: for: what `verdict` looks at is counted in windows: write 2 windows"),
    ("2 windows", "two", "line 5: policies.0.for: it should be a number of windows or a length of time: write 2 windo"),
    ("2 windows", "0 windows", "line 5: policies.0.for: it should be a number of windows or a length of time: write "),
    ("{verdict: drift}", "{}", "line 4: policies.0.when: it should hold one condition, but there is none; they are: "),
    ("drift}", "drift, trend: drift}", "line 4: policies.0.when: it should hold one condition, but trend and verdict"),
    ("{verdict: drift}", "{verdict: }", "line 4: policies.0.when: verdict says nothing: write what it looks for"),
    ("{verdict: drift}", "{descriptor: hue}", "line 4: policies.0.when.descriptor: there is no such descriptor: choo"),
    ("{verdict: drift}", "{job: {late: 1h}}", "line 4: policies.0.when.job.late: there is no such key"),
    ("{verdict: drift}", "{disk_free: {below: 10}}", "line 4: policies.0.when.disk_free.below: it should be less than"),
    ("{verdict: drift}", "{disk_free: {below: .nan}}", "line 4: policies.0.when.disk_free.below: it should be a finit"),
    ("{verdict: drift}", "'yes'", "line 4: policies.0.when: it has to hold keys and values (`key: value`)"),
    ("warning}", "loud}", "line 7: policies.0.actions.0.alert.severity: it should be 'info', 'warning' or 'critical'"),
    ("{severity: warning}", "{repeat: 5}", "line 7: policies.0.actions.0.alert.repeat: it should be a length of time"),
    ("{severity: warning}", "", "line 7: policies.0.actions.0: an action is one of alert, retrain and promote: write "),
    ("alert: {severity: warning}", "page: {}", "line 7: policies.0.actions.0.page: there is no such key"),
    ("for:", "fro:", "line 5: policies.0.fro: there is no such key"),
    ("name: drift", "name: A drift", "line 3: policies.0.name: it should be small letters, digits and dashes: write "),
    ("format: 1", "format: 2", "line 1: this release reads format 1"),
    ("format: 1", "format: [", "line 3: this is not YAML"),
]


@pytest.mark.parametrize(("right", "wrong", "said"), WRONG, ids=[wrong for _, wrong, _ in WRONG])
def test_a_mistake_is_named_by_its_line(right: str, wrong: str, said: str) -> None:
    assert right in TEXT
    with pytest.raises(SettingsError) as told:
        parse_policies(TEXT.replace(right, wrong), "alerts.yaml")
    assert str(told.value).startswith(f"alerts.yaml, {said}")


RETRAIN, PROMOTE = "      - retrain: {at_most_every: 7d}\n", "      - promote: {by_itself: true}\n"


def test_a_policy_orders_a_retraining_and_promotes_only_where_it_says_so() -> None:
    [plain] = parse_policies(TEXT)
    [trains] = parse_policies(TEXT + RETRAIN)
    [both] = parse_policies(TEXT + RETRAIN + PROMOTE)
    [not_by_itself] = parse_policies(TEXT + RETRAIN + PROMOTE.replace("true", "false"))
    assert plain.retrain is None and trains.retrain is not None
    assert trains.retrain.at_most_every == timedelta(days=7) and trains.retrain.max_minutes == 0
    assert [one.promotes for one in (plain, trains, both, not_by_itself)] == [False, False, True, False]


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        ("      - retrain: {at_most_every: soon}\n", r"line 8: policies\.0\.actions\.1\..*it should be"),
        ("      - retrain: {}\n", r"line 8: .*at_most_every: it is missing"),
        ("      - retrain: {at_most_every: 7d, max_minutes: -1}\n", "line 8: .*max_minutes: it should be greater"),
        ("      - promote: {by_itself: perhaps}\n", r"line 8: policies\.0\.actions\.1\..*it should be"),
        (PROMOTE, "line 3: .*promote is of what was retrained: write a `retrain` beside it"),
        (RETRAIN + RETRAIN, "line 3: .*an action stands once"),
        (RETRAIN + PROMOTE + PROMOTE, "line 3: .*an action stands once"),
    ],
)
def test_a_retraining_that_makes_no_sense_is_refused(actions: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_policies(TEXT + actions, "alerts.yaml")


def test_a_retraining_of_which_nobody_would_hear_is_refused() -> None:
    with pytest.raises(SettingsError, match="nobody would hear of what is done"):
        parse_policies(TEXT.replace("alert: {severity: warning}", "retrain: {at_most_every: 7d}"), "alerts.yaml")


def test_a_disk_cannot_be_retrained() -> None:
    text = TEXT.replace("{verdict: drift}", "{disk_free: {below: 0.1}}").replace("    for: 2 windows\n", "")
    with pytest.raises(SettingsError, match="a job or a disk has no model to retrain: take `retrain` out"):
        parse_policies(text + RETRAIN, "alerts.yaml")


def test_an_address_in_the_file_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="its addresses are in RESUNET_NOTIFY_ONCALL") as told:
        parse_policies(TEXT.replace("severity: warning", "to: ['mailto://ada:hunter2@mail.example']"), "alerts.yaml")
    assert "hunter2" not in str(told.value)


def test_two_policies_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="line 8: drift is the name of two policies, first in line 3"):
        parse_policies(TEXT + TEXT.partition("policies:\n")[2], "alerts.yaml")


def test_a_job_and_a_disk_belong_to_no_model() -> None:
    text = TEXT.replace("{verdict: drift}", "{job: {}}").replace("for: 2 windows", "model: resunet")
    with pytest.raises(SettingsError, match="a job or a disk belongs to no model: take `model` out"):
        parse_policies(text)
    [policy] = parse_policies(text.replace("    model: resunet\n", ""))
    assert policy.model_name == "" and policy.terms.rule.recover == Lasting(time=timedelta(minutes=15))


def test_what_is_left_out_has_a_default() -> None:
    [policy] = parse_policies(TEXT.replace("    for: 2 windows\n", "").replace("{severity: warning}", "{}"))
    assert (policy.model_name, policy.alert.to, policy.terms.severity) == ("resunet", ["default"], "warning")
    assert policy.terms.rule.fire == Lasting(windows=1) and policy.terms.rule.recover == Lasting(windows=2)


def test_the_platform_s_own_policies_make_sense() -> None:
    names = [policy.when.name for policy in load_policies(None)]
    assert set(names) >= {"verdict", "trend", "estimated_dice", "measured_dice", "no_predictions", "job", "disk_free"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.yaml cannot be read: No such file .*--print"):
        load_policies(tmp_path / "gone.yaml")


def test_the_manual_of_retraining_shows_a_policy_that_makes_sense() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs/monitoring/retraining.md").read_text(encoding="utf-8")
    [example] = [block.partition("```")[0] for block in manual.split("```yaml\n")[1:]]
    [policy] = parse_policies(example)
    assert policy.retrain is not None and policy.retrain.max_minutes == 60 and not policy.promotes


def test_what_the_manual_shows_makes_sense_and_names_each_condition() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "monitoring" / "alerts.md").read_text(encoding="utf-8")
    [example] = [block.partition("```")[0] for block in manual.split("```yaml\n")[1:]]
    assert len(parse_policies(example)) == 3
    rows = [line.split("`")[1] for line in manual.splitlines() if line.startswith("| `{")]
    for condition in rows:
        policy = parse_policies(TEXT.replace("{verdict: drift}", condition).replace("    for: 2 windows\n", ""))[0]
        how = next(line for line in manual.splitlines() if line.startswith(f"| `{condition}`"))
        assert how.endswith("| windows |" if policy.when.by_windows else "| time |")
    names = {condition.strip("{").partition(":")[0] for condition in rows}
    assert names == set(Condition.model_fields)

"""What the commands print."""

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    # They load MLflow, which takes seconds that `--help` has not.
    from registry.changes import Change, Status
    from registry.gates import Gate, Judged
    from registry.judgement import Judgement
    from registry.policy import Policy
    from registry.versions import ModelState, VersionRow

_STYLES = {"pass": "green", "fail": "red", "undecided": "yellow", "not_applicable": "dim"}


def make_console() -> Console:
    """A console whose tables are not squeezed to 80 columns where the output is a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def local_actor() -> str:
    """The operating system's user, `unknown` where it has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def say_change(console: Console, change: "Change") -> None:
    """Print verdicts, what moved, and the notices."""
    if change.judged:
        console.print(verdict_table(change.judged))
    if change.changed:
        gone = f"; version {', '.join(change.displaced)} is archived" if change.displaced else ""
        console.print(f"version {change.version} of {change.name} is in {change.stage}{gone}", markup=False)
    say_notices(console, change.notices)


def say_notices(console: Console, notices: Sequence[str]) -> None:
    """Print one sentence a line, unbroken."""
    for notice in notices:
        console.print(notice, style="yellow", markup=False, soft_wrap=True)


def say_judgement(console: Console, judgement: "Judgement") -> None:
    """Print what every gate says, then the answer."""
    console.print(verdict_table(judgement.judged))
    beside = f" beside version {judgement.champion}" if judgement.champion else ""
    what = f"version {judgement.version} of {judgement.model}"
    if judgement.allowed:
        told = f"{what} may go to {judgement.stage}{beside}"
        command = f"python -m registry promote {judgement.model} {judgement.version} {judgement.stage}"
        console.print(f"{told}: {command}", style="green", markup=False, soft_wrap=True)
    else:
        gates = ", ".join(one.gate for one in judgement.blocking)
        told = f"{what} may not go to {judgement.stage}{beside}: {gates}"
        console.print(told, style="red", markup=False, soft_wrap=True)
    console.print(f"policy {judgement.policy_digest}", style="dim", soft_wrap=True)


def verdict_table(judged: "Sequence[Judged]") -> Table:
    """One row a gate; what to do is said of those that did not pass."""
    table = Table("gate", "verdict", "evidence", "what to do")
    for one in judged:
        verdict = one.verdict
        advice = "" if verdict.outcome == "pass" else verdict.advice
        does = {"block": "", "warn": " (warns)", "allow": "" if verdict.outcome == "pass" else " (allowed)"}[one.action]
        outcome = verdict.outcome.replace("_", " ") + does
        table.add_row(one.gate, outcome, escape(verdict.evidence), escape(advice), style=_STYLES[verdict.outcome])
    return table


def say_policy(console: Console, policy: "Policy") -> None:
    """Print the rules of each stage, and the hash that decisions note."""
    for stage, rules in policy.stages.items():
        table = Table("gate", "settings", "fail", "undecided", "not applicable", title=stage)
        for rule in rules:
            said = ", ".join(f"{name} {value}" for name, value in rule.settings.model_dump().items())
            actions = (rule.action(outcome, policy.outcomes) for outcome in ("fail", "undecided", "not_applicable"))
            table.add_row(rule.gate.name, escape(said), *actions)
        console.print(table)
    for role, names in policy.roles.model_dump().items():
        console.print(f"may {role}: {', '.join(names) or 'nobody'}", markup=False)
    console.print(f"policy {policy.digest}", style="dim", soft_wrap=True)


def gates_table(gates: "Sequence[Gate[Any]]") -> Table:
    """One row a gate that a policy can name."""
    table = Table("gate", "asks", "settings", "reads")
    for gate in gates:
        fields = gate.settings.model_fields
        settings = ", ".join(f"{name} ({field.default})" for name, field in fields.items())
        table.add_row(
            gate.name, escape(gate.help.split("\n\n")[0].replace("\n", " ")), settings, ", ".join(sorted(gate.needs))
        )
    return table


def status_table(found: "Status", shown: "ModelState") -> Table:
    """One row a version, the newest first.

    Args:
        shown: the same model with its tags.
    """
    state = found.state
    table = Table("version", "stage", "alias", "dice", "fingerprint", "commit", "created", title=state.name)
    for version in sorted(state.versions, key=int, reverse=True):
        row = state.versions[version]
        aliases = " ".join(sorted(f"@{alias}" for alias, named in state.aliases.items() if named == version))
        table.add_row(version, row.stage, aliases, *_facts(shown.versions.get(version, row)))
    return table


def _facts(row: "VersionRow") -> tuple[str, str, str, str]:
    tags = row.tags
    try:
        dice = f"{float(tags['dice']):.4f}"
    except (KeyError, ValueError):
        dice = "-"
    fingerprint = tags.get("dataset_fingerprint", "-").removeprefix("sha256:")[:12]
    return dice, fingerprint, tags.get("git_commit", "-")[:8], f"{row.created:%Y-%m-%d %H:%M}"

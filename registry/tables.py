"""What the commands print."""

import getpass
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from records.audit import AuditRow
from registry.evidence import Evaluation
from registry.gates import Verdict
from registry.promotion import Change, Status
from registry.versions import VersionRow

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


def say_change(console: Console, change: Change) -> None:
    """Print verdicts, what moved, and the notices."""
    if change.verdicts:
        console.print(verdict_table(change.verdicts))
    if change.changed:
        gone = f"; version {', '.join(change.displaced)} is archived" if change.displaced else ""
        console.print(f"version {change.version} of {change.name} is in {change.stage}{gone}", markup=False)
    say_notices(console, change.notices)


def say_notices(console: Console, notices: Sequence[str]) -> None:
    """Print one sentence a line, unbroken."""
    for notice in notices:
        console.print(notice, style="yellow", markup=False, soft_wrap=True)


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a gate."""
    table = Table("gate", "outcome", "evidence")
    for verdict in verdicts:
        table.add_row(verdict.gate, verdict.outcome, verdict.evidence, style=_STYLES[verdict.outcome])
    return table


def status_table(found: Status) -> Table:
    """One row a version, the newest first."""
    state = found.state
    table = Table("version", "stage", "alias", "dice", "fingerprint", "commit", "created", title=state.name)
    for version in sorted(state.versions, key=int, reverse=True):
        row = state.versions[version]
        aliases = " ".join(sorted(f"@{alias}" for alias, named in state.aliases.items() if named == version))
        table.add_row(version, row.stage, aliases, *_facts(row))
    return table


def show_table(row: VersionRow, evaluation: Evaluation | None) -> Table:
    """What one version is and how it did."""
    table = Table(show_header=False)
    table.add_row("stage", row.stage)
    table.add_row("created", f"{row.created:%Y-%m-%d %H:%M} UTC")
    for key, value in sorted(row.tags.items()):
        table.add_row(key, value)
    if evaluation is not None:
        table.add_row("test images", str(evaluation.images))
        table.add_row("serving file", f"{evaluation.serving_file} ({evaluation.precision})")
        for metric, interval in evaluation.overall.items():
            table.add_row(metric, f"{interval.mean:.4f} \\[{interval.low:.4f}, {interval.high:.4f}]")
        for name, part in evaluation.slices.items():
            dice = part.metrics.get("dice")
            table.add_row(f"dice, {name}", f"{dice.mean:.4f} ({part.images} images)" if dice else "-")
        for name in evaluation.unevaluated_slices:
            table.add_row(f"dice, {name}", "not evaluated")
    return table


def audit_table(rows: Sequence[AuditRow]) -> Table:
    """One row a decision, the oldest first."""
    table = Table("row", "when (UTC)", "actor", "action", "model", "version", "move", "gates", "reason")
    for row in rows:
        gates = " ".join(f"{gate}:{result['outcome']}" for gate, result in row.gates.items())
        table.add_row(
            *(
                str(row.seq),
                f"{row.when:%Y-%m-%d %H:%M:%S}",
                row.actor,
                row.action,
                row.model_name,
                row.version,
            ),
            *(f"{row.from_stage} → {row.to_stage}", gates, row.reason),
        )
    return table


def _facts(row: VersionRow) -> tuple[str, str, str, str]:
    tags = row.tags
    try:
        dice = f"{float(tags['dice']):.4f}"
    except (KeyError, ValueError):
        dice = "-"
    fingerprint = tags.get("dataset_fingerprint", "-").removeprefix("sha256:")[:12]
    return dice, fingerprint, tags.get("git_commit", "-")[:8], f"{row.created:%Y-%m-%d %H:%M}"

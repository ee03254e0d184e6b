"""One version on one screen."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from records.audit import AuditRow
from registry.reports.show import Shown, ShownEvaluation
from registry.reports.stage_verdict import StageVerdict
from registry.reports.words import count, interval, listed, moment, plain, safe, short

# What decides a training, in the order in which a person asks; a run of another kind shows what it has.
_PARAMS: Final = (
    "architecture", "width", "length", "steps_taken", "batch_size", "crop", "learning_rate", "seed",
    "precision_taken", "where", "slices", "stopped",
)  # fmt: skip
_KEY_PINS: Final = ("python", "mlflow", "numpy", "onnxruntime", "openvino", "opencv-python-headless", "pillow")
_SLICES: Final = 6
_DECISIONS: Final = 5
_COLOURS: Final = {"pass": "green", "fail": "red", "undecided": "yellow", "not_applicable": "dim"}


def say_version(console: Console, shown: Shown) -> None:
    """Print a version: a line or two for each thing that one asks of it."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, told in _lines(shown):
        table.add_row(name, told if not isinstance(told, str) else safe(told))
    console.print(table)
    for notice in (*shown.notices, *([shown.problem] if shown.problem else [])):
        console.print(plain(notice), style="yellow", markup=False, soft_wrap=True)


def _lines(shown: Shown) -> Iterator[tuple[str, RenderableType]]:
    aliases = " ".join(f"@{alias}" for alias in shown.aliases)
    stands = f"version {shown.version} of {shown.model}: {shown.stage}{f', {aliases}' if aliases else ''}"
    other = f"; version {shown.live} is live" if shown.live not in ("", shown.version) else ""
    yield "version", safe(f"{stands}{other}; made {moment(shown.created)} UTC", style="bold")
    yield "bytes", shown.digest or "not known: nobody has read its files"
    yield "signature", shown.signature
    yield from _origin(shown)
    yield from _evaluation(shown.evaluation)
    for verdict in shown.verdicts:
        yield f"gates, {verdict.stage}", _verdict(verdict)
    if not shown.verdicts:
        yield "gates", f"nobody has asked them: python -m registry check {shown.model} {shown.version}"
    given = [f"{one.who} for {one.stage}, {moment(one.when)}{_reason(one.reason)}" for one in shown.approvals]
    yield "approvals", "\n".join(given) or "none"
    yield "decisions", _decisions(shown.decisions)
    yield "deployments", _deployments(shown)


def _origin(shown: Shown) -> Iterator[tuple[str, RenderableType]]:
    run = shown.run
    if run is None:
        yield "run", "none"
    else:
        by = f" by {run.user}" if run.user else ""
        began = f", begun {moment(run.started)}" if run.started else ""
        yield "run", f"{run.run_id} ({run.name}){by}{began}, {run.status.lower()}"
        yield "parameters", _params(run.params)
    none = {"": "not known", "none": "none: it started from random weights"}
    yield "parent", none.get(shown.parent, f"version {shown.parent}")
    splits = ", ".join(f"{split} {images}" for split, images in run.splits.items()) if run else ""
    name = f"{run.data}, " if run and run.data else ""
    yield "data", f"{name}{shown.fingerprint or 'fingerprint not known'}{f' ({splits})' if splits else ''}"
    tree = f", working tree {shown.working_tree}" if shown.working_tree else ""
    yield "code", f"commit {shown.commit or 'not known'}{tree}"
    yield "environment", _environment(shown)


def _params(params: Mapping[str, str]) -> str:
    chosen = [name for name in _PARAMS if params.get(name, "") != ""] or sorted(params)[: len(_PARAMS)]
    left = len([name for name in params if name not in chosen])
    told = ", ".join(f"{name} {params[name][:60]}" for name in chosen) or "none"
    return told + (f"; {left} more (--json)" if left else "")


def _environment(shown: Shown) -> str:
    told = [f"precision {shown.precision}"] if shown.precision else []
    told += [f"engine {shown.engine}"] if shown.engine else []
    pins = [pin.split(";")[0].strip() for pin in shown.pins]
    key = [pin for pin in pins if pin.split("=")[0].strip().lower() in _KEY_PINS]
    told += [f"{', '.join(key)}; {count(len(pins), 'pin')}"] if pins else ["pins not measured"]
    return "; ".join(told)


def _evaluation(found: ShownEvaluation | None) -> Iterator[tuple[str, RenderableType]]:
    if found is None:
        yield "evaluation", "none that anybody knows of; --files looks into its files"
        return
    where = {"records": "measured before a stage", "files": "its own", "run": "as its run says"}[found.source]
    split = f", test split {short(found.fingerprint)}" if found.fingerprint else ""
    images = f" on {count(found.images, 'image')}" if found.images else ""
    values = found.overall.items()
    metrics = _items((f"{metric.replace('_', ' ')} {interval(value)}" for metric, value in values), beside=3)
    yield "evaluation", f"{where}{images}{split}; mean [95 % interval]\n{metrics}"
    parts = sorted(found.slices.items(), key=lambda item: -item[1].images)
    told = [f"{name}: dice {interval(part.metrics.get('dice'))}, {part.images}" for name, part in parts[:_SLICES]]
    if len(parts) > _SLICES:
        told.append(f"and {len(parts) - _SLICES} smaller ones (--json)")
    if found.unevaluated_slices:
        told.append(f"not evaluated: {listed(found.unevaluated_slices)}")
    if told:
        yield "slices", _items(told, beside=2)


def _items(told: Iterable[str], beside: int) -> str:
    """Short things, so many beside each other."""
    items = list(told)
    width = max(map(len, items), default=0)
    rows = (items[start : start + beside] for start in range(0, len(items), beside))
    return "\n".join("   ".join(item.ljust(width) for item in row).rstrip() for row in rows)


def _verdict(verdict: StageVerdict) -> Text:
    answer = "allowed" if verdict.allowed else "blocked"
    beside = f"beside {short(verdict.champion_digest)}" if verdict.champion_digest else "with nothing live"
    told = Text()
    told.append(answer, style="green" if verdict.allowed else "red")
    told.append(plain(f", {moment(verdict.when)}, asked by {verdict.asked_by}, {beside}, "))
    told.append(f"policy {short(verdict.policy_digest)}")
    if verdict.void:
        told.append(plain(f"\nvoid: {'; '.join(verdict.void)}"), style="yellow")
    for outcome in ("pass", "not_applicable"):
        names = [str(gate.get("gate")) for gate in verdict.gates if gate.get("outcome") == outcome]
        if names:
            told.append(plain(f"\n{outcome.replace('_', ' ')}: {', '.join(names)}"), style=_COLOURS[outcome])
    for gate in verdict.gates:
        outcome = str(gate.get("outcome"))
        if outcome not in ("pass", "not_applicable"):
            told.append(
                plain(f"\n{outcome}{_does(gate)}: {gate.get('gate')}: {gate.get('evidence')}"),
                style=_COLOURS.get(outcome, ""),
            )
    return told


def _does(gate: Mapping[str, Any]) -> str:
    return {"warn": " (warns)", "allow": " (allowed)"}.get(str(gate.get("action")), "")


def _decisions(rows: Sequence[AuditRow]) -> str:
    if not rows:
        return "none"
    left = len(rows) - _DECISIONS
    told = [f"{left} earlier ones: python -m registry audit {rows[0].model_name} --version {rows[0].version}"]
    told = told if left > 0 else []
    for row in rows[-_DECISIONS:]:
        move = f" {row.from_stage} → {row.to_stage}" if row.to_stage else ""
        first = row.reason.strip().splitlines()[0] if row.reason.strip() else ""
        told.append(f"{moment(row.when)} {row.action}{move} by {row.actor}{_reason(first)}")
    return "\n".join(told)


def _deployments(shown: Shown) -> str:
    activity = shown.activity
    if not activity.known:
        return "not known: RESUNET_INFERENCE_LOG names no log"
    own = [one for one in activity.versions if one.model_version == shown.version]
    others = [f"version {one.model_version} {one.rows:,}" for one in activity.versions if one not in own]
    told = [f"{count(one.rows, 'answer')} in 24 h, {one.refused:,} refused, {short(one.model_digest)}" for one in own]
    told = told or ["it answered nothing in the last 24 h"]
    return "\n".join([*told, *([f"others: {listed(others)}"] if others else [])])


def _reason(text: str) -> str:
    return f": {text}" if text else ""

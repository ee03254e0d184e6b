"""Release notes of a model from what was decided on it: which version went live when, by whom, why, and what changed.

Path("CHANGELOG.md").write_text(changelog(client, reader, "resunet", since="3"))
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mlflow import MlflowClient

from records.audit import AuditRow, Wanted
from registry.evidence import Evaluation
from registry.history import ARCHIVED, DELETED, DISPLACED, OBSERVED, OVERRIDDEN, REFUSED, RENAMED, ROLLED_BACK, happened
from registry.reports.audit import verdicts_of
from registry.reports.differences import settings_differing
from registry.reports.paired import Paired, pair
from registry.reports.reader import Reader
from registry.reports.run_facts import RunFacts, read_run
from registry.reports.show import evaluations, find_lineage
from registry.reports.words import count, difference, interval, moment, plain, short
from registry.versions import VersionRow, read_model
from resunet.errors import SettingsError

# Parameters that name a place or follow from others say nothing of what changed.
_TELLING: Final = (
    "architecture", "width", "epochs", "max_steps", "max_minutes", "crop", "batch_size", "seed", "learning_rate",
    "weight_decay", "clip_norm", "ema_decay", "keep", "precision_taken", "where", "slices", "parent", "steps_taken",
)  # fmt: skip
# How much the clocks of the registry and of who decides may differ.
_CLOCKS: Final = timedelta(minutes=1)
# The number in rows that are on a model with all its versions.
WHOLE_MODEL: Final = "*"
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~!])")


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    Attributes:
        row: the decision.
        before: the row by which the version went live that was live until then; None where nothing was.
    """

    row: AuditRow
    before: AuditRow | None


@dataclass(frozen=True)
class _Version:
    """What is known of the bytes that went live."""

    evaluations: Sequence[Evaluation]
    run: RunFacts | None
    fingerprint: str


VersionOf = Callable[[AuditRow], _Version]


def changelog(client: MlflowClient, reader: Reader, name: str, since: str = "") -> str:
    """Release notes as Markdown, the newest first.

    Args:
        since: a version; only what happened after it last went live is told.

    Raises:
        SettingsError: there is no such model, or that version never went live.
        RecordsError: the records cannot be read.
    """
    state = read_model(client, name)
    entries = _since(_entries(reader.rows(Wanted(model_name=name))), since, name)
    known: dict[tuple[str, str], _Version] = {}

    def version_of(row: AuditRow) -> _Version:
        key = (row.version, row.digest or "")
        if key not in known:
            known[key] = _look_up(client, reader, state.versions.get(row.version), row)
        return known[key]

    told = [line for entry in reversed(entries) for line in _section(entry, version_of)]
    if not told:
        told = [
            "Nothing was decided yet." if not since else f"Nothing was decided since version {since} went live.",
            "",
        ]
    after = f" since version {since}" if since else ""
    return "\n".join([f"# Release notes of {escaped(name)}{after}", "", *told]).rstrip() + "\n"


def _entries(rows: Sequence[AuditRow]) -> list[Entry]:
    """What is told, the oldest first: what went live or was taken out, and what was refused Production."""
    moved = {row.seq for row in happened(rows)}
    found, live = [], None
    for row in rows:
        if row.action == REFUSED and row.to_stage == "Production" and verdicts_of(row):
            found.append(Entry(row, live))
        elif row.action in (DELETED, RENAMED) and row.version == WHOLE_MODEL:
            found.append(Entry(row, None))
            live = None
        elif row.seq in moved and row.to_stage == "Production":
            found.append(Entry(row, live))
            live = row
        elif row.seq in moved and row.from_stage == "Production" and row.action in (ARCHIVED, OBSERVED):
            found.append(Entry(row, live))
            live = None if live is not None and live.version == row.version else live
    return found


def _since(entries: Sequence[Entry], since: str, name: str) -> list[Entry]:
    if not since:
        return list(entries)
    number = str(int(since)) if since.strip().isdecimal() else since
    places = [place for place, entry in enumerate(entries) if went_live(entry.row) and entry.row.version == number]
    if not places:
        live = sorted({entry.row.version for entry in entries if went_live(entry.row)}, key=int)
        there = ", ".join(live) or "none yet"
        raise SettingsError(f"--since: version {since} of {name} never went live; those that did: {there}")
    return list(entries[places[-1] + 1 :])


def went_live(row: AuditRow) -> bool:
    """Whether a row put its version into Production."""
    return row.to_stage == "Production" and row.action not in (REFUSED, DISPLACED)


def _look_up(client: MlflowClient, reader: Reader, row: VersionRow | None, decision: AuditRow) -> _Version:
    """By digest what was measured, by number what its run noted; a number that was deleted has no run any more."""
    measured = reader.measured(decision.digest) if decision.digest else []
    lineage = find_lineage(measured)
    # One that was made after the decision is another version that has its number.
    same = row is not None and row.created <= decision.when + _CLOCKS
    run = read_run(client, row.run_id) if row is not None and same else None
    claimed = row.tags.get("dataset_fingerprint", "") if row is not None and same else ""
    return _Version(evaluations(measured), run, (lineage.data_set if lineage else "") or claimed)


def _section(entry: Entry, version_of: VersionOf) -> Iterator[str]:
    row = entry.row
    yield f"## {_title(entry)}"
    yield ""
    noticed = "noticed by" if row.action == OBSERVED else "by"
    yield f"{moment(row.when)} UTC, {noticed} {escaped(row.actor)}{_why(row)}"
    yield ""
    if row.action == REFUSED:
        lines = _blocking(row)
    elif row.action == OVERRIDDEN:
        lines = ["**Gates were overridden:**", "", *_blocking(row), "", *_changes(entry, version_of)]
    elif went_live(row) and row.action != ROLLED_BACK:
        lines = _changes(entry, version_of)
    else:
        lines = []
    yield from lines
    if lines:
        yield ""


def _title(entry: Entry) -> str:
    row, before = entry.row, entry.before
    version = f"Version {escaped(row.version)}"
    if row.action == REFUSED:
        return f"{version} was refused"
    if row.version == WHOLE_MODEL:
        return "The model was deleted" if row.action == DELETED else "The model got another name"
    if not went_live(row):
        return f"{version} was taken out of Production"
    instead = f", in place of version {escaped(before.version)}" if before and before.version != row.version else ""
    if row.action == ROLLED_BACK:
        return f"Rolled back to version {escaped(row.version)}{instead}"
    if row.action == OBSERVED:
        return f"{version} was found live, put there by no command{instead}"
    return f"{version} went live{instead}"


def _why(row: AuditRow) -> str:
    if row.action == OBSERVED or not row.reason.strip():
        return ""
    return f": {escaped(row.reason)}"


def _blocking(row: AuditRow) -> list[str]:
    verdicts = verdicts_of(row)
    blocked = {gate: said for gate, said in verdicts.items() if said.get("action", "block") == "block"}
    return [
        f"- {escaped(gate)}: {escaped(str(said['outcome']))}: {escaped(str(said.get('evidence', '')))}"
        for gate, said in blocked.items()
        if said["outcome"] != "pass"
    ]


def _changes(entry: Entry, version_of: VersionOf) -> list[str]:
    """How good the version is, and what is other than in the one before."""
    new = version_of(entry.row)
    lines = _own_dice(new)
    if entry.before is None or entry.before.version == entry.row.version:
        return lines
    old, number = version_of(entry.before), escaped(entry.before.version)
    paired = pair(old.evaluations, new.evaluations)
    if paired is not None and paired.images:
        lines += _paired(paired, number)
    elif (said := verdicts_of(entry.row).get("champion")) and said.get("evidence"):
        lines.append(f"- beside version {number}: {escaped(str(said['evidence']))}")
    else:
        lines.append(f"- not compared with version {number}: they were tested on no image in common that is known")
    return [*lines, *_data(old, new, number), *_settings(old.run, new.run, number)]


def _own_dice(version: _Version) -> list[str]:
    if version.evaluations:
        own = version.evaluations[0]
        return [f"- Dice {interval(own.overall['dice'])} on {count(own.images, 'test image')}"]
    if version.run is not None and "dice" in version.run.overall:
        return [f"- Dice {interval(version.run.overall['dice'])}, as its run says"]
    return ["- nobody knows how good it is: neither the records nor a run say so"]


def _paired(paired: Paired, number: str) -> list[str]:
    row = paired.metrics["dice"]
    lines = [f"- against version {number} on the same {count(row.images, 'image')}: Dice {difference(row.difference)}"]
    for name, part in paired.slices.items():
        if part.difference is not None and part.difference.high < 0:
            told = f"{escaped(name)}, {count(part.images, 'image')}: {difference(part.difference)}"
            lines.append(f"- worse than version {number} on the slice {told}")
    return lines


def _data(old: _Version, new: _Version, number: str) -> list[str]:
    if not old.fingerprint or not new.fingerprint:
        return ["- data: not known of both"]
    if old.fingerprint == new.fingerprint:
        return [f"- data: as version {number} ({short(new.fingerprint)})"]
    before, after = (version.run.splits if version.run else {} for version in (old, new))
    splits = [f"{escaped(split)} {before.get(split, 0)} → {images}" for split, images in after.items()]
    told = f": images {', '.join(splits)}" if splits else ""
    return [f"- data: {short(old.fingerprint)} → {short(new.fingerprint)}{told}"]


def _settings(old: RunFacts | None, new: RunFacts | None, number: str) -> list[str]:
    if old is None or new is None:
        return ["- settings: not known of both"]
    differing = settings_differing(_told(old.params), _told(new.params))
    if not differing:
        return [f"- settings: as version {number}"]
    told = (f"`{one.name}` {escaped(one.first) or '–'} → {escaped(one.second) or '–'}" for one in differing)
    return [f"- settings: {', '.join(told)}"]


def _told(params: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in params.items() if name in _TELLING}


def escaped(text: str) -> str:
    """Somebody's text on one line, in which Markdown finds neither markup nor HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(plain(text).split()))

"""The audit as a table for people and as files for programs.

parse_moment("2026-11-01"), parse_moment("7d")
write_csv(rows, stream)
write_json(rows, stream)
"""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TextIO

from rich.table import Table

from records.audit import AuditRow, Head
from registry.reports.words import moment, safe
from resunet.errors import SettingsError

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
# What begins a formula in a spreadsheet: Excel, LibreOffice and Google Sheets, full-width forms included.
_FORMULA: Final = frozenset("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n")


def parse_head(text: str) -> Head:
    """A row of the chain that was noted elsewhere, as SEQ:HASH.

    Raises:
        SettingsError: it is not of that form.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,8}):([0-9a-f]{64})", text.strip())
    if found is None:
        raise SettingsError(f"--noted: {text!r} is not SEQ:HASH as `python -m registry audit verify` prints it")
    return Head(int(found[1]), found[2])


def parse_moment(text: str, option: str, now: datetime, ends: bool = False) -> datetime | None:
    """A moment as somebody types it: an ISO 8601 date or time, UTC where it has no zone, or how long ago, as in `7d`.

    Args:
        option: that it was given to, for the message.
        now: aware.
        ends: a mere date means the end of that day, not its beginning.

    Returns:
        the aware moment; None for an empty text.

    Raises:
        SettingsError: it is none of these.
    """
    text = text.strip()
    if not text:
        return None
    try:
        if ago := re.fullmatch(r"([0-9]{1,6})([mhd])", text.lower()):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        return found + timedelta(days=1) if ends and _DAY.fullmatch(text) else found
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{option}: {text!r} is no moment: write 2026-11-01, 2026-11-01T12:00, or how long ago, such as 36h or 7d"
        ) from None


def audit_table(rows: Sequence[AuditRow]) -> Table:
    """One row a decision, the oldest first."""
    table = Table("row", "when (UTC)", "actor", "action", "model", "version", "move", "gates", "reason")
    for row in rows:
        gates = " ".join(f"{gate}:{result['outcome']}" for gate, result in verdicts_of(row).items())
        told = [str(row.seq), moment(row.when), row.actor, row.action, row.model_name, row.version]
        told += [f"{row.from_stage} → {row.to_stage}", gates, row.reason]
        table.add_row(*(safe(text) for text in told))
    return table


def verdicts_of(row: AuditRow) -> Mapping[str, Any]:
    """What the gates said; an older release kept nothing else there."""
    verdicts = row.gates.get("verdicts", row.gates)
    if not isinstance(verdicts, dict):
        return {}
    return {gate: said for gate, said in verdicts.items() if isinstance(said, dict) and "outcome" in said}


def write_csv(rows: Sequence[AuditRow], stream: TextIO) -> None:
    """Write all fields of the rows as CSV (RFC 4180), `gates` as JSON.

    Texts come from whoever made a decision. One that a spreadsheet would take for a formula gets an apostrophe before
    it, which spreadsheets hide and treat as the mark of a text.
    """
    names = [field.name for field in fields(AuditRow)]
    writer = csv.writer(stream)
    writer.writerow(names)
    for row in rows:
        values = asdict(row) | {"when": row.when.isoformat(), "gates": json.dumps(_finite(row.gates), sort_keys=True)}
        writer.writerow(_cell(values[name]) for name in names)


def write_json(rows: Sequence[AuditRow], stream: TextIO) -> None:
    """Write all fields of the rows as one JSON array, a row a line."""
    stream.write("[")
    for place, row in enumerate(rows):
        values = asdict(row) | {"when": row.when.isoformat()}
        stream.write(",\n" if place else "\n")
        stream.write(json.dumps(_finite(values), ensure_ascii=False, allow_nan=False))
    stream.write("\n]\n")


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return "" if value is None else value
    risky = value[:1] in _FORMULA or value.lstrip()[:1] in _FORMULA
    return f"'{value}" if value and risky else value


def _finite(value: Any) -> Any:
    """The same with `inf` and `nan`, which JSON has no word for, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value

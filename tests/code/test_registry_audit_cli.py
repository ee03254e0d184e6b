"""`python -m registry audit`: which rows it lists, what it exports, and what it says of a chain that was changed."""

import csv
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from records_rows import NOON, decide
from sqlalchemy import Engine

from records import audit
from records.audit import Wanted
from records.console import run
from records.database import open_database
from registry.cli import app
from registry.reports.audit import audit_table, parse_head, parse_moment, write_csv, write_json
from resunet.errors import SettingsError

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(f"sqlite:///{tmp_path / 'records.db'}")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command of `python -m registry`: exit code, output, errors."""
    for name, value in {
        "RESUNET_HOME": str(tmp_path),
        "RESUNET_DATABASE": "",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }.items():
        monkeypatch.setenv(name, value)

    def type_in(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["registry", *words])
        with pytest.raises(SystemExit) as ended:
            run(app)
        return int(ended.value.code or 0), *capsys.readouterr()

    return type_in


@pytest.fixture
def decided(engine: Engine) -> Engine:
    decide(engine, "one")
    decide(engine, "two", version="4", action="refuse", actor="grace", when=NOON + timedelta(hours=1))
    decide(engine, "three", model_name="other", when=NOON + timedelta(days=1))
    decide(engine, "four", version="5", action="rollback", when=NOON + timedelta(days=2))
    return engine


@pytest.mark.parametrize(
    ("wanted", "reasons"),
    [
        (Wanted(), ["one", "two", "three", "four"]),
        (Wanted(model_name="resunet"), ["one", "two", "four"]),
        (Wanted(version="3"), ["one", "three"]),
        (Wanted(actor="grace"), ["two"]),
        (Wanted(action="rollback"), ["four"]),
        (Wanted(since=NOON + timedelta(hours=1)), ["two", "three", "four"]),
        (Wanted(until=NOON + timedelta(hours=1)), ["one"]),
        (Wanted(model_name="resunet", actor="ada", since=NOON + timedelta(seconds=1)), ["four"]),
        (Wanted(actor="ad"), []),
    ],
)
def test_rows_are_chosen_by_model_version_actor_action_and_time(
    decided: Engine, wanted: Wanted, reasons: list[str]
) -> None:
    assert [row.reason for row in audit.find(decided, wanted)] == reasons


def test_a_limit_takes_the_oldest_the_newest_or_those_behind_a_row(decided: Engine) -> None:
    assert [row.seq for row in audit.find(decided, Wanted(), 2)] == [1, 2]
    assert [row.seq for row in audit.find(decided, Wanted(), 2, after=2)] == [3, 4]
    assert [row.seq for row in audit.find(decided, Wanted(), 2, newest=True)] == [3, 4]


def test_audit_alone_lists_and_options_choose(decided: Engine, typed: Typed) -> None:
    for words in ((), ("list",), ("resunet",), ("--version", "03"), ("list", "resunet", "--since", "2026-03-01")):
        code, listed, _ = typed("audit", *words)
        assert (code, "one" in listed) == (0, True), words
    _, listed, _ = typed("audit", "resunet", "--action", "refuse", "--actor", "grace", "--until", "2026-03-01")
    assert "two" in listed
    assert not any(other in listed for other in ("one", "three", "four"))


def test_a_long_list_shows_the_newest_and_says_so(decided: Engine, typed: Typed) -> None:
    _, listed, _ = typed("audit", "--last", "2")
    assert "four" in listed and "three" in listed and "two" not in listed
    assert "--last 0 shows all" in listed
    _, listed, _ = typed("audit", "--last", "4")
    assert "one" in listed and "--last 0" not in listed
    _, listed, _ = typed("audit", "--last", "0")
    assert "one" in listed


def test_an_export_holds_every_field_of_the_rows(decided: Engine, typed: Typed, tmp_path: Path) -> None:
    table, whole = tmp_path / "rows.csv", tmp_path / "rows.json"
    code, listed, _ = typed("audit", "resunet", "--csv", str(table), "--json", str(whole))
    assert (code, listed) == (0, "")
    rows = json.loads(whole.read_text(encoding="utf-8"))
    with table.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    for row, line, stored in zip(rows, lines, audit.history(decided, "resunet"), strict=True):
        # What was exported is enough to work out the row's hash again.
        again = audit.AuditRow(**row | {"when": datetime.fromisoformat(row["when"])})
        assert again == stored
        assert again.content_hash() == row["row_hash"]
        assert {name: str(value) for name, value in row.items() if name != "gates"} == {
            name: value for name, value in line.items() if name != "gates"
        }
        assert json.loads(line["gates"]) == row["gates"]


def test_an_export_goes_to_the_output_with_nothing_else(decided: Engine, typed: Typed) -> None:
    _, written, _ = typed("audit", "--json", "-")
    assert [row["seq"] for row in json.loads(written)] == [1, 2, 3, 4]
    _, written, _ = typed("audit", "--csv", "-", "--last", "1")
    assert [row["seq"] for row in csv.DictReader(io.StringIO(written))] == ["4"]
    code, _, said = typed("audit", "--csv", "-", "--json", "-")
    assert (code, "only one of them" in said) == (2, True)


def test_an_export_that_cannot_be_written_says_so(decided: Engine, typed: Typed, tmp_path: Path) -> None:
    code, _, said = typed("audit", "--csv", str(tmp_path / "nowhere" / "rows.csv"))
    assert (code, "cannot be written" in said) == (2, True)


@pytest.mark.parametrize(
    "reason",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", "\r=1", "  =1+1", "\n=1", "\uff1d1+1", '=HYPERLINK("http://x","y")'],
)
def test_no_cell_begins_a_formula(engine: Engine, reason: str) -> None:
    stream = io.StringIO(newline="")
    write_csv([decide(engine, reason, actor=reason)], stream)
    (row,) = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
    assert (row["reason"], row["actor"]) == (f"'{reason}", f"'{reason}")


def test_ordinary_text_is_exported_as_it_is(engine: Engine) -> None:
    stream = io.StringIO(newline="")
    write_csv([decide(engine, 'it said "no", 3 = 3\nreally', from_stage=None)], stream)
    (row,) = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
    assert (row["reason"], row["from_stage"]) == ('it said "no", 3 = 3\nreally', "")


def test_numbers_that_json_has_no_word_for_are_exported_as_text(engine: Engine) -> None:
    stream = io.StringIO()
    write_json([decide(engine, gates={"low": float("-inf"), "list": [float("nan")]})], stream)
    (row,) = json.loads(stream.getvalue(), parse_constant=lambda word: pytest.fail(word))
    assert row["gates"] == {"low": "-inf", "list": ["nan"]}


def test_no_rows_are_an_empty_list() -> None:
    stream = io.StringIO()
    write_json([], stream)
    assert json.loads(stream.getvalue()) == []


def test_a_reason_can_neither_style_nor_command_a_terminal(engine: Engine, typed: Typed) -> None:
    decide(engine, "[red]loud[/red] [/nonsense] \x1b[2Jwiped \u202egnp", actor="\x1b]0;title\x07eve")
    code, listed, _ = typed("audit")
    assert code == 0
    assert "[red]loud[/red]" in listed and "[/nonsense]" in listed
    assert not any(letter in listed for letter in "\x1b\x07\u202e")
    assert audit_table([]).row_count == 0


def test_moments_are_dates_times_and_ages() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert parse_moment("", "--since", now) is None
    assert parse_moment("2026-11-01", "--since", now) == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_moment("2026-11-01", "--until", now, ends=True) == datetime(2026, 11, 2, tzinfo=UTC)
    assert parse_moment("2026-11-01T10:00", "--until", now, ends=True) == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert parse_moment("2026-11-01T10:00+02:00", "--since", now) == datetime(2026, 11, 1, 8, tzinfo=UTC)
    assert parse_moment("36h", "--since", now) == now - timedelta(hours=36)


@pytest.mark.parametrize("text", ["yesterday", "36x", "2026-13-01", "999999d", "9999-12-31"])
def test_what_is_no_moment_is_refused_by_the_options_name(text: str) -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    with pytest.raises(SettingsError, match=r"--until: .*write 2026-11-01"):
        parse_moment(text, "--until", now, ends=True)


def test_verify_tells_the_end_of_a_chain_that_holds_and_compares_a_noted_one(decided: Engine, typed: Typed) -> None:
    head = audit.head(decided)
    assert head is not None
    code, told, _ = typed("audit", "verify")
    assert (code, f"holds: 4 rows, the last is 4:{head.row_hash}" in told) == (0, True)
    assert typed("audit", "verify", "--noted", f"4:{head.row_hash}")[0] == 0
    code, _, said = typed("audit", "verify", "--noted", f"2:{'0' * 64}")
    assert (code, "broken at row 2: it is not the row that" in said) == (2, True)
    code, _, said = typed("audit", "verify", "--noted", "two")
    assert (code, "SEQ:HASH as `python -m registry audit verify` prints it" in said) == (2, True)
    assert parse_head(f" 4:{head.row_hash}\n") == head


TAMPERED = {
    "changed": ("UPDATE audit SET actor = 'eve' WHERE seq = 2", "broken at row 2: its content was changed"),
    "removed": ("DELETE FROM audit WHERE seq = 3", "broken at row 3: it was removed"),
    "reordered": (
        "UPDATE audit SET seq = CASE seq WHEN 2 THEN -3 ELSE -2 END WHERE seq IN (2, 3); "
        "UPDATE audit SET seq = -seq WHERE seq < 0",
        "broken at row 2",
    ),
}


@pytest.mark.parametrize(("statements", "told"), TAMPERED.values(), ids=TAMPERED.keys())
def test_verify_ends_with_2_where_a_row_was_changed_removed_or_reordered(
    decided: Engine, typed: Typed, statements: str, told: str
) -> None:
    with decided.begin() as connection:
        for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements.split("; "):
            connection.exec_driver_sql(statement)
    code, _, said = typed("audit", "verify")
    assert (code, told in said) == (2, True), said


def test_reading_the_audit_makes_no_database_of_mlflow(decided: Engine, typed: Typed, tmp_path: Path) -> None:
    assert typed("audit")[0] == 0
    assert typed("audit", "verify")[0] == 0
    assert not (tmp_path / "mlflow.db").exists()

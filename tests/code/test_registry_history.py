from dataclasses import dataclass

import pytest

from registry.history import gated_digest, once_live, recorded_stages, unknown_past


@dataclass(frozen=True)
class Row:
    action: str
    version: str
    from_stage: str | None
    to_stage: str | None
    digest: str | None = None


def up(version: str, old: str | None = None, prior: str = "None") -> list[Row]:
    gone = [Row("displace", old, "Production", "Archived")] if old else []
    return [*gone, Row("promote", version, prior, "Production", f"sha256:{version}")]


def back(new: str, old: str) -> list[Row]:
    return [Row("rollback", old, "Production", "Archived"), Row("rollback", new, "Archived", "Production")]


def undone(rows: list[Row]) -> list[Row]:
    """What the next command writes after one that was killed between its rows and its move."""
    return [*rows, *(Row("observed", row.version, row.to_stage, row.from_stage) for row in rows)]


@pytest.mark.parametrize(
    ("rows", "live"),
    [
        ([], []),
        ([*up("1"), *up("2", "1")], ["1", "2"]),
        ([*up("1"), *up("2", "1"), *back("1", "2")], ["1"]),
        ([*up("1"), *up("2", "1"), *back("1", "2"), *up("3", "1")], ["1", "3"]),
        ([*up("1"), *up("2", "1"), *back("1", "2"), *up("2", "1")], ["1", "2"]),
        ([*up("1"), *up("2", "1"), *up("1", "2")], ["2", "1"]),
        ([*up("1"), Row("refuse", "2", "None", "Production")], ["1"]),
        ([Row("archive", "1", "Staging", "Archived"), *up("2")], ["2"]),
        ([Row("observed", "1", "None", "Production"), *up("2", "1")], ["1", "2"]),
        ([*up("1"), Row("observed", "1", "Production", "Archived")], ["1"]),
        ([*up("1"), *up("2", "1"), Row("observed", "2", "Production", "None")], ["1"]),
        ([*up("1"), *undone(up("2", "1", prior="Archived"))], ["1"]),
        ([*up("1"), *up("2", "1"), *back("1", "2"), *undone(up("2", "1", prior="Archived"))], ["1"]),
        ([*up("1"), *up("2", "1"), *undone(back("1", "2"))], ["1", "2"]),
        ([*up("1"), *up("2", "1"), *undone([Row("archive", "2", "Production", "Archived")])], ["1", "2"]),
        (
            [
                *up("1", prior="Archived"),
                Row("refuse", "2", "None", "Production"),
                Row("observed", "1", "Production", "Archived"),
            ],
            ["1"],
        ),
        (
            [
                *up("1"),
                *up("2", "1"),
                Row("promote", "1", "Archived", "Staging"),
                *undone([Row("displace", "1", "Staging", "Archived"), Row("promote", "3", "None", "Staging")]),
            ],
            ["1", "2"],
        ),
        ([*up("1"), *up("2", "1"), Row("archive", "2", "Production", "Archived")], ["1"]),
        ([*up("1"), *up("2", "1"), *up("3", "2"), Row("archive", "2", "Staging", "Archived")], ["1", "3"]),
        ([*up("1"), Row("archive", "1", "Production", "Archived"), *up("1", prior="Archived")], ["1"]),
    ],
    ids=[
        *(
            "nothing",
            "two",
            "rolled back",
            "next after a rollback",
            "promoted again",
            "first again",
            "refused",
        ),
        *("only staged", "clicked", "archived by a click", "decided but never moved"),
        *("killed over an archived one", "killed over one that was rolled back from", "killed rollback"),
        *(
            "killed archive",
            "archived by a click later",
            "killed over Staging",
            "archived as bad",
            "staged again and archived",
        ),
        "promoted after it was archived",
    ],
)
def test_once_live(rows: list[Row], live: list[str]) -> None:
    assert once_live(rows) == live


def test_a_refusal_records_no_stage() -> None:
    rows = [Row("promote", "1", "None", "Staging"), Row("refuse", "1", "Staging", "Production")]
    assert recorded_stages(rows) == {"1": "Staging"}


def test_the_past_is_unknown_only_where_no_command_moved_the_version() -> None:
    rows = [Row("archive", "1", "Staging", "Archived"), Row("observed", "2", "None", "Archived")]
    assert unknown_past(rows, ["1", "2", "3"]) == ["2", "3"]


def test_the_digest_that_passed_the_gates_is_the_last_one_of_production() -> None:
    rows = [Row("promote", "1", "None", "Staging", "sha256:0"), *up("1"), *up("2", "1"), *back("1", "2")]
    assert gated_digest(rows, "1") == "sha256:1"
    assert gated_digest(rows, "3") is None

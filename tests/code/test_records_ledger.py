"""What decisions rest on: measurements, approvals, verdicts and identities, on both databases."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from records_rows import NOON, decide
from sqlalchemy import Engine, func, select

from records import audit, evidence, identities, ledger, verdicts
from records.approvals import Approval, approvals, approve
from records.database import open_database
from records.evidence import Measured
from records.identities import Registration
from records.verdicts import Kept
from resunet.errors import RecordsError

HOUR = timedelta(hours=1)
SEVENTH = Registration("resunet", "7", 1_770_000_000_000, "mlflow-artifacts:/1/models/m-1/artifacts")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def measured(content: str, **changes: Any) -> Measured:
    fields: dict[str, Any] = {
        "version_digest": "sha256:a",
        "kind": "scores",
        "content": content,
        "measured_by": "ada",
        "measured_at": NOON,
        "fingerprint": "sha256:test",
    }
    return Measured(**fields | changes)


def verdict(**changes: Any) -> Kept:
    fields: dict[str, Any] = {
        "model_name": "resunet",
        "version": "7",
        "version_digest": "sha256:a",
        "stage": "Production",
        "champion_digest": "sha256:b",
        "policy_digest": "sha256:p",
        "fingerprint": "sha256:test",
        "allowed": False,
        "gates": [{"gate": "floor", "outcome": "fail", "evidence": "0.61 < 0.7 \0 \ud800 é"}],
        "asked_by": "ada",
        "when": NOON,
    }
    return Kept(**fields | changes)


def count(engine: Engine, table: Any) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def contents(found: dict[str, Measured]) -> dict[str, str]:
    return {kind: row.content for kind, row in found.items()}


def test_a_measurement_comes_back_as_it_was_kept(engine: Engine) -> None:
    kept = measured("{}", champion_digest="sha256:b", measured_at=datetime.fromisoformat("2026-03-01T17:00:00.5+05:00"))
    evidence.keep(engine, kept)
    assert evidence.find(engine, "sha256:a", "sha256:test", "sha256:b") == {"scores": kept}


def test_a_measurement_holds_for_its_bytes_its_test_split_and_the_version_beside_it(engine: Engine) -> None:
    evidence.keep(engine, measured("scores"))
    evidence.keep(engine, measured("parity", kind="parity", fingerprint=""))
    evidence.keep(engine, measured("latency", kind="latency", fingerprint="", champion_digest="sha256:b"))
    everywhere, on_images, beside = {"parity": "parity"}, {"scores": "scores"}, {"latency": "latency"}

    def found(*of: str) -> dict[str, str]:
        return contents(evidence.find(engine, *of))

    assert found("sha256:a", "sha256:test", "sha256:b") == everywhere | on_images | beside
    assert found("sha256:a", "sha256:test") == everywhere | on_images
    assert found("sha256:a", "sha256:test", "sha256:c") == everywhere | on_images
    assert found("sha256:a", "sha256:grown", "sha256:b") == everywhere | beside
    assert found("sha256:a") == everywhere
    assert found("sha256:other", "sha256:test", "sha256:b") == {}


def test_of_two_measurements_the_more_specific_one_is_found(engine: Engine) -> None:
    for fingerprint in ("sha256:test", ""):
        for champion in ("sha256:b", ""):
            content = f"{fingerprint} {champion}"
            evidence.keep(engine, measured(content, fingerprint=fingerprint, champion_digest=champion))
    assert contents(evidence.find(engine, "sha256:a", "sha256:test", "sha256:b")) == {"scores": "sha256:test sha256:b"}
    assert contents(evidence.find(engine, "sha256:a", "sha256:test")) == {"scores": "sha256:test "}
    assert contents(evidence.find(engine, "sha256:a", "", "sha256:b")) == {"scores": " sha256:b"}


def test_a_later_measurement_of_the_same_replaces_it_whole(engine: Engine) -> None:
    evidence.keep(engine, measured("first"))
    evidence.keep(engine, measured("other images", fingerprint="sha256:other"))
    later = measured("second", measured_by="grace", measured_at=NOON + HOUR)
    evidence.keep(engine, later)
    assert evidence.find(engine, "sha256:a", "sha256:test") == {"scores": later}
    assert count(engine, ledger.evidence) == 2


def test_measurements_kept_at_once_leave_one_and_none_fails(engine: Engine) -> None:
    def keep(number: int) -> None:
        evidence.keep(engine, measured(f"content {number}", measured_by=f"by {number}"))

    _at_once(keep)
    (kept,) = evidence.of_bytes(engine, "sha256:a")
    assert kept.content.split()[1] == kept.measured_by.split()[1]


def test_uses_of_a_test_split_are_counted_by_version(engine: Engine) -> None:
    for digest in ("sha256:a", "sha256:b", "sha256:a"):
        evidence.keep(engine, measured("{}", version_digest=digest))
    evidence.keep(engine, measured("{}", version_digest="sha256:a", champion_digest="sha256:b"))
    evidence.keep(engine, measured("{}", version_digest="sha256:c", kind="robustness"))
    evidence.keep(engine, measured("{}", version_digest="sha256:d", fingerprint="sha256:other"))
    assert evidence.uses(engine, "sha256:test", "scores") == 2
    assert evidence.uses(engine, "sha256:never", "scores") == 0


def test_approvals_are_bound_to_bytes_and_stage_the_first_one_first(engine: Engine) -> None:
    ada, bob = Approval("ada", NOON + HOUR, "looked at the worst twenty"), Approval("bob", NOON, "")
    approve(engine, "sha256:a", "Production", ada)
    approve(engine, "sha256:a", "Production", bob)
    assert approvals(engine, "sha256:a", "Production") == [bob, ada]
    assert approvals(engine, "sha256:a", "Staging") == approvals(engine, "sha256:b", "Production") == []


def test_who_approves_again_is_counted_once_with_the_later_words(engine: Engine) -> None:
    again = Approval("ada", NOON + HOUR, "and again")
    for approval in (Approval("ada", NOON, "fine"), again):
        approve(engine, "sha256:a", "Production", approval)
    assert approvals(engine, "sha256:a", "Production") == [again]
    _at_once(lambda number: approve(engine, "sha256:a", "Production", Approval("ada", NOON, str(number))))
    assert len(approvals(engine, "sha256:a", "Production")) == 1


def test_the_last_verdict_of_a_version_before_a_stage_is_found_as_it_was(engine: Engine) -> None:
    last = verdict(allowed=True, when=NOON - HOUR)
    for kept in (verdict(), last, verdict(stage="Staging"), verdict(version="8"), verdict(model_name="other")):
        verdicts.keep(engine, kept)
    assert verdicts.latest(engine, "resunet", "7", "Production") == last
    assert verdicts.latest(engine, "resunet", "9", "Production") is None
    assert count(engine, ledger.verdicts) == 5


def test_a_registration_has_the_digest_that_was_noted_last(engine: Engine) -> None:
    assert identities.digest_of(engine, SEVENTH) is None
    for digest in ("sha256:a", "sha256:b"):
        identities.note(engine, SEVENTH, digest)
        assert identities.digest_of(engine, SEVENTH) == digest
    assert count(engine, ledger.identities) == 1


@pytest.mark.parametrize("field", ["model_name", "version", "created_ms", "source"])
def test_a_number_that_was_given_again_is_another_registration(engine: Engine, field: str) -> None:
    identities.note(engine, SEVENTH, "sha256:a")
    given: Any = SEVENTH.created_ms + 1 if field == "created_ms" else "other"
    other = Registration(**{**vars(SEVENTH), field: given})
    assert identities.digest_of(engine, other) is None
    identities.note(engine, other, "sha256:b")
    assert identities.digest_of(engine, SEVENTH) == "sha256:a"


def test_registrations_noted_at_once_leave_one_and_none_fails(engine: Engine) -> None:
    _at_once(lambda number: identities.note(engine, SEVENTH, f"sha256:{number}"))
    assert count(engine, ledger.identities) == 1


def test_what_is_noted_already_is_noted_again_without_writing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    identities.note(open_database(url), SEVENTH, "sha256:a")
    reader = open_database(url)
    with reader.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    identities.note(reader, SEVENTH, "sha256:a")
    with pytest.raises(RecordsError, match="readonly"):
        identities.note(reader, SEVENTH, "sha256:b")


def test_moves_are_a_models_decisions_in_order(engine: Engine) -> None:
    decide(engine, version="3")
    decide(engine, version="3", model_name="other")
    decide(engine, version="4", action="refuse", from_stage=None, to_stage=None, digest=None)
    assert audit.moves(engine, "resunet") == [
        audit.Move("promote", "3", "Staging", "Production", "sha256:aa"),
        audit.Move("refuse", "4", None, None, None),
    ]
    assert audit.moves(engine, "never") == []


def test_what_people_write_is_stored_whatever_it_is(engine: Engine) -> None:
    odd, stored = "a\0b\ud800é", "a�b?é"
    approve(engine, "sha256:a", "Production", Approval(odd, NOON, odd))
    assert approvals(engine, "sha256:a", "Production") == [Approval(stored, NOON, stored)]
    verdicts.keep(engine, verdict(asked_by=odd))
    kept = verdicts.latest(engine, "resunet", "7", "Production")
    assert kept == verdict(asked_by=stored)
    evidence.keep(engine, measured("{}", measured_by=odd))
    assert evidence.find(engine, "sha256:a", "sha256:test")["scores"].measured_by == stored


NAIVE = NOON.replace(tzinfo=None)
WITHOUT_ZONE: dict[str, Callable[[Engine], None]] = {
    "evidence": lambda engine: evidence.keep(engine, measured("{}", measured_at=NAIVE)),
    "approval": lambda engine: approve(engine, "sha256:a", "Production", Approval("ada", NAIVE, "")),
    "verdict": lambda engine: verdicts.keep(engine, verdict(when=NAIVE)),
}


@pytest.mark.parametrize("write", WITHOUT_ZONE.values(), ids=WITHOUT_ZONE.keys())
def test_a_time_without_a_zone_is_refused_in_these_words(engine: Engine, write: Callable[[Engine], None]) -> None:
    with pytest.raises(RecordsError, match="without a zone cannot be stored: use an aware datetime"):
        write(engine)


DOORS: dict[str, tuple[str, Callable[[Engine], Any]]] = {
    "evidence.keep": ("evidence", lambda engine: evidence.keep(engine, measured("{}"))),
    "evidence.find": ("evidence", lambda engine: evidence.find(engine, "sha256:a")),
    "evidence.uses": ("evidence", lambda engine: evidence.uses(engine, "sha256:test", "scores")),
    "approve": ("approvals", lambda engine: approve(engine, "sha256:a", "Staging", Approval("ada", NOON, ""))),
    "approvals": ("approvals", lambda engine: approvals(engine, "sha256:a", "Staging")),
    "verdicts.keep": ("verdicts", lambda engine: verdicts.keep(engine, verdict())),
    "verdicts.latest": ("verdicts", lambda engine: verdicts.latest(engine, "resunet", "7", "Staging")),
    "identities.note": ("identities", lambda engine: identities.note(engine, SEVENTH, "sha256:a")),
    "identities.digest_of": ("identities", lambda engine: identities.digest_of(engine, SEVENTH)),
}


@pytest.mark.parametrize(("table", "use"), DOORS.values(), ids=DOORS.keys())
def test_a_table_that_is_gone_is_told_with_the_databases_name(
    tmp_path: Path, table: str, use: Callable[[Engine], Any]
) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/records.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW evaluations")
        connection.exec_driver_sql(f"DROP TABLE {table}")
    with pytest.raises(RecordsError, match=rf"records\.db cannot be used: no such table: {table}"):
        use(engine)


def _at_once(write: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))

"""Reports of a guarded server: its records are asked for by its routes, whatever lies on the machine of who asks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from ready_tables import with_tables
from report_scene import POLICY, ReportScene, make_home, make_scene
from sqlalchemy import Engine, text

from pipelines.servers import GUARDED, tracking_server
from records import audit
from records.audit import Head, Wanted
from records.database import open_database
from records.evidence import Measured, keep
from registry.evidence.documents import SCORES
from registry.people import Actor
from registry.remote import RemoteLifecycle
from registry.reports import remote
from registry.reports.remote import RemoteReader

ADA, GRACE = Actor("ada"), Actor("grace")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportScene]:
    """A guarded server on which version 2 took the place of 1 and was rolled back from.

    Commands are typed elsewhere: in a home without records, under another policy.
    """
    folder = tmp_path_factory.mktemp("guarded")
    home = make_home(folder)
    settings = {"RESUNET_HOME": str(home), "RESUNET_POLICY": str(home / "policy.yaml"), "RESUNET_DATABASE": ""}
    with tracking_server(with_tables(folder / "server"), app=GUARDED, environment=settings) as url:
        scene = make_scene(url, folder, "guarded", home)
        desk = RemoteLifecycle(url)
        for number, measured in enumerate(scene.evaluations, 1):
            _plant(scene, str(number))
            assert measured.overall["dice"].mean > 0.1
            desk.promote(scene.name, str(number), "Production", ADA, f"try {number}")
        desk.rollback(scene.name, GRACE, "false positives")
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "policy.yaml").write_text(POLICY.replace("0.1", "0.9"))
        yield replace(scene, home=elsewhere)


@pytest.fixture
def records(scene: ReportScene) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{scene.folder / 'home' / 'records.db'}")
    yield engine
    engine.dispose()


def _plant(scene: ReportScene, version: str) -> None:
    """As if the version had been measured at the server."""
    measured = scene.evaluations[int(version) - 1]
    planted = Measured(
        version_digest=scene.client.get_model_version(scene.name, version).tags["version_digest"],
        kind=SCORES,
        content=measured.model_dump_json(),
        measured_by="grace",
        measured_at=datetime(2026, 1, 1, tzinfo=UTC),
        fingerprint=measured.fingerprint,
    )
    engine = open_database(f"sqlite:///{scene.folder / 'home' / 'records.db'}")
    keep(engine, planted)
    engine.dispose()


def test_the_audit_is_the_servers(scene: ReportScene, records: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RemoteReader(RemoteLifecycle(scene.url))
    everything = audit.find(records, Wanted())
    assert len(everything) == 5
    assert reader.rows(Wanted()) == everything
    chosen = Wanted(model_name=scene.name, version="2", actor="ada", action="promote", since=everything[0].when)
    assert [row.reason for row in reader.rows(chosen)] == ["try 2"]
    assert reader.rows(Wanted(until=everything[2].when)) == everything[:2]
    assert reader.rows(Wanted(), newest=2) == everything[-2:]
    # Of more rows than one answer holds, all come, each once.
    monkeypatch.setattr(remote, "PAGE", 2)
    assert reader.rows(Wanted()) == everything
    assert reader.rows(Wanted(), newest=3) == everything[-3:]
    assert reader.rows(Wanted(model_name="other")) == []


def test_the_server_walks_its_chain(scene: ReportScene, records: Engine) -> None:
    reader = RemoteReader(RemoteLifecycle(scene.url))
    head = audit.head(records)
    assert head is not None
    assert (reader.verify().broken, reader.verify().head) == (None, head)
    assert reader.verify(head).broken is None
    broken = reader.verify(Head(2, "0" * 64)).broken
    assert broken is not None and broken.seq == 2


def test_a_version_is_shown_as_the_server_knows_it(scene: ReportScene, records: Engine) -> None:
    reader = RemoteReader(RemoteLifecycle(scene.url))
    found = reader.version(scene.name, "2")
    digest = scene.client.get_model_version(scene.name, "2").tags["version_digest"]
    assert (found.digest, found.live, found.files) == (digest, "1", None)
    assert found.live_digest == scene.client.get_model_version(scene.name, "1").tags["version_digest"]
    assert list(found.decisions) == audit.find(records, Wanted(model_name=scene.name, version="2"))
    assert [kept.allowed for kept in found.verdicts] == [True]
    assert [one.content for one in found.measured] == [scene.evaluations[1].model_dump_json()]
    assert reader.measured(digest) == list(found.measured)
    files = reader.version(scene.name, "2", files=True).files
    assert files is not None
    assert (files.damage, files.evaluation) == ("", scene.evaluations[1])
    assert "numpy" in files.requirements


def test_the_commands_read_the_servers_records(scene: ReportScene) -> None:
    told = scene.command("show", scene.name, "2").stdout
    for words in ("Archived; version 1 is live", "pass: intact, floor", "by ada: try 2", "width 5"):
        assert words in told, told
    assert "void" not in told
    rows = json.loads(scene.typed("audit", scene.name, "--json", "-").stdout)
    assert [(row["action"], row["actor"]) for row in rows][-1] == ("rollback", "grace")
    assert "holds: 5 rows" in scene.typed("audit", "verify").stdout
    told = scene.typed("changelog", scene.name).stdout
    assert "## Version 2 went live, in place of version 1" in told and "against version 1 on the same" in told
    page = scene.folder / "page.html"
    done = scene.typed("compare", scene.name, "1", "2", "--html", str(page), "--examples", "1")
    assert done.returncode == 0, done.stderr
    assert page.read_text(encoding="utf-8").count("<img") == 4
    # Nothing of it was looked for, or left, where the commands were typed.
    assert not (scene.home / "records.db").exists()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("audit?limit=0", "limit"),
        ("audit?limit=999999", "limit"),
        ("audit?since=2026-01-01T00:00:00", "since"),
        ("audit?colour=red", "colour"),
        ("audit/verify?noted=two", "SEQ:HASH"),
        ("show?name=guarded", "version"),
        ("measured", "digest"),
    ],
)
def test_a_question_that_makes_no_sense_is_a_400_with_the_parameters_name(
    scene: ReportScene, path: str, told: str
) -> None:
    answer = httpx.get(f"{scene.url}/api/lifecycle/{path}")
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert told in answer.json()["message"]


def test_a_version_that_is_not_there_is_a_404(scene: ReportScene) -> None:
    answer = httpx.get(f"{scene.url}/api/lifecycle/show", params={"name": scene.name, "version": "9"})
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    done = scene.typed("show", scene.name, "9")
    assert (done.returncode, "has no version '9'; there is: 1, 2" in done.stderr) == (2, True)


def test_a_chain_that_was_tampered_with_is_told_by_the_command(scene: ReportScene, records: Engine) -> None:
    assert scene.typed("audit", "verify").returncode == 0
    with decided_by(records, 3, "eve"):
        done = scene.typed("audit", "verify")
    assert (done.returncode, "broken at row 3: its content was changed" in done.stderr) == (2, True)


@contextmanager
def decided_by(records: Engine, row: int, actor: str) -> Iterator[None]:
    """Somebody else's name in a row, by whoever can drop the triggers; it is as it was after the block."""
    change = text("UPDATE audit SET actor = :actor WHERE seq = :row")
    with records.begin() as connection:
        before = connection.scalar(text("SELECT actor FROM audit WHERE seq = :row"), {"row": row})
        triggers = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
        for name, _ in triggers:
            connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(change, {"actor": actor, "row": row})
    try:
        yield
    finally:
        with records.begin() as connection:
            connection.execute(change, {"actor": before, "row": row})
            for _, statement in triggers:
                connection.exec_driver_sql(statement)

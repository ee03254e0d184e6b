"""Everybody in RESUNET_NOTIFY hears of each decision; who does not answer holds up nothing, and no secret is told."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from inboxes import PASSWORD, MailServer, Webhook, mail_server, send_directly, webhook
from mlflow import MlflowClient
from promotion_desk import POLICY, Desk, desk
from pydantic import SecretStr
from small_versions import register
from waiting import until

from pipelines.servers import free_port, watched_tracking_server
from records.notify import finish
from registry.changes import Told
from registry.lifecycle import Lifecycle
from registry.notify import body, notifier, subject
from registry.people import Actor
from registry.policy import load_policy
from registry.settings import RegistrySettings
from registry.shelf import ClientShelf
from registry.versions import stage_calls
from resunet.errors import RefusedError

__all__ = ["desk"]

PROJECT = Path(__file__).resolve().parents[2]
GRACE = Actor("grace", authenticated=True)
PROMOTED = Told("promote", "resunet", "7", "Staging", "Production", "ada", "new <b>stain</b> & more")
# Tells of one decision and ends at once.
PROGRAM = """
import sys
from pydantic import SecretStr
from registry.changes import Told
from registry.notify import notifier
from registry.settings import RegistrySettings

told = Told("promote", "resunet", "7", "Staging", "Production", "ada", "")
notifier(RegistrySettings(notify=SecretStr(sys.argv[1])), float(sys.argv[2]))(told)
print("told", flush=True)
"""


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as server:
        yield server


@pytest.fixture(autouse=True)
def directly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A proxy that the environment names is for the world outside; no message outlives its test."""
    send_directly(monkeypatch)
    yield
    finish()


def settings(*addresses: str) -> RegistrySettings:
    return RegistrySettings(notify=SecretStr(",".join(addresses)))


def test_each_decision_arrives_with_who_what_where_and_why(desk: Desk, mail: MailServer, hook: Webhook) -> None:
    policy = desk.folder / "policy.yaml"
    policy.write_text(f"{POLICY}roles: {{override: [grace], approve: [grace]}}\n")
    life = Lifecycle(
        desk.engine,
        ClientShelf(desk.client),
        load_policy(policy),
        desk.settings,
        notify=notifier(settings(mail.url(), hook.url)),
    )
    good, bad = desk.version(0.9), desk.version(0.2)
    name = desk.name

    def heard(begins: str, version: str, move: str, who: str, why: str, kind: str = "info") -> None:
        arrived, posted = mail.get(), hook.get()
        line = f"{begins}: {name} version {version}, {move}, by {who}"
        assert (arrived.subject, posted["title"], posted["type"]) == (line, line, kind)
        for text in (arrived.text, posted["message"]):
            assert all(part in text for part in (f"{name} version {version}", move, who, why)), text

    life.promote(name, good, "Production", GRACE, "first of all")
    heard("[resunet] promote", good, "None → Production", "grace", "first of all")
    with pytest.raises(RefusedError):
        life.promote(name, bad, "Production", GRACE, "hurry")
    heard("[resunet] refuse", bad, "None → Production", "grace", "floor: fail", "failure")
    life.approve(name, bad, "Production", GRACE, "looked at it")
    heard("[resunet] approve", bad, "None → Production", "grace", "looked at it")
    life.promote(name, bad, "Production", GRACE, "the clinic waits", override=True)
    heard("OVERRIDE", bad, "None → Production", "grace", "the clinic waits", "warning")
    life.rollback(name, Actor("bob"), "false positives")
    heard("[resunet] rollback", good, "Archived → Production", "bob", "false positives")
    life.archive(name, good, Actor("bob"), "end of the study")
    heard("[resunet] archive", good, "Production → Archived", "bob", "end of the study")
    finish()
    assert mail.inbox.empty() and hook.inbox.empty()


def test_an_override_is_loud_and_a_subject_is_one_line() -> None:
    override = Told("override", "resunet", "7", "None", "Production", "ada\r\nBcc: all@example.org", "x" * 500)
    assert subject(override).startswith("OVERRIDE: resunet version 7, None → Production, by ada")
    assert len(subject(override).splitlines()) == 1
    assert "somebody let it past them" in body(override) and "x" * 500 in body(override)
    assert "reason: none given" in body(Told("archive", "resunet", "7", "None", "Archived", "ada", ""))


def test_a_reason_arrives_as_it_was_written(mail: MailServer, hook: Webhook) -> None:
    notifier(settings(mail.url(), hook.url))(PROMOTED)
    assert "new <b>stain</b> & more" in hook.get()["message"]
    assert "new <b>stain</b> & more" in mail.get().text


def test_one_address_may_name_several_people_and_several_addresses_be_written_in_lines(
    mail: MailServer, hook: Webhook
) -> None:
    notifier(RegistrySettings(notify=SecretStr(f"\n{mail.url('a@example.org,b@example.org')},\n  {hook.url} \n")))(
        PROMOTED
    )
    assert hook.get()["title"] == subject(PROMOTED)
    first, second = mail.get(), mail.get()
    assert sorted(first.to + second.to) == ["a@example.org", "b@example.org"]


def test_without_an_address_nobody_is_told_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    notifier(settings())(PROMOTED)
    assert not caplog.records


def test_nobody_waits_for_who_does_not_answer(mail: MailServer, caplog: pytest.LogCaptureFixture) -> None:
    mail.open.clear()
    notifier(settings(mail.url()))(PROMOTED)
    assert mail.greeted.wait(60) and mail.inbox.empty() and not caplog.records
    mail.open.set()
    assert mail.get().subject == subject(PROMOTED)


def refuse(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(403, f"not with token-{PASSWORD}")


def test_who_is_away_or_refuses_is_told_of_without_address_or_secret_at_any_level(
    mail: MailServer, hook: Webhook, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with webhook(refuse) as grumpy:
        addresses = (
            f"mailto://ada:{PASSWORD}@127.0.0.1:{free_port()}/?from=a@example.org&to=team@example.org",
            mail.url(password=f"not-{PASSWORD}"),
            grumpy.url,
            hook.url,
        )
        with caplog.at_level(0):
            told = settings(*addresses)
            notifier(told)(PROMOTED)
            finish()
    assert hook.get()["title"] == subject(PROMOTED)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    for number, sentence in zip((1, 2, 3), said, strict=True):
        assert sentence.startswith(f"RESUNET_NOTIFY: address {number} of 4 is away, or takes no message")
        assert sentence.endswith(subject(PROMOTED))
    heard = capfd.readouterr()
    everything = f"{caplog.text} {heard.out} {heard.err} {told!r} {told} {told.model_dump()}"
    for secret in (PASSWORD, "team@example.org", "127.0.0.1:"):
        assert secret not in everything


def test_an_address_that_makes_no_sense_is_told_of_by_its_place_and_the_others_are_used(
    hook: Webhook, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(0):
        tell = notifier(settings(f"bogus://ada:{PASSWORD}@example.org", hook.url, f"mailto://{PASSWORD}"))
        tell(PROMOTED)
        assert hook.get()["title"] == subject(PROMOTED)
        notifier(settings(PASSWORD))(PROMOTED)
        finish()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [sentence.partition(" is not one")[0] for sentence in said] == [
        "RESUNET_NOTIFY: address 1 of 3",
        "RESUNET_NOTIFY: address 3 of 3",
        "RESUNET_NOTIFY: address 1 of 1",
    ]
    heard = capfd.readouterr()
    assert PASSWORD not in f"{caplog.text} {heard.out} {heard.err}"


def test_what_others_log_by_the_same_libraries_is_still_heard(hook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    notifier(settings(hook.url))(PROMOTED)
    finish()
    logging.getLogger("apprise").warning("of somebody else")
    assert "of somebody else" in caplog.text


def program(deadline_s: float, *addresses: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, ",".join(addresses), str(deadline_s)]


def test_a_command_does_not_end_before_its_messages_are_out(mail: MailServer, hook: Webhook) -> None:
    mail.open.clear()
    with subprocess.Popen(
        program(60, mail.url(), hook.url),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        assert mail.greeted.wait(60)
        # All that the program does is done; the server has not even greeted back.
        mail.open.set()
        _, problem = process.communicate(timeout=60)
    assert (process.returncode, problem) == (0, "")
    assert mail.get().subject == hook.get()["title"] == subject(PROMOTED)


def test_a_guarded_server_that_is_stopped_lets_its_messages_out(mail: MailServer, tmp_path: Path) -> None:
    mail.open.clear()
    environment = {"RESUNET_NOTIFY": mail.url(), "RESUNET_HOME": str(tmp_path / "home")}
    with watched_tracking_server(tmp_path / "server", app="lifecycle", environment=environment) as server:
        client = MlflowClient(tracking_uri=server.url)
        version = register(client, "resunet", tmp_path / "model", None)
        with stage_calls():
            client.transition_model_version_stage("resunet", version, "Archived")
        assert mail.greeted.wait(60)
        os.killpg(server.process.pid, signal.SIGTERM)
        until(lambda: "Waiting for application shutdown" in server.log.read_text(), every=0.01)
        mail.look = server.log.read_text
        mail.open.set()
        arrived = mail.get()
    assert arrived.subject == f"[resunet] archive: resunet version {version}, None → Archived, by unknown"
    assert "Application shutdown complete" not in arrived.seen


def test_a_command_ends_although_somebody_never_stops_answering() -> None:
    ended = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        """A byte of a header now and then: no timeout between two of them ever runs out."""
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-More: ")
            while not ended.wait(0.05):
                handler.wfile.write(b"x")

    with webhook(trickle) as slow:
        try:
            done = subprocess.run(
                program(1, slow.url), cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
            )
        finally:
            ended.set()
    assert (done.returncode, done.stdout) == (0, "told\n")
    assert "address 1 of 1 took no message within 1 s. The decision stands; it was: [resunet] promote" in done.stderr
    assert PASSWORD not in done.stderr

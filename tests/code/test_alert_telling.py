"""What is queued reaches a real mail server and a real webhook: once, in order, late rather than never."""

import base64
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest
from alert_scene import DAY, DAY_0, HOUR, World, drift, policies, world
from inboxes import PASSWORD, MailServer, Webhook, mail_server, send_directly, take, webhook

from monitoring.alerts.check import check
from monitoring.alerts.policy import Policy
from monitoring.alerts.recipients import Recipients
from monitoring.alerts.reports import Report, Reports, web_page
from monitoring.alerts.telling import GIVE_UP, Told, deliver
from monitoring.alerts.trial import trial
from records import notify
from records.notify import Message, Messenger
from records.watch.outbox import LEASE, claim, messages_of, waiting

RULES = policies(drift("for: 2 windows, recover: 2 windows,", "{repeat: 1d, to: [default, oncall]}"))
MAIL_ALONE = policies(drift("recover: 1 window,", "{repeat: 1d}"))
RUN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names is for the world outside; Apprise spares no mail server of a test."""
    send_directly(monkeypatch)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as server:
        yield server


@pytest.fixture
def here(url: str) -> World:
    return world(url)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "drift.png"
    assert cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    return path


class OneReport(Reports):
    """Knows one run without a tracking server."""

    def __init__(self, picture: Path | None) -> None:
        super().__init__(None)
        self._picture_of_all = picture

    def find(self, run_id: str) -> Report:
        return Report(f"report: https://mlflow.example/#/experiments/1/runs/{run_id}", self._picture_of_all)


def look(here: World, rules: tuple[Policy, ...], to: Recipients, reports: Reports | None = None) -> Told:
    """A check as the command does it."""
    here.now += HOUR / 60
    here_and_now = here.now
    check(here.sources, rules, to.places, here_and_now)
    return deliver(here.engine, to, reports or Reports(None), lambda: here_and_now)


def both(mail: MailServer, hook: Webhook) -> Recipients:
    return Recipients({"RESUNET_NOTIFY": mail.url(), "RESUNET_NOTIFY_ONCALL": hook.url}, 30.0)


def test_a_fortnight_reaches_mail_server_and_webhook_as_exactly_these_messages(
    here: World, mail: MailServer, hook: Webhook
) -> None:
    to = both(mail, hook)
    for day in range(14):
        here.report(day, "drift" if 5 <= day < 9 else "no drift")
        here.now = DAY_0 + (day + 1) * DAY + HOUR
        for _ in range(3):
            assert look(here, RULES, to).problems == ()
    subjects = [
        "[resunet] ALERT input-drift: resunet version 7",
        "[resunet] STILL input-drift: resunet version 7",
        "[resunet] STILL input-drift: resunet version 7",
        "[resunet] RECOVERED input-drift: resunet version 7",
    ]
    assert [mail.get().subject for _ in subjects] == subjects
    posted = [hook.get() for _ in subjects]
    assert [one["title"] for one in posted] == subjects
    assert [one["type"] for one in posted] == ["warning", "warning", "warning", "info"]
    assert mail.inbox.empty() and hook.inbox.empty()


def test_a_message_says_what_since_when_figures_link_and_what_to_do(
    here: World, mail: MailServer, hook: Webhook, picture: Path
) -> None:
    here.report(0, "no drift")
    for day in (1, 2):
        here.report(day, "drift", run_id=RUN, p_value=0.00012, rows=212)
    here.now = DAY_0 + 3 * DAY + HOUR
    look(here, RULES, both(mail, hook), OneReport(picture))
    arrived, posted = mail.get(), hook.get()
    expected = """drift on day 2

window: 2026-03-04 00:00 to 2026-03-05 00:00 UTC, 212 rows, routes canary, production
p-value of the window: 0.00012
moved most: brightness, saturation
estimated Dice: 0.900 (0.880 to 0.920)
the images furthest from the reference: python -m monitoring report --model resunet --version 7 \
--window 1d --until 2026-03-05T00:00:00Z --route canary --route production \
--out report-7
looked at: windows of 1d, canary, production
since 2026-03-03 00:00 UTC (2 days)

policy input-drift, severity warning, alert 1
recovery is told after 2 good windows in a row
seen to: python -m monitoring alerts acknowledge 1 --reason "…" stops the repetition

report: https://mlflow.example/#/experiments/1/runs/0123456789abcdef0123456789abcdef"""
    assert posted["message"] == expected
    assert arrived.text.strip().splitlines() == expected.splitlines()
    sent = picture.read_bytes()
    [attached] = [part for part in arrived.message.walk() if part.get_filename() == "drift.png"]
    assert attached.get_content_type() == "image/png" and attached.get_payload(decode=True) == sent
    assert base64.b64decode(posted["attachments"][0]["base64"]) == sent


def test_a_mail_server_that_is_away_hears_of_it_later_once_and_the_others_now(
    here: World, mail: MailServer, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    to, port = both(mail, hook), mail.port
    away = Recipients(
        {"RESUNET_NOTIFY": mail.url().replace(f":{port}/", ":9/"), "RESUNET_NOTIFY_ONCALL": hook.url}, 30.0
    )
    for day in (0, 1):
        here.report(day, "drift")
    here.now = DAY_0 + 2 * DAY + HOUR
    told = look(here, RULES, away)
    assert told.delivered == 1 and hook.get()["title"] == "[resunet] ALERT input-drift: resunet version 7"
    assert told.problems == (
        "address 1 of 1 in RESUNET_NOTIFY is away, or takes no message: [resunet] ALERT input-drift: resunet version 7 "
        "was not told; the first check after 2026-03-04 01:02 UTC tries again",
    )
    # Meanwhile it was told again twice, and recovered: of the repetitions the last one alone is worth the mail.
    for day in (2, 3):
        here.report(day, "drift")
        here.now = DAY_0 + (day + 1) * DAY + 2 * HOUR
        look(here, RULES, away)
    for day in (4, 5):
        here.report(day, "no drift")
    here.now = DAY_0 + 6 * DAY + HOUR
    assert look(here, RULES, to).problems == ()
    assert [mail.get().subject.split()[1] for _ in range(3)] == ["ALERT", "STILL", "RECOVERED"]
    assert [hook.get()["title"].split()[1] for _ in range(3)] == ["STILL", "STILL", "RECOVERED"]
    assert look(here, RULES, to).delivered == 0
    assert mail.inbox.empty() and hook.inbox.empty()
    assert PASSWORD not in caplog.text


def test_addresses_that_hang_hold_up_neither_the_others_nor_the_check(here: World, hook: Webhook) -> None:
    let_go, longest = threading.Event(), timedelta(seconds=1.2)
    here.report(0, "drift")
    here.now = DAY_0 + DAY + HOUR
    rules = policies(drift(alert="{to: [default, oncall], repeat: 365d}"))
    with webhook(lambda _: let_go.wait(60) and None) as hung:
        many = ",".join([hung.url] * 12)
        # Twelve that hang for longer than there is time, before one that answers.
        to = Recipients({"RESUNET_NOTIFY": many, "RESUNET_NOTIFY_ONCALL": hook.url}, 1.5)
        check(here.sources, rules, to.places, here.now)
        told = deliver(here.engine, to, Reports(None), lambda: here.now, longest)
        assert told.delivered == 0 and len(told.problems) == 13
        assert sum("no time left; the next check goes on" in problem for problem in told.problems) >= 5
        # Who was not tried comes first the next time.
        here.now += DAY / 24
        assert deliver(here.engine, to, Reports(None), lambda: here.now, longest).delivered == 1
        assert hook.get()["title"] == "[resunet] ALERT input-drift: resunet version 7"
        let_go.set()


def test_who_does_not_take_a_message_is_tried_ever_more_seldom_and_it_is_told_meanwhile(here: World) -> None:
    with webhook(lambda handler: handler.send_error(503)) as hook:
        to = Recipients({"RESUNET_NOTIFY": hook.url}, 30.0)
        here.report(0, "drift")
        here.now = DAY_0 + DAY + HOUR
        tried, told = list[int](), list[Told]()
        for minute in range(60):
            told.append(look(here, MAIL_ALONE, to))
            tried += [minute] * hook.inbox.qsize()
            while not hook.inbox.empty():
                hook.get()
        assert tried == [0, 1, 3, 7, 15, 31]
        assert all("[resunet] ALERT" in problem for one in told for problem in one.problems)
        assert {len(one.problems) for one in told} == {1}


def test_an_address_that_answers_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "READ_SECONDS", 0.2)
    go_on = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(1)
        with suppress(OSError):
            take(handler)

    with webhook(slowly) as hook:
        assert Messenger(hook.url).deliver(Message("drift", "words")) == frozenset()
        assert Messenger(f"{hook.url}?rto=30").deliver(Message("drift", "words")) == {1}


def test_who_is_away_for_days_is_given_up(here: World, hook: Webhook) -> None:
    nobody = Recipients({"RESUNET_NOTIFY": "json://127.0.0.1:9/"}, 30.0)
    here.report(0, "drift")
    here.now = DAY_0 + DAY + HOUR
    look(here, policies(drift(alert="{repeat: 365d}")), nobody)
    here.now += GIVE_UP
    [problem] = look(here, policies(drift(alert="{repeat: 365d}")), nobody).problems
    assert problem.endswith("was not told; it was tried for 3 days and is given up")
    assert waiting(here.engine) == []


def test_a_name_without_addresses_waits_for_them_and_is_told_of(here: World, mail: MailServer, hook: Webhook) -> None:
    for day in (0, 1):
        here.report(day, "drift")
    here.now = DAY_0 + 2 * DAY + HOUR
    told = look(here, RULES, Recipients({"RESUNET_NOTIFY": mail.url()}, 30.0))
    assert told.delivered == 1 and mail.get().subject.startswith("[resunet] ALERT")
    assert told.problems[0].startswith("RESUNET_NOTIFY_ONCALL is not set: [resunet] ALERT")
    assert look(here, RULES, both(mail, hook)) == Told(1, ())
    assert hook.get()["title"].startswith("[resunet] ALERT")


def test_nobody_hears_that_it_is_over_before_they_hear_that_it_began(here: World) -> None:
    answers = [lambda handler: handler.send_error(503), take, take]

    with webhook(lambda handler: answers.pop(0)(handler)) as hook:
        to = Recipients({"RESUNET_NOTIFY": hook.url}, 30.0)
        here.report(0, "drift")
        here.look(MAIL_ALONE, DAY_0 + DAY + HOUR)
        here.report(1, "no drift")
        here.now = DAY_0 + 2 * DAY + HOUR
        assert look(here, MAIL_ALONE, to).delivered == 0
        assert look(here, MAIL_ALONE, to).delivered == 2
        assert [hook.get()["title"].split()[1] for _ in range(3)] == ["ALERT", "ALERT", "RECOVERED"]


def test_who_has_nobody_to_tell_queues_nothing(here: World) -> None:
    here.report(0, "drift")
    here.now = DAY_0 + DAY + HOUR
    look(here, MAIL_ALONE, Recipients({}))
    assert messages_of(here.engine, 1) == []


def test_who_dies_before_sending_leaves_it_to_the_next_checker(here: World, mail: MailServer) -> None:
    to = Recipients({"RESUNET_NOTIFY": mail.url()}, 30.0)
    here.report(0, "drift")
    here.now = DAY_0 + DAY + HOUR
    here.look(MAIL_ALONE)
    [message] = waiting(here.engine)
    assert claim(here.engine, message, here.now)  # and then the process is killed
    assert look(here, MAIL_ALONE, to) == Told(0, ())
    here.now += LEASE
    assert look(here, MAIL_ALONE, to) == Told(1, ())
    assert mail.get().subject.startswith("[resunet] ALERT")
    assert look(here, MAIL_ALONE, to) == Told(0, ()) and mail.inbox.empty()


def test_two_checkers_at_once_tell_once(here: World, mail: MailServer, hook: Webhook) -> None:
    for day in (0, 1):
        here.report(day, "drift")
    here.now = DAY_0 + 2 * DAY + HOUR
    ready = threading.Barrier(4)
    told = list[Told]()

    def checker() -> None:
        twin = World(here.engine, here.now)
        ready.wait(30)
        told.append(look(twin, RULES, both(mail, hook)))

    checkers = [threading.Thread(target=checker) for _ in range(4)]
    for one in checkers:
        one.start()
    for one in checkers:
        one.join(120)
    assert len(told) == 4 and sum(one.delivered for one in told) == 2
    assert mail.get().subject == hook.get()["title"] == "[resunet] ALERT input-drift: resunet version 7"
    assert mail.inbox.empty() and hook.inbox.empty()


def test_a_picture_that_nobody_takes_does_not_keep_the_words_back(here: World, picture: Path) -> None:
    def words_alone(handler: BaseHTTPRequestHandler) -> None:
        if "drift.png" in str(hook.inbox.queue[-1]["attachments"]):
            handler.send_error(413)
        else:
            take(handler)

    with webhook(words_alone) as hook:
        to = Recipients({"RESUNET_NOTIFY": hook.url}, 30.0)
        here.report(0, "drift", run_id=RUN)
        here.now = DAY_0 + DAY + HOUR
        delivered = []
        for _ in range(3):
            delivered.append(look(here, MAIL_ALONE, to, OneReport(picture)).delivered)
            here.now += HOUR
        assert delivered == [0, 0, 1]


def test_a_picture_that_is_not_there_does_not_keep_the_words_back(mail: MailServer, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    gone = (tmp_path / "gone.png", tmp_path / "empty.png", tmp_path)
    assert Messenger(mail.url()).deliver(Message("drift", "words", attachments=gone)) == {1}
    arrived = mail.get()
    assert arrived.text.strip() == "words"
    assert [part.get_filename() for part in arrived.message.walk() if part.get_filename()] == []


def test_a_name_of_anybody_s_cannot_write_headers_or_further_lines(here: World, mail: MailServer) -> None:
    nasty = "7\r\nBcc: all@example.org\x1b[31m"
    here.report(0, "drift", model_version=nasty, summary="drift\nand\r\nmore" + "x" * 900)
    here.now = DAY_0 + DAY + HOUR
    look(here, MAIL_ALONE, Recipients({"RESUNET_NOTIFY": mail.url()}, 30.0))
    arrived = mail.get()
    assert arrived.subject == "[resunet] ALERT input-drift: resunet version 7 Bcc: all@example.org [31m"
    assert arrived.message["Bcc"] is None and arrived.to == ["team@example.org"]
    assert arrived.text.splitlines()[0].startswith("drift and more") and len(arrived.text.splitlines()[0]) == 500


def test_a_trial_says_who_took_it_and_shows_no_address(
    mail: MailServer, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    good = trial(both(mail, hook), ["default", "oncall", "default"], DAY_0)
    assert good.all_took_it and good.lines == ("delivered to 2 of 2 addresses",)
    assert mail.get().subject == hook.get()["title"] == "[resunet] TEST: alerts reach you"
    assert mail.inbox.empty()
    with caplog.at_level(logging.DEBUG):
        bad = Recipients(
            {"RESUNET_NOTIFY": f"{mail.url()},bogus://{PASSWORD},{mail.url(password='not-' + PASSWORD)}"}, 30.0
        )
        told = trial(bad, ["default", "lab"], DAY_0)
    assert not told.all_took_it and told.lines == (
        "delivered to 1 of 4 addresses",
        "address 2 of 3 in RESUNET_NOTIFY is away, or takes no message",
        "address 3 of 3 in RESUNET_NOTIFY is away, or takes no message",
        "RESUNET_NOTIFY_LAB is not set",
    )
    assert PASSWORD not in caplog.text
    nobody = trial(Recipients({}), ["default"], DAY_0)
    assert nobody.lines == ("there is nobody to tell: set RESUNET_NOTIFY to Apprise addresses",)
    assert not nobody.all_took_it


def test_a_link_holds_no_secret_and_only_a_web_address_is_one() -> None:
    assert web_page(f"https://ada:{PASSWORD}@mlflow.example:8443/base/?token={PASSWORD}#x") == (
        "https://mlflow.example:8443/base"
    )
    assert web_page("http://[::1]:5000") == "http://[::1]:5000"
    for other in ("sqlite:///mlflow.db", "", "databricks", f"postgresql://ada:{PASSWORD}@host/db", "http://host:port"):
        assert web_page(other) == ""

"""An alert on measured Dice goes out with a picture of the labels, which is drawn when it is sent."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import cv2
import numpy as np
import pytest
from alert_scene import DAY, DAY_0, HOUR, World, drift, policies, world
from inboxes import MailServer, mail_server, send_directly
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from sqlalchemy import text

from monitoring.alerts.check import check
from monitoring.alerts.drawing import Drawing
from monitoring.alerts.policy import Policy
from monitoring.alerts.recipients import Recipients
from monitoring.alerts.reports import Reports
from monitoring.alerts.sources import Sources
from monitoring.alerts.telling import Told, deliver
from monitoring.dice_figure import draw_dice
from monitoring.panels import LIVE, MOVED, REFERENCE
from records.watch.measured import Dice, MeasuredDice, read_dice
from records.watch.outbox import waiting

LABELS = policies(
    "{name: labels, when: {measured_dice: {below: 0.8, over: 10d, at_least: 20}}, actions: [{alert: {to: [default]}}]}"
)
TEN_DAYS = timedelta(days=10)


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    send_directly(monkeypatch)
    with mail_server() as server:
        yield server


@pytest.fixture
def here(tmp_path: Path) -> World:
    """Version 7 falls from good to bad within four days; version 6 is as it was."""
    made = world(f"sqlite:///{tmp_path}/log.db")
    made.sources = Sources.of_platform(made.engine, tmp_path)
    for day, middle in enumerate((0.7, 0.6, 0.4, 0.3)):
        made.label(DAY_0 + day * DAY, *np.linspace(middle - 0.1, middle + 0.1, 20))
        made.label(DAY_0 + day * DAY + HOUR, *np.linspace(0.88, 0.96, 8), version="6")
    made.now = DAY_0 + 4 * DAY
    return made


def tell(here: World, mail: MailServer, rules: tuple[Policy, ...], known: tuple[Policy, ...] | None = None) -> Told:
    """A check as the command does it."""
    to = Recipients({"RESUNET_NOTIFY": mail.url()}, 30.0)
    check(here.sources, rules, to.places, here.now)
    with Drawing(here.engine, rules if known is None else known) as drawing:
        return deliver(here.engine, to, Reports(None), lambda: here.now, draw=drawing.of)


def attached(message: EmailMessage) -> dict[str | None, bytes]:
    return {part.get_filename(): part.get_payload(decode=True) for part in message.iter_attachments()}  # type: ignore[misc]


def share(picture: NDArray[np.uint8], colour: str) -> float:
    """Of pixels that have a colour."""
    wanted = np.round(np.array(to_rgb(colour)[::-1]) * 255)
    return float((np.abs(picture.astype(float) - wanted).max(axis=2) < 3).mean())


def drawn(found: Dice, folder: Path, version: str = "7", below: float = 0.8) -> NDArray[np.uint8]:
    path = folder / f"{version} {below}.png"
    draw_dice(found, version, below=below, title="$resunet$ version 7", path=path)
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(picture, np.uint8)


def test_the_mail_of_a_poor_dice_has_its_picture(here: World, mail: MailServer) -> None:
    assert tell(here, mail, LABELS) == Told(1, ())
    arrived = mail.get()
    assert "ALERT labels" in arrived.subject and "measured Dice 0.5" in arrived.text
    [(name, content)] = attached(arrived.message).items()
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert name == "dice.png" and picture is not None
    assert share(np.asarray(picture, np.uint8), LIVE) > 3e-4


def test_it_shows_the_version_the_others_and_what_the_dice_must_not_be_below(here: World, tmp_path: Path) -> None:
    found = read_dice(here.engine, "resunet", here.now - TEN_DAYS, here.now)
    picture = drawn(found, tmp_path)
    assert all(share(picture, colour) > 3e-4 for colour in (LIVE, REFERENCE, MOVED))
    alone = Dice(found.versions[:1], tuple(one for one in found.course if one.version == "7"))
    assert share(drawn(alone, tmp_path, below=0.5), REFERENCE) == 0
    # Of a version without labels there is its name alone.
    assert share(drawn(alone, tmp_path, version="8", below=0.6), LIVE) < share(picture, LIVE) / 3


def test_an_alert_on_anything_else_has_none(here: World, mail: MailServer) -> None:
    here.report(0, "drift")
    assert tell(here, mail, (*policies(drift()), *LABELS)) == Told(2, ())
    arrived = [mail.get() for _ in range(2)]
    told = {one.subject.split()[2].rstrip(":"): sorted(map(str, attached(one.message))) for one in arrived}
    assert told == {"input-drift": [], "labels": ["dice.png"]}


def test_each_message_has_the_picture_of_its_own_days(here: World, tmp_path: Path) -> None:
    places = Recipients({"RESUNET_NOTIFY": "json://127.0.0.1:9"}, 30.0).places
    check(here.sources, LABELS, places, here.now)
    [first] = waiting(here.engine)
    later = replace(first, made=first.made + 2 * DAY)
    here.label(DAY_0 + 5 * DAY, *np.linspace(0.9, 0.99, 30))
    with Drawing(here.engine, LABELS) as drawing:
        before, after = (path.read_bytes() for path in map(drawing.of, (first, later)) if path is not None)
        assert before != after and drawing.of(first) == drawing.of(replace(first, recipient="oncall"))


def test_a_picture_that_cannot_be_drawn_costs_no_message(
    here: World, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("odd values")

    monkeypatch.setattr("monitoring.dice_figure.draw_dice", fail)
    assert tell(here, mail, LABELS) == Told(1, ())
    assert attached(mail.get().message) == {}


def test_odd_values_are_drawn(here: World, tmp_path: Path) -> None:
    at = (DAY_0, DAY_0 + DAY)
    rounded = [MeasuredDice("$x^{$", *at, 200, 0.9, 0.9 + 1e-16, 0.9), MeasuredDice("8", *at, 1, 0.5, 0.0, 1.0)]
    many = [MeasuredDice(f"v{number}", *at, 3, 0.7, 0.1, 1.0) for number in range(40)]
    found = Dice((*rounded, *many), (*rounded, *many))
    assert share(drawn(found, tmp_path, "$x^{$"), LIVE) > 1e-5
    assert share(drawn(Dice((), ()), tmp_path, "nobody"), MOVED) > 1e-4


def test_where_the_disk_takes_no_folder_the_words_go_out(
    here: World, mail: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(here.sources, LABELS, Recipients({"RESUNET_NOTIFY": mail.url()}, 30.0).places, here.now)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with Reports(None) as reports, Drawing(here.engine, LABELS) as drawing:
        to = Recipients({"RESUNET_NOTIFY": mail.url()}, 30.0)
        assert deliver(here.engine, to, reports, lambda: here.now, draw=drawing.of) == Told(1, ())
    assert attached(mail.get().message) == {}


@pytest.mark.parametrize("lost", ["policy", "labels", "table"])
def test_what_cannot_be_drawn_goes_out_in_words(here: World, mail: MailServer, lost: str) -> None:
    check(here.sources, LABELS, Recipients({"RESUNET_NOTIFY": mail.url()}, 30.0).places, here.now)
    assert waiting(here.engine)
    gone = {"policy": "SELECT 1", "labels": "DELETE FROM labels", "table": "DROP TABLE labels"}
    with here.engine.begin() as connection:
        connection.execute(text(gone[lost]))
    assert tell(here, mail, (), () if lost == "policy" else LABELS) == Told(1, ())
    assert attached(mail.get().message) == {}

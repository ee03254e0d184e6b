"""Six weeks in the life of a version, and all that anybody is told of them: nothing less, nothing more.

Rows go through the log into PostgreSQL, windows through the schedule into reports, and messages into a mail server.
"""

from collections.abc import Iterator

import pytest
from alert_scene import policies
from drift_scene import Scene
from inboxes import MailServer, mail_server, send_directly
from weeks_scene import EXPERIMENT, ROWS, Weeks, request

from monitoring.tracking import find_version
from records.watch.reports import latest_reports

POLICIES = policies(
    "{name: input-drift, when: {verdict: drift}, for: 2 windows, recover: 2 windows, "
    "actions: [{alert: {repeat: 365d}}]}",
    "{name: slow-drift, when: {trend: drift}, recover: 2 windows, actions: [{alert: {repeat: 365d}}]}",
    "{name: silence, when: {no_predictions: {during: 1d}}, actions: [{alert: {repeat: 365d}}]}",
    "{name: labels, when: {measured_dice: {below: 0.75, over: 14d, at_least: 20}}, "
    "actions: [{alert: {severity: critical, repeat: 365d}}]}",
)


def images(day: int) -> dict[str, float] | None:
    """How the images of a day differ from those that were trained on."""
    if day in (7, 8):
        return {"brightness": 3.0}
    if day in (20, 21):
        return None
    return {"brightness": 0.03 * (day - 24)} if day > 24 else {}


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server; a proxy that the environment names is for the world outside."""
    send_directly(monkeypatch)
    with mail_server() as server:
        yield server


def test_six_weeks_are_told_as_exactly_these_messages(
    scene: Scene, postgres_url: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Evidently's page and the picture take longer than all the rest; tests of their own look at them.
    monkeypatch.setattr("monitoring.report._draw", lambda *_: None)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    version = find_version(scene.client, "resunet", version="1")
    with Weeks(postgres_url, scene, version, mail, POLICIES, images) as weeks:
        # The database goes while the report on day 14 runs, and comes back a day and a half later.
        weeks.dies = weeks.day(15)
        weeks.plan[weeks.day(16.75)] = weeks.database.mend
        # Labels come ten days after their images: nineteen, each twice, and some that no audit has drawn; one more; and
        # those that show that all is well.
        poor = [request(12, place) for place in range(20)]
        weeks.plan[weeks.day(22.5)] = lambda: weeks.label([*poor[:19], *poor[:19]], 0.3)
        weeks.plan[weeks.day(22.75)] = lambda: weeks.label([request(13, place) for place in range(30)], 0.0, "client")
        weeks.plan[weeks.day(23.5)] = lambda: weeks.label(poor[19:], 0.3)
        good = [request(day, place) for day in (17, 18) for place in range(30)]
        weeks.plan[weeks.day(24.5)] = lambda: weeks.label(good, None)
        weeks.live(weeks.day(40))
        assert weeks.told == [
            # Two windows of sudden drift are over; then two good ones.
            (9.5, "ALERT input-drift: resunet version 1"),
            (11.5, "RECOVERED input-drift: resunet version 1"),
            # Nothing of the database that was gone: what it missed was made up. Then nobody asked for two days.
            (21.0, "ALERT silence: resunet"),
            (23.25, "RECOVERED silence: resunet"),
            # Not at the nineteen labels that came twice, nor at those of a client: at the twentieth.
            (23.5, "ALERT labels: resunet version 1"),
            (24.75, "RECOVERED labels: resunet version 1"),
            # The trend shows what no window does, and a day later the windows do.
            (38.5, "ALERT slow-drift: resunet version 1"),
            (39.5, "ALERT input-drift: resunet version 1"),
        ]
        assert mail.inbox.empty()
        assert weeks.refused == 5
        reports = latest_reports(weeks.engine, "resunet", limit=100)
        assert [one.window_end for one in reversed(reports)] == [weeks.day(number) for number in range(-1, 40)]
        assert {one.rows for one in reports if one.window_start >= weeks.day(0)} == {ROWS, 0}
        assert {one.window_start for one in reports if not one.rows and one.window_start >= weeks.day(0)} == {
            weeks.day(20),
            weeks.day(21),
        }
        assert [one.window_start for one in reports if one.verdict == "drift"] == [
            weeks.day(number) for number in (38, 37, 8, 7)
        ]
        during = next(one for one in reports if one.window_end == weeks.day(15))
        assert during.made >= weeks.day(16.75)
    failed = scene.client.search_runs([_experiment(scene)], "attributes.status = 'FAILED'")
    assert [run.info.run_name for run in failed] == ["resunet 1 until 2026-03-17 00:00"]


def _experiment(scene: Scene) -> str:
    found = scene.client.get_experiment_by_name(EXPERIMENT)
    assert found is not None
    return str(found.experiment_id)

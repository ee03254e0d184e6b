"""Weeks on a fake clock, and the exact messages that they lead to: what, when, how often."""

from dataclasses import replace
from pathlib import Path

import pytest
from alert_scene import DAY, DAY_0, HOUR, World, drift, one_place, policies, world
from sqlalchemy import select

from monitoring.alerts.check import check
from monitoring.alerts.policy import Policy, load_policies
from monitoring.alerts.sources import Sources
from records.watch.alerts import Acknowledgement, acknowledge, open_alerts, read_alerts
from records.watch.outbox import alert_messages, messages_of
from records.watch.reports import Verdict

ONE_HOUR = 1 / 24
NEVER = "{repeat: 365d}"
TWICE = drift("for: 2 windows, recover: 2 windows,", NEVER)


@pytest.fixture
def here(url: str) -> World:
    return world(url)


def days(first: int, last: int, verdict: Verdict) -> dict[int, Verdict]:
    return dict.fromkeys(range(first, last + 1), verdict)


def test_weeks_without_drift_tell_nobody_anything(here: World) -> None:
    told = here.week(policies(drift()), days(0, 20, "no drift"))
    assert told == []
    assert [alert.status for alert in read_alerts(here.engine)] == ["quiet"]


def test_a_quiet_week_writes_nothing_from_look_to_look(here: World) -> None:
    here.week(policies(drift()), days(0, 20, "no drift"))
    assert read_alerts(here.engine)[0].revision == 1


def test_sudden_drift_is_told_once_and_its_end_once(here: World) -> None:
    told = here.week(policies(TWICE), {0: "no drift", **days(7, 12, "drift"), 20: "no drift"})
    # The second window of drift is that of day 8, looked at an hour after its end; the second good one that of day 14.
    assert told == [(9 + ONE_HOUR, "firing", "input-drift"), (15 + ONE_HOUR, "recovered", "input-drift")]


def test_a_single_window_of_drift_is_passed_over_where_two_are_asked_for(here: World) -> None:
    assert here.week(policies(TWICE), {0: "no drift", 7: "drift", 9: "drift", 14: "no drift"}) == []
    assert open_alerts(here.engine) == []


def test_windows_with_too_few_rows_neither_break_a_row_nor_lengthen_it(here: World) -> None:
    few: Verdict = "too few rows"
    told = here.week(policies(TWICE), {3: "drift", 4: few, 5: few, 6: "drift", 7: few, 9: few, 11: "no drift"})
    assert told == [(7 + ONE_HOUR, "firing", "input-drift"), (11 + ONE_HOUR, "recovered", "input-drift")]


def test_what_goes_on_is_told_again_each_day_until_somebody_has_seen_it(here: World) -> None:
    rules = policies(drift("recover: 1 window,", "{repeat: 1d}"))
    told = here.week(rules, days(0, 2, "drift"))
    assert told == [(1 + ONE_HOUR, "firing", "input-drift")] + [
        (day + ONE_HOUR, "repeat", "input-drift") for day in (2, 3)
    ]
    [alert] = open_alerts(here.engine)
    assert alert.id is not None
    acknowledge(here.engine, alert.id, Acknowledgement("ada", "the new stain", here.now))
    assert here.week(rules, days(3, 6, "drift")) == []
    assert here.week(rules, {7: "no drift"}) == [(8 + ONE_HOUR, "recovered", "input-drift")]
    assert "acknowledged by ada: the new stain" in messages_of(here.engine, alert.id)[-1].body
    # Another time is another alert, that nobody has seen yet.
    assert here.week(rules, days(9, 10, "drift")) == [
        (10 + ONE_HOUR, "firing", "input-drift"),
        (11 + ONE_HOUR, "repeat", "input-drift"),
    ]


def test_looking_often_tells_nothing_twice(here: World) -> None:
    here.report(0, "drift")
    rules = policies(drift())
    for minute in range(10):
        here.look(rules, DAY_0 + DAY + HOUR + minute * HOUR / 60)
    assert here.told() == [(1 + ONE_HOUR, "firing", "input-drift")]


def test_slow_drift_is_told_by_the_trend_that_no_window_shows(here: World) -> None:
    rules = policies(drift(alert=NEVER), "{name: slow, when: {trend: drift}, actions: [{alert: {repeat: 365d}}]}")
    for day in range(21):
        here.report(day, "no drift")
        here.report(day, "drift" if 10 <= day < 17 else "no drift", kind="trend")
        here.look(rules, DAY_0 + (day + 1) * DAY + HOUR)
    assert here.told() == [(11 + ONE_HOUR, "firing", "slow"), (19 + ONE_HOUR, "recovered", "slow")]


def test_flapping_is_told_ever_more_seldom(here: World) -> None:
    rules = policies(drift("recover: 1 window, flapping: 30d,", NEVER))
    flapping: dict[int, Verdict] = {day: "drift" if day % 2 == 0 else "no drift" for day in range(28)}
    told = here.week(rules, flapping | days(28, 31, "no drift"))
    # After it has fired twice of late, one good window does not make it recovered: two in a row do.
    assert told == [
        (1 + ONE_HOUR, "firing", "input-drift"),
        (2 + ONE_HOUR, "recovered", "input-drift"),
        (3 + ONE_HOUR, "firing", "input-drift"),
        (29 + ONE_HOUR, "recovered", "input-drift"),
    ]


def test_what_flapped_long_ago_recovers_as_fast_as_at_first(here: World) -> None:
    rules = policies(drift("recover: 1 window, flapping: 7d,", NEVER))
    told = here.week(rules, {0: "drift", 2: "drift", 12: "drift", 14: "no drift"})
    assert [(day, event) for day, event, _ in told][-2:] == [
        (13 + ONE_HOUR, "firing"),
        (14 + ONE_HOUR, "recovered"),
    ]


def test_a_report_that_was_made_again_takes_its_alert_back(here: World) -> None:
    rules = policies(drift(alert=NEVER))
    assert here.week(rules, {4: "no drift", 5: "drift"}) == [(6 + ONE_HOUR, "firing", "input-drift")]
    here.report(5, "no drift")
    here.look(rules, DAY_0 + 6 * DAY + 3 * HOUR)
    assert here.told() == [(6 + 3 * ONE_HOUR, "withdrawn", "input-drift")]
    assert here.week(rules, days(6, 9, "no drift")) == []


def test_a_late_report_of_drift_is_told_although_newer_windows_are_good(here: World) -> None:
    rules = policies(drift("recover: 2 windows,", NEVER))
    here.week(rules, days(0, 6, "no drift"))
    here.report(3, "drift")
    here.look(rules, DAY_0 + 7 * DAY + 2 * HOUR)
    assert here.told() == [(7 + 2 * ONE_HOUR, "passed", "input-drift")]
    here.report(6, "drift")
    here.look(rules, DAY_0 + 7 * DAY + 3 * HOUR)
    assert here.told() == [(7 + 3 * ONE_HOUR, "firing", "input-drift")]
    here.look(rules, DAY_0 + 7 * DAY + 4 * HOUR)
    assert here.told() == []


def test_a_report_that_is_made_again_as_it_was_changes_nothing(here: World) -> None:
    rules = policies(TWICE)
    verdicts: dict[int, Verdict] = {0: "no drift", **days(3, 6, "drift"), 10: "no drift"}
    assert len(here.week(rules, verdicts)) == 2
    assert here.week(rules, verdicts) == []


def test_a_checker_that_was_down_tells_what_still_is_and_what_it_missed(here: World) -> None:
    rules = policies(TWICE)
    here.week(rules, days(0, 2, "no drift"))
    for day in (3, 4, 5, 6):
        here.report(day, "drift")
    here.look(rules, DAY_0 + 7 * DAY + HOUR)
    assert here.told() == [(7 + ONE_HOUR, "firing", "input-drift")]
    assert open_alerts(here.engine)[0].since == DAY_0 + 3 * DAY
    for day in (7, 8):  # it recovers and begins again while nobody looks: for people it is one alert
        here.report(day, "no drift")
    for day in (9, 10):
        here.report(day, "drift")
    here.look(rules, DAY_0 + 11 * DAY + HOUR)
    assert here.told() == []
    here.week(rules, days(11, 18, "no drift"))
    assert here.told() == []
    assert [one.event for one in messages_of(here.engine, 1)] == ["firing", "recovered"]
    for day in (19, 20):  # it begins and ends while nobody looks
        here.report(day, "drift")
    for day in range(21, 30):
        here.report(day, "no drift")
    here.look(rules, DAY_0 + 30 * DAY + HOUR)
    here.look(rules, DAY_0 + 30 * DAY + 2 * HOUR)
    assert here.told() == [(30 + ONE_HOUR, "passed", "input-drift")]


def test_who_looks_for_the_first_time_is_told_what_is_and_not_what_was(here: World) -> None:
    for day, verdict in enumerate(["drift", "drift", "no drift", "no drift", "no drift"]):
        here.report(day, verdict)  # type: ignore[arg-type]
    assert here.look(policies(TWICE), DAY_0 + 5 * DAY + HOUR).firing == ()
    here.look(policies(TWICE), DAY_0 + 5 * DAY + 2 * HOUR)
    assert here.told() == []
    here.report(5, "drift", model_version="8")
    here.report(6, "drift", model_version="8")
    here.look(policies(TWICE), DAY_0 + 7 * DAY + HOUR)
    assert here.told() == [(7 + ONE_HOUR, "firing", "input-drift")]


def test_an_old_version_s_alert_is_closed_when_another_one_has_taken_its_place(here: World) -> None:
    rules = policies(drift(alert=NEVER))
    here.week(rules, days(0, 1, "drift"))
    for day in (2, 3, 4):
        here.report(day, "no drift", model_version="8")
        here.look(rules, DAY_0 + (day + 1) * DAY + HOUR)
    # Its first report may come before that of the other one's schedule.
    assert here.told() == [(4 + ONE_HOUR, "ended", "input-drift")]
    assert open_alerts(here.engine) == []


def test_routes_and_lengths_of_windows_have_alerts_of_their_own(here: World) -> None:
    rules = policies(TWICE)
    here.report(3, "drift")
    here.report(3, "drift", routes=("canary",))
    here.report(3, "drift", window_start=DAY_0)
    assert here.look(rules, DAY_0 + 4 * DAY + HOUR).firing == ()
    assert len(open_alerts(here.engine)) == 3


def test_an_outage_is_told_and_its_end(here: World) -> None:
    rules = policies(
        "{name: outage, when: {no_predictions: {during: 2h}}, recover: 30m, actions: [{alert: {repeat: 365d}}]}"
    )
    for half_hour in range(44, 2 * 48 + 4):
        now = DAY_0 + half_hour * HOUR / 2
        if not DAY <= now - DAY_0 < 2 * DAY:
            here.predict(now)
        here.look(rules, now + HOUR / 10)
    # The last one is of half past eleven in the evening; two hours later nobody was answered, and half an hour after
    # somebody is again it has recovered.
    assert here.told() == [
        pytest.approx((1 + 1.6 * ONE_HOUR, "firing", "outage")),
        pytest.approx((2 + 0.6 * ONE_HOUR, "recovered", "outage")),
    ]
    first, last = messages_of(here.engine, 1)
    assert "since 2026-03-02 23:30 UTC" in first.body
    assert "from 2026-03-02 23:30 UTC to 2026-03-04 00:36 UTC" in last.body


def test_a_model_that_never_answered_anybody_has_no_outage(here: World) -> None:
    rules = policies("{name: outage, when: {no_predictions: {during: 2h}}, actions: [{alert: {}}]}")
    assert here.look(rules, DAY_0 + DAY).firing == ()


def test_a_policy_that_is_gone_closes_its_alerts_in_silence_but_a_trial_closes_none(here: World) -> None:
    rules, others = policies(drift()), policies(drift().replace("input-drift", "another"))
    here.report(0, "drift")
    here.look(rules, DAY_0 + DAY + HOUR)
    here.look(others, DAY_0 + DAY + 2 * HOUR)
    assert {alert.policy for alert in open_alerts(here.engine)} == {"input-drift", "another"}
    here.told()
    here.look(others, DAY_0 + DAY + 3 * HOUR, others_are_gone=True)
    assert {alert.policy for alert in open_alerts(here.engine)} == {"another"}
    assert here.told() == []


def test_the_platform_s_own_policies_live_through_a_month(here: World) -> None:
    rules: tuple[Policy, ...] = load_policies(None)
    here.predict(DAY_0, 100)
    verdicts = days(0, 27, "no drift") | days(14, 16, "drift") | days(20, 27, "too few rows")
    for day, verdict in sorted(verdicts.items()):
        dice = None if verdict == "too few rows" else 0.6 if 8 <= day < 11 else 0.9
        here.report(day, verdict, estimated_dice=dice)
        if day < 19:
            here.predict(DAY_0 + (day + 1) * DAY, 100)
        if day == 5:
            here.predict(DAY_0 + 6 * DAY, 30, status="refused")
        here.sources = replace(here.sources, share_free=lambda _path, day=day: 0.05 if day == 12 else 0.5)
        for hour in (1, 2):
            here.look(rules, DAY_0 + (day + 1) * DAY + hour * HOUR)
    told = [(int(day), event, policy) for day, event, policy in here.told()]
    assert [one for one in told if one[1:] != ("repeat", "no-predictions")] == [
        (6, "firing", "refused-images"),
        (7, "recovered", "refused-images"),
        (10, "firing", "estimated-dice"),
        (11, "repeat", "estimated-dice"),
        (13, "recovered", "estimated-dice"),
        (13, "firing", "disk"),
        (14, "recovered", "disk"),
        (16, "firing", "input-drift"),
        (17, "repeat", "input-drift"),
        (19, "recovered", "input-drift"),
        (22, "firing", "no-predictions"),
        (27, "firing", "too-few-rows"),
    ]
    assert [day for day, event, policy in told if (event, policy) == ("repeat", "no-predictions")] == [*range(23, 29)]


def test_a_message_is_settled_history_after_ninety_days(here: World) -> None:
    rules = policies(drift(alert=NEVER))
    here.report(0, "drift")
    here.look(rules, DAY_0 + DAY + HOUR)
    with here.engine.begin() as connection:
        connection.execute(alert_messages.update().values(outcome="delivered", settled=here.now))
    here.look(rules, DAY_0 + 90 * DAY)
    with here.engine.connect() as connection:
        assert len(connection.execute(select(alert_messages)).all()) == 1
    here.look(rules, DAY_0 + 92 * DAY)
    with here.engine.connect() as connection:
        assert connection.execute(select(alert_messages)).all() == []


def test_what_cannot_be_looked_at_is_said_and_the_rest_is_looked_at(here: World) -> None:
    def broken(path: Path) -> float:
        raise OSError(5, "Input/output error")

    rules = policies("{name: disk, when: {disk_free: {below: 0.1}}, actions: [{alert: {}}]}", drift())
    sources = Sources(here.engine, Path(), share_free=broken)
    here.report(0, "drift")
    checked = check(sources, rules, one_place, DAY_0 + DAY + HOUR)
    assert [alert.policy for alert in checked.firing] == ["input-drift"]
    assert len(checked.problems) == 1 and "Input/output error; name another `path`" in checked.problems[0]

"""Promotion against a real tracking server: the gates, and what a passed or a failed one changes."""

import re
import warnings
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from commands import typed
from promotion_desk import ADA, Desk
from small_versions import evaluation, scores, with_digests

from records import audit
from resunet.errors import RefusedError, SettingsError


def test_stage_and_alias_move_together_and_the_old_version_is_archived(desk: Desk) -> None:
    first, second = desk.version(0.90), desk.version(0.91)
    notices = desk.promote(first)
    assert any("anyone who can reach this server can move stages past these gates" in n for n in notices)
    desk.promote(second, "staging")
    assert (desk.stages(), desk.aliases()) == (
        {first: "Production", second: "Staging"},
        {"champion": first, "challenger": second},
    )
    desk.promote(second)
    assert (desk.stages(), desk.aliases()) == (
        {first: "Archived", second: "Production"},
        {"champion": second},
    )
    assert desk.status().mismatches == []
    assert desk.rows() == [
        ("promote", first, "None", "Production"),
        ("promote", second, "None", "Staging"),
        ("displace", first, "Production", "Archived"),
        ("promote", second, "Staging", "Production"),
    ]
    last = audit.history(desk.engine, desk.name)[-1]
    assert last.gates["verdicts"]["champion"]["outcome"] == "pass"
    assert last.reason == "why not"
    assert last.digest == desk.client.get_model_version(desk.name, second).tags["version_digest"]
    assert audit.verify(desk.engine) is None


def test_promotion_silences_the_stage_deprecation_and_no_other_warning(desk: Desk) -> None:
    version = desk.version()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        desk.promote(version)
        warnings.warn("another", FutureWarning, stacklevel=1)
    assert [str(w.message) for w in caught if issubclass(w.category, FutureWarning)] == ["another"]


def test_a_version_below_the_floor_stays_out_of_production_but_may_be_staged(desk: Desk) -> None:
    version = desk.version(0.6)
    with pytest.raises(RefusedError, match=r"(?s)floor: fail: mean Dice 0\.6000 < 0\.7000.*what to do"):
        desk.promote(version)
    assert (desk.stages(), desk.aliases()) == ({version: "None"}, {})
    assert desk.rows() == [("refuse", version, "None", "Production")]
    desk.promote(version, "Staging")
    assert desk.stages() == {version: "Staging"}


def test_a_version_that_was_never_evaluated_goes_nowhere(desk: Desk) -> None:
    version = desk.version(None)
    with pytest.raises(RefusedError, match=r"evaluated: fail: evaluation\.json is missing"):
        desk.promote(version, "Staging")
    assert desk.stages() == {version: "None"}


@pytest.mark.parametrize(("dice", "goes"), [(0.895, True), (0.885, False)])
def test_a_version_may_lose_no_more_than_the_margin_against_the_live_one(desk: Desk, dice: float, goes: bool) -> None:
    first, second = desk.version(0.9), desk.version(dice)
    desk.promote(first)
    if goes:
        desk.promote(second)
    else:
        with pytest.raises(RefusedError, match=r"champion: fail: Dice -0\.0150 \[.*same 12 test images"):
            desk.promote(second)
    assert desk.aliases() == {"champion": second if goes else first}


def test_another_test_split_is_undecided_and_blocks(desk: Desk) -> None:
    first, second = desk.version(0.8, "sha256:a"), desk.version(0.95, "sha256:b")
    desk.promote(first)
    told = rf"(?s)not measured yet \(version {first} is live\): champion.*what to do: measure it: .* check "
    with pytest.raises(RefusedError, match=told):
        desk.promote(second)
    assert desk.aliases() == {"champion": first}


def test_measuring_the_live_version_on_the_new_split_decides(desk: Desk) -> None:
    first, second, other = desk.version(0.8, "sha256:a"), desk.version(0.95, "sha256:b"), desk.version(0.1, "sha256:c")
    desk.promote(first)
    desk.plant(other, evaluation(scores(0.9), "sha256:b"))
    with pytest.raises(RefusedError, match=r"not measured yet.*champion"):
        desk.promote(second)
    desk.plant(first, evaluation(scores(0.9), "sha256:b"))
    desk.promote(second)
    assert desk.aliases() == {"champion": second}
    said = audit.history(desk.engine, desk.name)[-1].gates["verdicts"]["champion"]["evidence"]
    assert "Dice +0.0500" in said


def test_a_verdict_beside_one_live_version_does_not_promote_over_another(desk: Desk) -> None:
    first, second = desk.version(0.90, "sha256:a"), desk.version(0.95, "sha256:a")
    third = desk.version(0.92, "sha256:c")
    desk.promote(first)
    desk.plant(first, evaluation(scores(0.90), "sha256:c"))
    assert desk.life.check(desk.name, third, "Production", ADA).allowed
    desk.promote(second)
    with pytest.raises(RefusedError, match=rf"not measured yet \(version {second} is live\): champion"):
        desk.promote(third)
    assert desk.aliases() == {"champion": second}


def test_no_move_is_made_beside_another_live_version_than_was_compared_with(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    desk.promote(one)
    desk.promote(two)
    shelf, before = desk.life.shelf, (desk.stages(), desk.aliases())
    for live in (one, None):
        with pytest.raises(RefusedError, match=f"version {two} of .* is live now; {three} was compared with"):
            shelf.move(desk.name, three, "Production", live=live)
    assert (desk.stages(), desk.aliases()) == before
    shelf.move(desk.name, three, "Production", live=two)
    assert desk.aliases() == {"champion": three}


def test_a_retrain_on_a_test_split_that_grew_is_compared_and_promoted(desk: Desk) -> None:
    first = desk.measured(with_digests(evaluation(scores(0.9), "sha256:a")))
    grown = {**scores(0.91), "images/later.png": 0.5}
    second = desk.measured(with_digests(evaluation(grown, "sha256:b")))
    desk.plant(first, with_digests(evaluation(scores(0.9), "sha256:b")))
    desk.promote(first)
    desk.promote(second)
    assert desk.aliases() == {"champion": second}


def test_promoting_to_the_stage_it_has_says_so_and_moves_nothing(desk: Desk) -> None:
    version = desk.version()
    desk.promote(version)
    assert "already" in desk.promote(f"0{version}", "PRODUCTION")[0]
    assert len(desk.rows()) == 1


def test_the_live_version_is_not_moved_to_staging(desk: Desk) -> None:
    version = desk.version()
    desk.promote(version)
    with pytest.raises(RefusedError, match="is live"):
        desk.promote(version, "Staging")
    assert desk.stages() == {version: "Production"}


def test_wrong_names_are_answered_with_those_that_exist(desk: Desk) -> None:
    version = desk.version()
    with pytest.raises(SettingsError, match=f"has no version '7'; there is: {version}"):
        desk.promote("7")
    with pytest.raises(SettingsError, match="choose Staging or Production"):
        desk.promote(version, "Prod")
    with pytest.raises(SettingsError, match=f"no registered model 'resnet'; there is: .*{re.escape(desk.name)}"):
        desk.life.promote("resnet", "1", "Staging", ADA, "")


def test_promotion_says_where_it_looked_when_the_records_know_nothing_of_what_is_live(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.91)
    assert not any("tell of no decision" in notice for notice in desk.promote(one))
    desk.other_records(desk.folder / "new.db")
    notices = desk.promote(two)
    (told,) = [notice for notice in notices if "tell of no decision" in notice]
    assert f"version {one} is live" in told and "new.db" in told and str(desk.settings.home) in told


def table_of(printed: str) -> tuple[list[str], dict[str, list[str]]]:
    """A table's headings, and its rows by their first cell; a cell may go on in the lines below."""
    (headings,) = [line for line in printed.splitlines() if line.startswith("┃")]
    rows: list[list[str]] = []
    for line in printed.splitlines():
        if line.startswith("│"):
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            if cells[0]:
                rows.append(cells)
            else:
                rows[-1] = [f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells, strict=True)]
    return [cell.strip() for cell in headings.strip("┃").split("┃")], {first: rest for first, *rest in rows}


def test_the_commands_promote_refuse_and_list(desk: Desk) -> None:
    type_in = partial(typed, desk.environment())
    good, bad = desk.version(0.9), desk.version(0.5)
    done = desk.command("promote", desk.name, good, "Production", "--reason", "it is good", "--actor", "grace")
    assert done.returncode == 0, done.stderr
    assert "FutureWarning" not in done.stderr
    assert "is in Production" in done.stdout
    assert "anyone who can reach this server can move stages past these gates" in done.stdout
    refused = desk.command("promote", desk.name, bad, "Production")
    assert refused.returncode == 2
    assert "floor: fail" in refused.stderr
    assert "Traceback" not in refused.stderr
    checked = desk.command("check", desk.name, bad)
    assert checked.returncode == 3, checked.stderr
    headings, gates = table_of(checked.stdout)
    assert headings == ["gate", "verdict", "evidence", "what to do"]
    assert gates["intact"][0] == "pass"
    verdict, evidence, advice = gates["floor"]
    assert verdict == "fail" and evidence.startswith("mean Dice 0.5000 < 0.7000") and "train longer" in advice
    assert f"version {bad} of {desk.name} may not go to Production beside version {good}: floor" in checked.stdout
    again = type_in("promote", desk.name, good, "Production")
    assert (again.returncode, "already" in again.stdout) == (0, True)
    listed = type_in("audit", desk.name).stdout
    assert "grace" in listed
    assert "it is good" in listed
    assert "refuse" in listed
    verified = type_in("audit", "verify").stdout
    assert "holds: 2 rows" in verified
    noted = re.findall(r"--noted (\S+)", verified)[0]
    assert type_in("promote", desk.name, bad, "Production").returncode == 2
    assert "holds: 3 rows" in type_in("audit", "verify", "--noted", noted).stdout
    forged = type_in("audit", "verify", "--noted", f"2:{'0' * 64}")
    assert (forged.returncode, "broken at row 2" in forged.stderr) == (2, True)
    assert "SEQ:HASH" in type_in("audit", "verify", "--noted", "two").stderr
    assert "0.9000" in type_in("show", desk.name, good).stdout
    table = type_in("status", desk.name).stdout
    assert "@champion" in table
    assert "01234567" in table


def test_the_clock_that_is_passed_in_dates_the_row(desk: Desk) -> None:
    version = desk.version()
    moment = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    ticks: list[datetime] = []

    def clock() -> datetime:
        ticks.append(moment + timedelta(seconds=len(ticks)))
        return ticks[-1]

    desk.clock = clock
    desk.promote(version, "Staging")
    (row,) = audit.history(desk.engine, desk.name)
    assert row.when in ticks

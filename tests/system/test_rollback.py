"""Rollback against a real tracking server: where it goes, and where it refuses to go."""

import pytest
from promotion_desk import Desk, alter

from records import audit
from resunet.errors import RefusedError


def test_rollback_walks_back_and_never_to_what_was_rolled_back_from(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    for version in (one, two, three):
        desk.promote(version)
    assert desk.rollback() == two
    assert (desk.stages()[three], desk.aliases()) == ("Archived", {"champion": two})
    assert desk.rollback() == one
    with pytest.raises(RefusedError, match="no version to go back to"):
        desk.rollback()
    assert desk.aliases() == {"champion": one}
    desk.promote(three)
    assert desk.rollback() == one
    assert audit.verify(desk.engine) is None


def test_rollback_never_takes_a_version_that_was_only_staged(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    desk.promote(one, "Staging")
    desk.promote(two, "Staging")
    desk.promote(three)
    assert desk.stages()[one] == "Archived"
    with pytest.raises(RefusedError, match="no version to go back to"):
        desk.rollback()


def test_rollback_refuses_a_version_whose_files_were_altered(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.91)
    desk.promote(one)
    desk.promote(two)
    alter(desk, one)
    with pytest.raises(RefusedError, match=r"same_bytes: fail.*model\.onnx"):
        desk.rollback()
    assert desk.aliases() == {"champion": two}


def test_rollback_without_records_names_the_place_and_takes_only_what_it_is_told(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    for version in (one, two, three):
        desk.promote(version)
    desk.other_records(desk.folder / "new.db")
    told = rf"(?s)know of no version .* before version {three}; looked in .*new\.db.*RESUNET_HOME.*--version N"
    with pytest.raises(RefusedError, match=told):
        desk.rollback()
    assert desk.rows() == []
    assert desk.aliases() == {"champion": three}
    assert desk.rollback(one) == one
    assert desk.aliases() == {"champion": one}


def test_rollback_to_a_version_by_number_takes_one_that_was_live_and_no_other(desk: Desk) -> None:
    one, two, three, staged = (desk.version(dice) for dice in (0.90, 0.91, 0.92, 0.93))
    for version in (one, two, three):
        desk.promote(version)
    desk.promote(staged, "Staging")
    clicked = desk.version(0.94)
    desk.click(clicked, "Archived")
    for refused in (staged, clicked, three):
        with pytest.raises(RefusedError, match="asks its gates"):
            desk.rollback(refused)
    done = desk.command("rollback", desk.name, "--version", one)
    assert done.returncode == 0, done.stderr
    assert desk.aliases()["champion"] == one


def test_rollback_never_takes_a_version_that_was_archived_by_command(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    for version in (one, two):
        desk.promote(version)
    desk.archive(two)
    desk.promote(three)
    assert desk.rollback() == one

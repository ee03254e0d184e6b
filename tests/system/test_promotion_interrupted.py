"""Stages that were moved by another hand, killed half-way, or asked for by two at once; and their mending."""

import signal
import subprocess
import sys

import pytest
from filelock import FileLock
from promotion_desk import ADA, ROOT, Desk

from records import audit
from registry.decisions import LOCK_FILE
from resunet.errors import RecordsError


def test_a_click_in_the_ui_is_shown_mended_and_remembered(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.91)
    desk.click(one, "Production")
    found = desk.status()
    assert found.mismatches == [
        f"@champion is unset, but version {one} is in Production",
        f"version {one} is in Production, the records say None",
    ]
    assert any("anyone who can reach this server" in notice for notice in found.notices)
    shown = desk.command("status", desk.name, "--mend")
    assert shown.returncode == 0, shown.stderr
    assert desk.aliases() == {"champion": one}
    assert desk.status().mismatches == []
    desk.promote(two)
    assert desk.rows()[0] == ("observed", one, "None", "Production")
    assert desk.rollback() == one


def test_two_versions_in_production_are_shown_and_a_promotion_leaves_one(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.90)
    desk.promote(one)
    desk.click(two, "Production")
    assert any("are in Production" in text for text in desk.status().mismatches)
    desk.promote(one)
    assert (desk.stages(), desk.aliases()) == ({one: "Production", two: "Archived"}, {"champion": one})


PROMOTE_AND_DIE = """
import os, signal, sys
from mlflow import MlflowClient
from registry.desk import local_desk
from registry.people import Actor

class Dying(MlflowClient):
    def {method}(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

local_desk(Dying()).promote(sys.argv[1], sys.argv[2], "Production", Actor("ada"), "")
"""


@pytest.mark.parametrize("before", ["Staging", "rolled back from"])
def test_a_version_whose_promotion_was_killed_before_it_moved_is_not_gone_back_to(desk: Desk, before: str) -> None:
    one, two, three, four = (desk.version(dice) for dice in (0.90, 0.91, 0.92, 0.93))
    desk.promote(one)
    if before == "Staging":
        desk.promote(two, "Staging")
        desk.archive(two)
    else:
        desk.promote(two)
        desk.rollback()
    script = PROMOTE_AND_DIE.format(method="transition_model_version_stage")
    command = [sys.executable, "-c", script, desk.name, two]
    assert subprocess.run(command, cwd=ROOT, env=desk.environment(), timeout=120).returncode == -signal.SIGKILL
    assert desk.stages()[two] == "Archived"
    desk.promote(three)
    desk.promote(four)
    assert desk.rollback() == three
    assert desk.rollback() == one


@pytest.mark.parametrize(
    ("method", "moved"),
    [("set_registered_model_alias", True), ("transition_model_version_stage", False)],
)
def test_a_promotion_killed_half_way_is_shown_and_the_next_command_mends_it(
    desk: Desk, method: str, moved: bool
) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    desk.promote(one)
    died = subprocess.run(
        [sys.executable, "-c", PROMOTE_AND_DIE.format(method=method), desk.name, two],
        cwd=ROOT,
        env=desk.environment(),
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL
    live = two if moved else one
    assert desk.stages()[live] == "Production"
    assert desk.aliases() == {"champion": one}
    shown = desk.command("status", desk.name)
    assert "mismatch:" in shown.stdout
    assert f"status {desk.name} --mend" in shown.stdout
    desk.promote(three, "Staging")
    assert desk.aliases() == {"champion": live, "challenger": three}
    assert desk.status().mismatches == []
    desk.promote(three)
    assert desk.rollback() == live


def test_two_promotions_at_once_leave_exactly_one_live_version(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.95), desk.version(0.92)
    desk.promote(one)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "registry", "promote", desk.name, version, "Production"],
            cwd=ROOT,
            env=desk.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for version in (two, three)
    ]
    ended = {process.communicate(timeout=120)[0]: process.returncode for process in both}
    live = [version for version, stage in desk.stages().items() if stage == "Production"]
    # The lesser one may go live first, but never over the better one: it is judged against who is live then.
    assert live == [two], ended
    assert desk.aliases() == {"champion": two}
    assert sorted(ended.values()) in ([0, 0], [0, 2])
    assert audit.verify(desk.engine) is None
    assert desk.status().mismatches == []


def test_no_command_moves_anything_while_another_holds_the_lock(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.91)
    desk.promote(one)
    before = desk.stages(), desk.aliases(), desk.rows()
    desk.settings = desk.settings.model_copy(update={"lock_seconds": 0.05})
    life = desk.life
    with FileLock(desk.settings.home / LOCK_FILE):
        for command in (
            lambda: life.promote(desk.name, two, "Production", ADA, ""),
            lambda: life.rollback(desk.name, ADA, ""),
            lambda: life.archive(desk.name, one, ADA, ""),
            lambda: life.mend(desk.name, ADA),
        ):
            with pytest.raises(RecordsError, match="another change of stage"):
                command()
    assert (desk.stages(), desk.aliases(), desk.rows()) == before

"""A person's word on a version: it counts while they have the role, and is given after what was half done is mended."""

import pytest
from reported_versions import NAME, POLICY, ReportShelf

from registry.decisions import Decision, utc_now
from registry.history import DISPLACED, PROMOTED
from registry.people import Actor
from resunet.errors import RefusedError

ADA, MARY = Actor("ada", authenticated=True), Actor("mary", authenticated=True)
ASKS = POLICY.replace("signed: }\nroles", "signed: , approved: }\nroles")


def test_an_approval_ends_with_the_role(shelf: ReportShelf) -> None:
    assert "approved: }" in ASKS
    shelf.policy = ASKS.replace("approve: [grace]", "approve: [mary]")
    version = shelf.version()
    shelf.life.approve(NAME, version, "Production", MARY, "looked at the worst twenty")
    assert shelf.life.check(NAME, version, "Production", ADA).allowed
    shelf.policy = ASKS
    judgement = shelf.life.check(NAME, version, "Production", ADA)
    assert [(one.gate, one.verdict.outcome) for one in judgement.blocking] == [("approved", "undecided")]


def test_who_has_not_the_role_approves_nothing(shelf: ReportShelf) -> None:
    version = shelf.version()
    for actor, told in ((MARY, "has not the role `approve`"), (Actor("grace"), "a server that asks for passwords")):
        with pytest.raises(RefusedError, match=told):
            shelf.life.approve(NAME, version, "Production", actor, "")
    assert shelf.show(version).approvals == []


def test_an_approval_after_a_promotion_that_was_killed_does_not_make_it_one_that_happened(shelf: ReportShelf) -> None:
    first, second = shelf.version(0.90), shelf.version(0.91)
    shelf.promote(first)
    shelf.promote(second)
    shelf.life.rollback(NAME, ADA, "false positives")
    for version, action, old, new in (
        (first, DISPLACED, "Production", "Archived"),
        (second, PROMOTED, "Archived", "Production"),
    ):
        Decision(shelf.engine, NAME, version, old, new, "ada", "", utc_now).write(action, shelf.digest(version))
    shelf.policy = POLICY.replace("approve: [grace]", "approve: [mary]")
    shelf.life.approve(NAME, first, "Production", MARY, "")
    with pytest.raises(RefusedError, match="no version to go back to"):
        shelf.life.rollback(NAME, ADA, "")

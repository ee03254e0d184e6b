"""The gates on files, data and people: `intact`, `signed`, `evaluated`, `data` and `approved`."""

from datetime import UTC, datetime

import pytest
from gate_evidence import LISTING, ask, data_check, evidence, lineage, scores, version

from registry.evidence import VERSION_FOLDER, Approval, Evidence

CHECK = "python -m registry check resunet 7 --stage Production"
BROKEN = "model.onnx is not what was listed"


def of(*documents: object, **changes: object) -> Evidence:
    """Evidence of a version with these facts."""
    return evidence(candidate=version("7", *documents, **changes))  # type: ignore[arg-type]


def test_files_that_are_as_listed_are_intact() -> None:
    verdict = ask("intact", evidence())
    assert (verdict.outcome, verdict.evidence) == ("pass", "3 files as listed, sha256:7")


def test_damaged_files_are_not_intact_and_are_nobodys() -> None:
    verdict = ask("intact", of(damage=BROKEN))
    assert (verdict.outcome, verdict.evidence) == ("fail", BROKEN)
    assert "find out who changed it" in verdict.advice
    # Nothing can be said of a signature then: it is not "not applicable", which would let it through.
    assert ask("signed", of(damage=BROKEN)).outcome == "fail"
    assert ask("signed", of(damage=BROKEN, signer="key 0123")).outcome == "fail"


def test_signed_names_the_signer() -> None:
    verdict = ask("signed", of(signer="key 0123456789ab"))
    assert (verdict.outcome, verdict.evidence) == ("pass", "signed by key 0123456789ab, which is trusted here")


def test_an_untrusted_signature_fails() -> None:
    verdict = ask("signed", of(unsigned="there is no model.sig"))
    assert (verdict.outcome, verdict.evidence) == ("fail", "there is no model.sig")
    assert "RESUNET_SIGNING_KEY" in verdict.advice


def test_where_nobody_is_trusted_signatures_are_not_applicable() -> None:
    verdict = ask("signed", evidence())
    assert (verdict.outcome, verdict.evidence) == ("not_applicable", "no signer is trusted here")
    assert "RESUNET_TRUSTED_KEY" in verdict.advice


def test_evaluated_tells_on_what_and_how_often_this_split_was_used() -> None:
    verdict = ask("evaluated", evidence(lineage(), uses=4))
    assert verdict.outcome == "pass"
    assert verdict.evidence == (
        "30 test images through model.onnx (fp32): Dice 0.9000 [0.8800, 0.9200]; none is among the 100 that it learnt "
        "from; this test split has judged 4 versions"
    )
    assert ask("evaluated", evidence(lineage())).evidence.endswith("this test split has judged 1 version")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"same": ["images/1.png", "images/2.png"]}, "2 test images: images/1.png, images/2.png"),
        ({"grouped": ["images/3.png"]}, "1 test image: images/3.png"),
        ({"changed": [("images/4.png", "images/9.png")]}, "1 test image: images/4.png = images/9.png"),
    ],
)
def test_a_test_image_that_was_learnt_from_fails_the_gate(changes: dict[str, object], named: str) -> None:
    verdict = ask("evaluated", evidence(lineage(**changes)))
    assert (verdict.outcome, verdict.evidence) == ("fail", f"it learnt from {named}")
    assert verdict.advice.startswith("train the version anew")


def test_what_an_ancestor_learnt_from_counts_and_many_images_are_not_all_listed() -> None:
    same = [f"images/{number}.png" for number in range(5)]
    verdict = ask("evaluated", evidence(lineage(same=same, ancestors=["3", "4"])))
    assert verdict.evidence == (
        "it or versions 3, 4 learnt from 5 test images: images/0.png, images/1.png, images/2.png and 2 more"
    )


def test_images_that_are_alike_by_a_hash_alone_are_shown_and_do_not_fail() -> None:
    verdict = ask("evaluated", evidence(lineage(doubtful=[("images/1.png", "images/9.png")])))
    assert verdict.outcome == "pass"
    assert "1 pair alike by a hash alone: look at them" in verdict.evidence


def test_without_lineage_evaluated_is_undecided() -> None:
    verdict = ask("evaluated", evidence())
    assert verdict.outcome == "undecided"
    assert verdict.evidence == "not measured: which of its test images it or an ancestor learnt from"
    assert verdict.advice == f"measure it: {CHECK}"


def test_without_an_evaluation_nothing_is_guessed() -> None:
    verdict = ask("evaluated", of(lineage(), evaluation=None, problem="evaluation.json is missing"))
    assert (verdict.outcome, verdict.evidence) == ("fail", "evaluation.json is missing")
    assert ask("evaluated", of(lineage(), evaluation=None)).evidence == "there is no evaluation.json"


@pytest.mark.parametrize("name", ["model.onnx", "evaluation.json"])
def test_an_evaluation_of_files_that_are_not_listed_does_not_count(name: str) -> None:
    listing = {path: digest for path, digest in LISTING.items() if path != f"{VERSION_FOLDER}/{name}"}
    verdict = ask("evaluated", of(lineage(), listing=listing))
    assert (verdict.outcome, verdict.evidence) == ("fail", f"{name} is not in the version's list of digests")


def test_an_evaluation_of_a_part_of_the_test_images_does_not_count() -> None:
    verdict = ask("evaluated", of(lineage(), evaluation=scores([0.99] * 20)))
    assert (verdict.outcome, verdict.evidence) == ("fail", "it was tested on 20 of the 30 test images that it lists")


def test_data_that_is_as_listed_passes() -> None:
    verdict = ask("data", evidence(data_check(remarks=["small images: 3 files"])))
    assert verdict.outcome == "pass"
    assert verdict.evidence == "nuclei: 120 images as in the manifest, nothing to refuse; 1 remark"


@pytest.mark.parametrize(
    ("changes", "told", "advice"),
    [
        (
            {"complete": False, "differing": ["a.png", "b.png"]},
            "2 images of the manifest missing or changed: a.png, b.png",
            "bring the images back",
        ),
        ({"refusals": ["empty masks: 4 files"]}, "empty masks: 4 files", "prepare --data"),
        (
            {"near_test": [("a.png", "b.png")]},
            "1 test image nearly the same as one trained on: a.png ~ b.png",
            "--mend",
        ),
    ],
)
def test_data_fails_and_says_by_which_files(changes: dict[str, object], told: str, advice: str) -> None:
    verdict = ask("data", evidence(data_check(**changes)))
    assert (verdict.outcome, verdict.evidence) == ("fail", f"nuclei: {told}")
    assert advice in verdict.advice


def test_data_that_was_not_looked_at_is_undecided() -> None:
    verdict = ask("data", evidence())
    assert (verdict.outcome, verdict.advice) == ("undecided", f"measure it: {CHECK}")


def asked(*who: str, requester: str = "ada", checker: str = "grace", authenticated: bool = True) -> Evidence:
    """A promotion that somebody asks for and these people have approved."""
    given = [Approval(name, datetime(2026, 1, 1, tzinfo=UTC), "looked at it") for name in who]
    return evidence(approvals=given, requester=requester, checker=checker, authenticated=authenticated)


def test_approved_by_somebody_who_neither_asks_nor_checked() -> None:
    verdict = ask("approved", asked("mary"))
    assert (verdict.outcome, verdict.evidence) == ("pass", "measured for grace, approved by mary")


@pytest.mark.parametrize("who", [(), ("ada",), ("grace",), ("ada", "grace")])
def test_nobody_approves_what_they_ask_for_or_checked(who: tuple[str, ...]) -> None:
    verdict = ask("approved", asked(*who))
    assert verdict.outcome == "undecided"
    assert verdict.evidence.startswith("0 of 1 approvals")
    assert all(name in verdict.evidence for name in who)
    assert "python -m registry approve resunet 7 --stage Production" in verdict.advice


def test_whoever_had_it_measured_does_not_promote_it() -> None:
    verdict = ask("approved", asked("mary", requester="grace"))
    assert (verdict.outcome, verdict.advice) == ("fail", "let somebody else promote it")
    assert verdict.evidence == "grace had it measured and cannot promote it too"


def test_as_many_different_people_approve_as_the_policy_wants() -> None:
    assert ask("approved", asked("mary", "mary"), approvals=2).evidence == "1 of 2 approvals"
    assert ask("approved", asked("mary", "emmy"), approvals=2).outcome == "pass"


def test_names_that_nobody_proved_approve_nothing() -> None:
    verdict = ask("approved", asked("mary", authenticated=False))
    assert verdict.outcome == "fail"
    assert "--app-name lifecycle-auth" in verdict.advice


def test_what_nobody_had_measured_cannot_be_approved() -> None:
    verdict = ask("approved", asked("mary", checker=""))
    assert (verdict.outcome, verdict.advice) == ("undecided", f"measure it: {CHECK}")

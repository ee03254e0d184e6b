"""`registry changelog`: release notes tell what went live, by whom, why, what changed, and what did not go well."""

import warnings

import numpy as np
import pytest
from reported_versions import GRACE, NAME, POLICY, ReportShelf
from small_versions import evaluation, with_digests

from registry.evidence import Evaluation
from registry.people import Actor
from registry.reports.changelog import changelog, escaped
from resunet.errors import RefusedError, SettingsError


def noisy(dice: float, seed: int) -> Evaluation:
    rng = np.random.default_rng(seed)
    values = {f"images/{place:02d}.png": float(dice + rng.normal(0, 0.02)) for place in range(12)}
    return with_digests(evaluation(values, "sha256:a"))


def written(shelf: ReportShelf, since: str = "") -> str:
    return changelog(shelf.client, shelf.reader, NAME, since)


def sections(text: str) -> dict[str, str]:
    """The text below each heading, in order."""
    parts = text.split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def test_the_first_release_tells_who_when_why_and_how_good(shelf: ReportShelf) -> None:
    shelf.promote(shelf.version(noisy(0.9, 1)), "the first one")
    text = written(shelf)
    assert text.startswith("# Release notes of resunet\n")
    (release,) = sections(text).items()
    assert release[0] == "Version 1 went live"
    assert "UTC, by ada: the first one" in release[1]
    assert "- Dice 0.8" in release[1] or "- Dice 0.9" in release[1]
    assert "on 12 test images" in release[1]
    assert "against" not in release[1]


def test_a_later_release_tells_what_changed_against_the_one_before(shelf: ReportShelf) -> None:
    first = shelf.version(noisy(0.85, 1), {"width": "8", "seed": "0", "data": "/a"})
    second = shelf.version(
        noisy(0.9, 2),
        {"width": "16", "seed": "0", "data": "/b"},
        {"train": 80, "validation": 14, "test": 12},
        fingerprint="sha256:newdata",
    )
    shelf.promote(first)
    shelf.promote(second, "more data")
    told = sections(written(shelf))["Version 2 went live, in place of version 1"]
    difference = next(line for line in told.splitlines() if "against version 1 on the same 12 images" in line)
    assert "Dice +0.0" in difference and "[+0.0" in difference
    assert "- data: data → newdata: images train 63 → 80, validation 14 → 14, test 12 → 12" in told
    assert "- settings: `width` 8 → 16" in told
    assert "/b" not in told


def test_what_stayed_the_same_is_said_to_be_so(shelf: ReportShelf) -> None:
    for version in (shelf.version(noisy(0.85, 1)), shelf.version(noisy(0.9, 2))):
        shelf.promote(version)
    told = sections(written(shelf))["Version 2 went live, in place of version 1"]
    assert "- data: as version 1 (data)" in told
    assert "- settings: as version 1" in told


def test_a_slice_that_became_worse_is_told(shelf: ReportShelf) -> None:
    def with_slice(measured: Evaluation, lost: float) -> Evaluation:
        images = [
            s.model_copy(update={"slices": ["stain=a"], "dice": s.dice - lost}) if place < 6 else s
            for place, s in enumerate(measured.per_image)
        ]
        mean = sum(s.dice for s in images) / len(images)
        overall = {"dice": measured.overall["dice"].model_copy(update={"mean": mean})}
        part = {"stain=a": {"images": 6, "metrics": {"dice": measured.overall["dice"]}}}
        return Evaluation.model_validate(
            measured.model_dump() | {"per_image": [s.model_dump() for s in images], "overall": overall, "slices": part}
        )

    shelf.policy = POLICY.replace("margin: 0.01", "margin: 0.5")
    shelf.promote(shelf.version(with_slice(noisy(0.8, 1), 0.0)))
    shelf.promote(shelf.version(with_slice(noisy(0.95, 1), 0.2)))
    told = sections(written(shelf))["Version 2 went live, in place of version 1"]
    assert "- worse than version 1 on the slice stain=a, 6 images: -0.0500" in told


def test_rollbacks_and_refusals_are_told_too_newest_first(shelf: ReportShelf) -> None:
    first, second, worse = (shelf.version(noisy(dice, seed)) for seed, dice in ((1, 0.85), (2, 0.9), (3, 0.5)))
    shelf.promote(first)
    shelf.promote(second)
    with pytest.raises(RefusedError):
        shelf.promote(worse)
    # No gate was asked about this one.
    with pytest.raises(RefusedError, match="has not the role"):
        shelf.life.approve(NAME, worse, "Production", Actor("mary", authenticated=True), "")
    shelf.life.rollback(NAME, GRACE, "false positives")
    found = sections(written(shelf))
    assert list(found) == [
        "Rolled back to version 1, in place of version 2",
        "Version 3 was refused",
        "Version 2 went live, in place of version 1",
        "Version 1 went live",
    ]
    assert "by grace: false positives" in found["Rolled back to version 1, in place of version 2"]
    assert "- floor: fail: mean Dice 0.4979" in found["Version 3 was refused"]
    assert "intact" not in found["Version 3 was refused"]


def test_an_override_is_loud(shelf: ReportShelf) -> None:
    shelf.promote(shelf.version(noisy(0.5, 3)), "the hospital waits", override=True)
    told = sections(written(shelf))["Version 1 went live"]
    assert "by grace: the hospital waits" in told
    assert "**Gates were overridden:**" in told
    assert "- floor: fail: mean Dice 0.4979" in told


def test_taking_the_live_version_out_is_told_and_others_are_not(shelf: ReportShelf) -> None:
    first, second = shelf.version(noisy(0.85, 1)), shelf.version(noisy(0.9, 2))
    shelf.promote(first)
    shelf.life.archive(NAME, second, Actor("ada"), "not needed")
    shelf.life.archive(NAME, first, Actor("ada"), "it found too much")
    shelf.life.promote(NAME, second, "Staging", Actor("ada"), "")
    shelf.promote(second)
    found = sections(written(shelf))
    assert list(found) == ["Version 2 went live", "Version 1 was taken out of Production", "Version 1 went live"]
    assert "by ada: it found too much" in found["Version 1 was taken out of Production"]


def test_a_click_past_the_commands_is_told_as_found(shelf: ReportShelf) -> None:
    version = shelf.version(noisy(0.9, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shelf.client.transition_model_version_stage(NAME, version, "Production")
    shelf.life.mend(NAME, Actor("ada"))
    (found,) = sections(written(shelf)).items()
    assert found[0] == "Version 1 was found live, put there by no command"
    assert "noticed by ada" in found[1]


def test_since_a_version_tells_only_what_came_after(shelf: ReportShelf) -> None:
    for seed, dice in ((1, 0.85), (2, 0.87), (3, 0.9)):
        shelf.promote(shelf.version(noisy(dice, seed)))
    text = written(shelf, since="01")
    assert text.startswith("# Release notes of resunet since version 01\n")
    assert list(sections(text)) == [
        "Version 3 went live, in place of version 2",
        "Version 2 went live, in place of version 1",
    ]
    assert "Nothing was decided since version 3 went live." in written(shelf, since="3")
    with pytest.raises(SettingsError, match="version 4 of resunet never went live; those that did: 1, 2, 3"):
        written(shelf, since="4")


def test_a_version_that_is_there_no_more_is_told_from_the_records_alone(shelf: ReportShelf) -> None:
    first, second = shelf.version(noisy(0.85, 1)), shelf.version(noisy(0.9, 2))
    shelf.promote(first)
    shelf.promote(second)
    shelf.client.delete_model_version(NAME, first)
    told = sections(written(shelf))["Version 2 went live, in place of version 1"]
    assert "against version 1 on the same 12 images: Dice +0.0" in told
    assert "- settings: not known of both" in told and "- data: not known of both" in told


def test_texts_of_others_are_no_markdown(shelf: ReportShelf) -> None:
    shelf.promote(shelf.version(noisy(0.9, 1)), "# not *a* heading\n\n<script>x</script> [a](b) \x1b[2J")
    text = written(shelf)
    assert "\\# not \\*a\\* heading \\<script\\>x\\</script\\> \\[a\\](b)" in text
    assert "\x1b" not in text
    assert len(sections(text)) == 1
    assert escaped("a_b `c`") == "a\\_b \\`c\\`"


def test_nothing_decided_is_said(shelf: ReportShelf) -> None:
    shelf.version(noisy(0.9, 1))
    assert written(shelf) == "# Release notes of resunet\n\nNothing was decided yet.\n"

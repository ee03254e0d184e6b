"""Gates on per-image Dice: a floor, the comparison with the live version, and both for each slice."""

from collections.abc import Collection
from typing import NamedTuple

from pydantic import Field

from registry.comparison import MIN_SHARED, Compared, compared
from registry.evidence import Evaluation, Evidence, Overlap
from registry.evidence.documents import SCORES
from registry.gates.gate import GateSettings, Outcome, Verdict, gate
from registry.gates.wording import counted, interval, missing, more_wanted, nothing_live
from registry.noninferiority import FEWEST_CLUSTERS, noninferiority

_NOT_MEASURED = "the Dice of each of its test images"


class FloorSettings(GateSettings):
    """`dice`: least mean Dice of the test images."""

    dice: float = Field(default=0.7, ge=0, le=1)


class ChampionSettings(GateSettings):
    """`margin`: how much mean Dice may be lost against the live version; `images`: fewer decide nothing."""

    margin: float = Field(default=0.01, ge=0, le=1)
    images: int = Field(default=10, ge=FEWEST_CLUSTERS)


class SlicesSettings(GateSettings):
    """`images`: smaller slices are not judged; `dice`: floor of each; `margin`: what a slice may lose."""

    images: int = Field(default=20, ge=FEWEST_CLUSTERS)
    dice: float = Field(default=0.5, ge=0, le=1)
    margin: float = Field(default=0.05, ge=0, le=1)


@gate(needs=[SCORES])
def floor(evidence: Evidence, settings: FloorSettings) -> Verdict:
    """The mean Dice of the test images reaches a floor."""
    scores = evidence.candidate.scores
    if scores is None:
        return missing(evidence, _NOT_MEASURED)
    dice = scores.overall["dice"]
    told = f"[{dice.low:.4f}, {dice.high:.4f}] on {counted(scores.images, 'test image')}"
    if dice.mean >= settings.dice:
        return Verdict("pass", f"mean Dice {dice.mean:.4f} ≥ {settings.dice:.4f} {told}")
    advice = "train longer, wider or on more data; the policy's `floor` says what is asked for"
    return Verdict("fail", f"mean Dice {dice.mean:.4f} < {settings.dice:.4f} {told}", advice)


@gate(needs=[SCORES, Overlap])
def champion(evidence: Evidence, settings: ChampionSettings) -> Verdict:
    """The version is shown to lose no more than a margin of Dice against the live one, on the same images.

    The differences image by image are tested: a one-sided 95 % bound of their mean decides (`registry.noninferiority`).
    Where the test split has grown, that has to hold for all of its images, and for those that the live version was
    tested on by itself: else more images would thin out a loss.
    """
    beside = _beside(evidence)
    if isinstance(beside, Verdict):
        return beside
    pairs, overlap = beside
    whole = _compared(evidence, pairs, settings)
    own = pairs.only(overlap.shared)
    if len(own.images) == len(pairs.images):
        return whole
    before = _compared(evidence, own, settings)
    # Of two equal outcomes that of the images that were there before: it is the one that a split was chosen round.
    worst = max((before, whole), key=lambda one: ("pass", "undecided", "fail").index(one.outcome))
    if worst.outcome == "pass":
        return Verdict("pass", f"{whole.evidence}; {before.evidence}")
    return worst


def _compared(evidence: Evidence, pairs: Compared, settings: ChampionSettings) -> Verdict:
    shown = noninferiority(pairs.differences, settings.margin, pairs.groups)
    told = f"Dice {interval(shown)} {_against(evidence)} on the same {pairs.told}; may lose {settings.margin:.4f}"
    if shown.images < settings.images:
        more = settings.images - shown.images
        return Verdict("undecided", told, f"fewer than {settings.images} test images decide nothing: add {more}", more)
    if shown.outcome == "undecided":
        return Verdict("undecided", told, more_wanted(shown.more_images), shown.more_images)
    return Verdict(shown.outcome, told, "train a better version" if shown.outcome == "fail" else "")


@gate(needs=[SCORES, Overlap])
def slices(evidence: Evidence, settings: SlicesSettings) -> Verdict:
    """Each slice with enough images reaches a floor, and none loses much against the live version (bias check).

    Every slice has to pass on its own, with a one-sided 95 % bound of its loss. The slices are those of either version:
    one that only the live version's data set named is not forgotten.
    """
    scores = evidence.candidate.scores
    if scores is None:
        return missing(evidence, "its Dice by slice")
    beside = None if evidence.champion is None else _beside(evidence)
    if isinstance(beside, Verdict):
        return beside
    pairs, overlap = beside or (None, None)
    parts = _parts(scores, overlap)
    judged = [part for part in parts if max(part.images, part.theirs) >= settings.images]
    left = _left(scores, [part for part in parts if part not in judged], settings.images)
    if not judged:
        return Verdict("not_applicable", f"no slice has {settings.images} test images{left}")
    found = [_slice(evidence, pairs, part, settings) for part in judged]
    outcomes = {one.outcome for one in found}
    worst: Outcome = "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"
    chosen = [one for one in found if one.outcome == worst]
    more = max((one.more for one in chosen if one.more is not None), default=None)
    limits = f"; each has to reach {settings.dice:.4f}"
    limits += f" and may lose {settings.margin:.4f}" if pairs is not None else f"; {nothing_live(evidence)}"
    told = "; ".join(one.told for one in chosen) + limits + left
    if worst == "pass":
        return Verdict("pass", told)
    if worst == "undecided":
        advice = next((one.advice for one in chosen if one.advice), f"of each slice: {more_wanted(more)}")
        return Verdict("undecided", told, advice, more)
    advice = "look at the images of these slices, train on more like them, and measure the new version"
    return Verdict("fail", told, advice)


class _Finding(NamedTuple):
    """What one slice shows."""

    outcome: Outcome
    told: str
    more: int | None = None
    advice: str = ""


class _Part(NamedTuple):
    """A slice of the candidate's test images.

    Attributes:
        images: how many there are.
        members: their paths; fewer than `images` where that was not kept.
        dice: their mean.
        theirs: how many test images of it the live version has itself.
    """

    name: str
    images: int
    members: Collection[str]
    dice: float
    theirs: int = 0


def _parts(scores: Evaluation, overlap: Overlap | None) -> list[_Part]:
    """The slices by either version's data set, the candidate's first."""
    members = scores.slice_members
    parts = [
        _Part(name, part.images, frozenset(members.get(name, ())), part.metrics["dice"].mean)
        for name, part in scores.slices.items()
    ]
    if overlap is None:
        return parts
    parts = [part._replace(theirs=overlap.slice_images.get(part.name, 0)) for part in parts]
    dice = {score.path: score.dice for score in scores.per_image}
    for name, images in overlap.slices.items():
        shared = frozenset(images)
        ours = next((part for part in parts if part.name == name), None)
        if ours is not None and shared <= frozenset(ours.members):
            continue
        # The candidate's data set calls them something else, or nothing.
        values = [dice[path] for path in sorted(shared & dice.keys())]
        mean = sum(values) / len(values) if values else 0.0
        called = name if ours is None else f"{name}, as the live version has it"
        parts.append(_Part(called, len(values), shared, mean, overlap.slice_images[name]))
    return parts


def _slice(evidence: Evidence, pairs: Compared | None, part: _Part, settings: SlicesSettings) -> _Finding:
    told = f"{part.name} {part.dice:.4f} ({counted(part.images, 'image')})"
    if part.images < settings.images:
        advice = "test it on these images too: train on the whole data set, without --where and with the same groups"
        told = f"{part.name}: version {_live(evidence)} has {part.theirs} test images of it, this one {part.images}"
        return _Finding("undecided", told, settings.images - part.images, advice)
    if part.dice < settings.dice:
        return _Finding("fail", f"{told} is below {settings.dice:.4f}")
    if pairs is None:
        return _Finding("pass", told)
    if len(part.members) != part.images:
        # Scores of an older release: which images the slice has was not kept.
        advice = f"measure it: {evidence.check}"
        return _Finding("undecided", f"{told}: nobody knows which images these are", advice=advice)
    own = pairs.only(part.members)
    if len(own.images) < settings.images:
        more = settings.images - len(own.images)
        what = f"{told}: version {_live(evidence)} learnt from all of them but {len(own.images)}"
        return _Finding("undecided", what, more)
    shown = noninferiority(own.differences, settings.margin, own.groups)
    return _Finding(shown.outcome, f"{told}, {interval(shown)} {_against(evidence)}", shown.more_images)


def _left(scores: Evaluation, parts: list[_Part], images: int) -> str:
    """Which slices nothing is said of."""
    few = [f"{part.name} ({part.images})" for part in parts]
    few += [f"{name} (0)" for name in scores.unevaluated_slices]
    return f"; not judged, as they have fewer than {images} test images: {', '.join(few)}" if few else ""


def _beside(evidence: Evidence) -> tuple[Compared, Overlap] | Verdict:
    """The images on which both versions were scored, or why they cannot be compared."""
    live, scores = evidence.champion, evidence.candidate.scores
    if live is None:
        return Verdict("not_applicable", nothing_live(evidence))
    if scores is None:
        return missing(evidence, _NOT_MEASURED)
    if live.damage:
        return Verdict(
            "undecided",
            f"version {live.version}, which is live, cannot be compared with: {live.damage}",
            "what is live is not what passed the gates: find out who changed it; `python -m registry rollback "
            f"{evidence.model}` goes back to the version before it, without a gap",
        )
    if live.scores is None:
        return missing(evidence, f"version {live.version}, which is live, on the same test images")
    overlap = evidence.candidate.get(Overlap)
    if overlap is None:
        return missing(evidence, f"what version {live.version}, which is live, was tested on")
    if len(overlap.shared) < MIN_SHARED * overlap.own_images:
        # Who leaves images out can choose which.
        return Verdict(
            "undecided",
            f"it is tested on {len(overlap.shared)} of the {overlap.own_images} test images of version "
            f"{live.version}, which is live; at least {MIN_SHARED:.0%} are needed to compare them",
            "train it on the whole data set, without --where and with the same groups; or make room first, so that "
            f"nothing is compared: `python -m registry archive {evidence.model} {live.version}`",
        )
    pairs = compared(scores, live.scores)
    if not pairs.enough:
        told = f"too few images in common with version {live.version}: {pairs.told}"
        return Verdict("undecided", told, f"measure both on one test split: {evidence.check}")
    return pairs, overlap


def _live(evidence: Evidence) -> str:
    return evidence.champion.version if evidence.champion else ""


def _against(evidence: Evidence) -> str:
    return f"against version {evidence.champion.version}" if evidence.champion else ""

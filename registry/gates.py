"""Gates: pure functions from stored evidence to a verdict. They measure nothing and move nothing.

verdicts = judge("Production", Evidence(candidate, champion), Limits(dice_floor=0.7, champion_margin=0.01))
blocking(verdicts)  # empty: the version may go there
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from registry.comparison import compared, evaluation_on
from registry.evidence import EVALUATION_FILE, VERSION_FOLDER, Evaluation
from resunet.metrics import bootstrap_interval

Outcome = Literal["pass", "fail", "undecided", "not_applicable"]


@dataclass(frozen=True)
class VersionEvidence:
    """What is known of one version once its files were checked against their list of digests."""

    version: str
    digest: str
    listing: Mapping[str, str]
    evaluation: Evaluation | None
    damage: str = ""
    """why its files are not to be believed; empty when they are those that were listed and signed"""
    problem: str = ""
    """why there is no evaluation"""
    measured: Sequence[Evaluation] = ()
    """evaluations of these same bytes on other test splits, made after the version"""


@dataclass(frozen=True)
class Evidence:
    """The version in question and the one that is live now, if any."""

    candidate: VersionEvidence
    champion: VersionEvidence | None
    model: str = "<model>"
    """the registered model's name, for what a verdict advises"""


@dataclass(frozen=True)
class Limits:
    """Dice a version must reach, and how much of the live one's it may lose."""

    dice_floor: float
    champion_margin: float


@dataclass(frozen=True)
class Verdict:
    """What one gate says, on what evidence, and what to do when it does not pass."""

    gate: str
    outcome: Outcome
    evidence: str
    advice: str = ""

    @property
    def blocks(self) -> bool:
        return self.outcome in ("fail", "undecided")


Gate = Callable[[Evidence, Limits], Verdict]


def intact(evidence: Evidence, limits: Limits) -> Verdict:
    """The version's files are those in its list of digests, and signed where a key is set."""
    del limits
    candidate = evidence.candidate
    if candidate.damage:
        return Verdict("intact", "fail", candidate.damage, "find out who changed it, and train the version anew")
    return Verdict("intact", "pass", f"{len(candidate.listing)} files as listed, {candidate.digest}")


def evaluated(evidence: Evidence, limits: Limits) -> Verdict:
    """The version holds an evaluation of its own serving file, and both are in its list of digests."""
    del limits
    candidate = evidence.candidate
    advice = "train the version anew; an evaluation cannot be added to a registered version"
    if candidate.evaluation is None:
        return Verdict("evaluated", "fail", candidate.problem or f"there is no {EVALUATION_FILE}", advice)
    for name in (EVALUATION_FILE, candidate.evaluation.serving_file):
        if f"{VERSION_FOLDER}/{name}" not in candidate.listing:
            return Verdict("evaluated", "fail", f"{name} is not in the version's list of digests", advice)
    evaluation = candidate.evaluation
    dice = evaluation.overall["dice"]
    return Verdict(
        "evaluated",
        "pass",
        f"{evaluation.images} test images through {evaluation.serving_file} ({evaluation.precision}): "
        f"Dice {dice.mean:.4f} [{dice.low:.4f}, {dice.high:.4f}]",
    )


def dice_floor(evidence: Evidence, limits: Limits) -> Verdict:
    """The mean Dice of the test images reaches the floor."""
    evaluation = evidence.candidate.evaluation
    if evaluation is None:
        return Verdict("dice_floor", "undecided", "there is no evaluation to judge", "see the gate `evaluated`")
    mean = evaluation.overall["dice"].mean
    if mean >= limits.dice_floor:
        return Verdict("dice_floor", "pass", f"mean Dice {mean:.4f} ≥ {limits.dice_floor:.4f}")
    return Verdict(
        "dice_floor",
        "fail",
        f"mean Dice {mean:.4f} < {limits.dice_floor:.4f}",
        "train longer or on more data; RESUNET_DICE_FLOOR sets the floor",
    )


def not_worse(evidence: Evidence, limits: Limits) -> Verdict:
    """The version is not worse than the live one on the same test images.

    The mean of the paired differences of per-image Dice must be at least `-champion_margin`; its 95 % paired
    bootstrap interval (whole groups resampled, seed fixed) is shown, not judged. `registry.comparison` says which
    images count as the same, and when they are enough.
    """
    gate = "not_worse"
    candidate, champion = evidence.candidate, evidence.champion
    if champion is None:
        return Verdict(gate, "not_applicable", "no version is in Production")
    if candidate.evaluation is None:
        return Verdict(gate, "undecided", "there is no evaluation", "see the gate `evaluated`")
    model = evidence.model
    if champion.damage:
        return Verdict(
            gate,
            "undecided",
            f"version {champion.version}, which is live, cannot be compared with: {champion.damage}",
            "what is live is not what passed the gates: find out who changed it; `python -m registry rollback "
            f"{model}` goes back to the version before it, without a gap",
        )
    measure = (
        f"measure version {champion.version} on the test split of version {candidate.version}: python -m pipelines "
        f"evaluate --model models:/{model}/{champion.version} --data <data of version {candidate.version}>; "
        "then promote again"
    )
    theirs = evaluation_on(candidate.evaluation.fingerprint, (champion.evaluation, *champion.measured))
    if theirs is None:
        told = f"version {champion.version}, which is live, cannot be compared with: {champion.problem}"
        return Verdict(gate, "undecided", told, measure)
    pairs = compared(candidate.evaluation, theirs)
    if not pairs.enough:
        return Verdict(
            gate,
            "undecided",
            f"version {champion.version}, which is live, was evaluated on another test split ({pairs.told})",
            measure,
        )
    mean, low, high = bootstrap_interval(pairs.differences, pairs.groups)
    shown = (
        f"Dice {mean:+.4f} [{low:+.4f}, {high:+.4f}] against version {champion.version} on the same "
        f"{pairs.told}; may lose {limits.champion_margin:.4f}"
    )
    if mean >= -limits.champion_margin:
        return Verdict(gate, "pass", shown)
    return Verdict(
        gate,
        "fail",
        shown,
        "train a better version; RESUNET_CHAMPION_MARGIN sets what may be lost",
    )


def same_bytes(candidate: VersionEvidence, gated: str) -> Verdict:
    """The version is, byte for byte, what passed the gates when it was promoted.

    Args:
        gated: the digest in the record of that promotion.
    """
    if candidate.digest == gated:
        return Verdict("same_bytes", "pass", "its bytes are those that were promoted before")
    return Verdict(
        "same_bytes",
        "fail",
        f"its digest is {candidate.digest}, but {gated} passed the gates",
        "find out why, and promote another version by its number",
    )


STAGE_GATES: Mapping[str, Sequence[Gate]] = {
    "Staging": (intact, evaluated),
    "Production": (intact, evaluated, dice_floor, not_worse),
}


def judge(stage: str, evidence: Evidence, limits: Limits) -> list[Verdict]:
    """The verdict of every gate before `stage`, in order."""
    return [gate(evidence, limits) for gate in STAGE_GATES[stage]]


def blocking(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that keep a version out; what is undecided keeps it out too."""
    return [verdict for verdict in verdicts if verdict.blocks]

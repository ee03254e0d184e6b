"""Gates on running it: how fast, how large, what it takes and gives, and what it brings along."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from registry.evidence import Dependencies, Evidence, InputContract, Overlap, Performance
from registry.gates.gate import GateSettings, Outcome, Verdict, gate
from registry.gates.wording import counted, first, missing, nothing_live

# So many rounds may have one that says otherwise: of seven, six or all on one side come by luck once in sixteen times.
_ROUNDS_A_STRAY = 7


class PerformanceSettings(GateSettings):
    """`slower`, `larger`: p95 latency and memory relative to the live version's; `p95_ms`, `mb`: absolute limits."""

    slower: float = Field(default=1.2, gt=0)
    larger: float = Field(default=1.2, gt=0)
    p95_ms: float | None = Field(default=None, gt=0)
    mb: float | None = Field(default=None, gt=0)


class SignatureSettings(GateSettings):
    """`allow_break`: the schema may differ from the live version's."""

    allow_break: bool = False


class DependenciesSettings(GateSettings):
    """`ignore`: ids of vulnerabilities that somebody has looked at and accepted."""

    ignore: list[str] = Field(default_factory=list)


@gate(needs=[Performance])
def performance(evidence: Evidence, settings: PerformanceSettings) -> Verdict:
    """p95 latency and memory stay near the live version's, measured in turn in one run.

    Each round gives one ratio, so that what else the machine does falls on both. They decide where all of them are on
    one side of the limit, but for one in seven.
    """
    live = evidence.champion
    absolute = settings.p95_ms is not None or settings.mb is not None
    measured = evidence.candidate.get(Performance)
    if measured is None:
        if live is None and not absolute:
            return Verdict("not_applicable", nothing_live(evidence))
        beside = f" beside version {live.version}, which is live" if live else ""
        return missing(evidence, f"its latency and memory{beside}")
    own = statistics.median(measured.candidate_p95_ms)
    found: list[tuple[Outcome, str]] = []
    if settings.p95_ms is not None:
        found.append((_within(own, settings.p95_ms), f"p95 may be {settings.p95_ms:g} ms"))
    if settings.mb is not None:
        found.append((_within(measured.candidate_mb, settings.mb), f"memory may be {settings.mb:g} MB"))
    if measured.champion_p95_ms:
        ratios = [a / b for a, b in zip(measured.candidate_p95_ms, measured.champion_p95_ms, strict=True)]
        spread = f"{statistics.median(ratios):.2f} × ({min(ratios):.2f} … {max(ratios):.2f})"
        found.append((_side(ratios, settings.slower), f"p95 {spread} the live version's, may be {settings.slower:g} ×"))
    if measured.champion_mb is not None:
        ratio = measured.candidate_mb / measured.champion_mb
        told = f"memory {ratio:.2f} × the live version's, may be {settings.larger:g} ×"
        found.append((_within(ratio, settings.larger), told))
    where = f" ({measured.engine}, {measured.side_px} px, {measured.machine})"
    itself = f"p95 {own:.1f} ms, {measured.candidate_mb:.0f} MB"
    if not found:
        return Verdict("not_applicable", f"{itself}{where}; {nothing_live(evidence)}")
    outcomes = {outcome for outcome, _ in found}
    worst: Outcome = "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"
    told = f"{itself}; {'; '.join(told for outcome, told in found if outcome == worst)}{where}"
    advice = {
        "fail": "train narrower (--width), or let the policy's `performance` allow it",
        "undecided": f"measure it once more while the machine is quiet: {evidence.check}",
    }
    return Verdict(worst, told, advice.get(worst, ""), again=worst == "undecided")


def _within(value: float, limit: float) -> Outcome:
    return "pass" if value <= limit else "fail"


def _side(ratios: Sequence[float], limit: float) -> Outcome:
    """On which side of a limit the rounds are."""
    over, strays = sum(ratio > limit for ratio in ratios), len(ratios) // _ROUNDS_A_STRAY
    if over <= strays:
        return "pass"
    return "fail" if len(ratios) - over <= strays else "undecided"


@gate(needs=[InputContract, Overlap])
def signature(evidence: Evidence, settings: SignatureSettings) -> Verdict:
    """It answers its own example, refuses what is no image, and takes and gives what the live version does."""
    measured = evidence.candidate.get(InputContract)
    if measured is None:
        return missing(evidence, "what it takes and what it refuses")
    if measured.not_run:
        advice = "set RESUNET_TRUSTED_KEY where it is measured to the key of who signs versions, or train it anew here"
        return Verdict("undecided", f"it was not asked: {measured.not_run}", advice, again=True)
    anew = "train the version anew"
    if measured.example:
        return Verdict("fail", f"it does not answer its own example: {measured.example}", anew)
    answered = [name for name, told in measured.refused.items() if not told]
    if answered:
        return Verdict("fail", f"it answered where it had to refuse: {', '.join(answered)}", anew)
    if not measured.refused:
        return missing(evidence, "what it refuses")
    told = f"answers its example, refuses {counted(len(measured.refused), 'bad input')}"
    live = evidence.champion
    if live is None:
        return Verdict("pass", f"{told}; {nothing_live(evidence)}")
    theirs = evidence.candidate.get(Overlap)
    if theirs is None:
        return missing(evidence, f"what version {live.version}, which is live, takes and gives")
    broken = [
        name
        for name in ("inputs", "outputs", "params")
        if _schema(getattr(measured, name)) != _schema(getattr(theirs, name))
    ]
    if not broken:
        return Verdict("pass", f"{told}; same schema as version {live.version}")
    verb = "is not that" if len(broken) == 1 else "are not those"
    said = f"its schema of {' and '.join(broken)} {verb} of version {live.version}, which is live"
    if settings.allow_break:
        return Verdict("pass", f"{told}; {said}, which the policy allows")
    advice = "clients would break: tell them, then allow it in the policy (`signature: {allow_break: true}`)"
    return Verdict("fail", said, advice)


def _schema(text: str) -> Any:
    """A schema as it compares: however its JSON is written."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


@gate(needs=[Dependencies])
def dependencies(evidence: Evidence, settings: DependenciesSettings) -> Verdict:
    """Every requirement is pinned, nothing is pickled, and no pin is known to be vulnerable."""
    measured = evidence.candidate.get(Dependencies)
    if measured is None:
        return missing(evidence, "its requirements")
    wrong, advice = [], []
    if not measured.pinned and not measured.unpinned:
        wrong.append("it lists no requirement, so that nobody knows what it runs with")
        advice.append("train anew")
    if measured.unpinned:
        wrong.append(f"not pinned: {first(measured.unpinned)}")
        advice.append("pin it (`name==1.2.3`) and train anew")
    if measured.pickles:
        wrong.append(f"pickled, which runs code when it is loaded: {first(measured.pickles)}")
        advice.append("find out who put it there, and train anew")
    known = [one for one in measured.vulnerabilities or () if one.id not in settings.ignore]
    if known:
        names = [
            f"{one.package} {one.version} ({one.id}{f', fixed in {one.fixed_in[0]}' if one.fixed_in else ''})"
            for one in known
        ]
        wrong.append(f"known to be vulnerable: {first(names)}")
        advice.append(
            f"raise the pin and train anew, or accept it in the policy (`dependencies: {{ignore: [{known[0].id}]}}`)"
        )
    if wrong:
        return Verdict("fail", "; ".join(wrong), "; ".join(advice))
    told = f"{counted(len(measured.pinned), 'requirement')}, all pinned; nothing pickled"
    if measured.vulnerabilities is None:
        return Verdict("pass", f"{told}; vulnerabilities: not applicable ({measured.not_audited})")
    accepted = len(measured.vulnerabilities)
    but = f" but {accepted} that the policy accepts" if accepted else ""
    return Verdict("pass", f"{told}; no pin is known to be vulnerable{but}")

"""All gates before a stage, asked of one version: from the records and its files to a judgement.

judgement = judge(policy, evidence)
judgement.allowed, judgement.blocking, judgement.missing
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from records import approvals, verdicts
from records import evidence as kept_evidence
from records.evidence import Measured
from registry.evidence import Evaluation, Evidence, VersionFacts
from registry.evidence.documents import DOCUMENTS, SCORES, Document, parse_document
from registry.gates import GateSettings, Judged, Verdict
from registry.gates.files import intact
from registry.policy import Policy, Rule
from resunet.errors import RecordsError, VersionError


@dataclass(frozen=True)
class Judgement:
    """What the gates say of one version before one stage, and what that holds for.

    Attributes:
        champion: number of the version that is live; empty: none is, or it does not matter for this stage.
        digest, champion_digest: of the two versions' bytes.
        policy_digest: of the rules.
        fingerprint: of the candidate's test rows.
        missing: kinds of evidence that nobody has measured yet, or that said too little.
    """

    model: str
    version: str
    stage: str
    judged: Sequence[Judged]
    champion: str
    digest: str
    champion_digest: str
    policy_digest: str
    fingerprint: str
    missing: Sequence[str]

    @property
    def blocking(self) -> list[Judged]:
        return [one for one in self.judged if one.action == "block"]

    @property
    def allowed(self) -> bool:
        return not self.blocking

    def record(self) -> dict[str, Any]:
        """What an audit row keeps of it."""
        return {
            "policy": self.policy_digest,
            "champion": self.champion_digest,
            "test_split": self.fingerprint,
            "verdicts": {one.gate: one.record() for one in self.judged},
        }


def judge(policy: Policy, evidence: Evidence) -> Judgement:
    """Ask every gate that the policy puts before the stage, in its order; damaged files block, whatever it says."""
    candidate, champion = evidence.candidate, evidence.champion
    judged = [_ask(rule, policy, evidence) for rule in policy.stages.get(evidence.stage, ())]
    if candidate.damage:
        others = [one for one in judged if one.gate != intact.name]
        judged = [Judged(intact.name, intact(evidence, GateSettings()), "block"), *others]
    return Judgement(
        model=evidence.model,
        version=candidate.version,
        stage=evidence.stage,
        judged=judged,
        champion=champion.version if champion else "",
        digest=candidate.digest,
        champion_digest=champion.digest if champion else "",
        policy_digest=policy.digest,
        fingerprint=test_split(candidate),
        missing=_missing(policy, evidence, judged),
    )


def _ask(rule: Rule, policy: Policy, evidence: Evidence) -> Judged:
    """What one gate says; one that breaks keeps the version out, whatever the policy makes of `undecided`."""
    name = rule.gate.name
    try:
        verdict = rule.gate(evidence, rule.settings)
    except Exception as error:
        # A gate may be anybody's code, and its mistake must neither let a version through nor hide the other verdicts.
        told = f"the gate broke: {type(error).__name__}: {error}"
        return Judged(name, Verdict("undecided", told, f"mend the gate, or take `{name}` out of the policy"), "block")
    return Judged(name, verdict, rule.action(verdict.outcome, policy.outcomes))


def test_split(facts: VersionFacts) -> str:
    """The fingerprint of the test rows that a version was evaluated on; empty where it was not."""
    return facts.evaluation.fingerprint if facts.evaluation else ""


def with_documents(records: Engine, evidence: Evidence) -> Evidence:
    """Add what the records hold of these bytes: measurements, approvals, uses of the test split.

    Raises:
        RecordsError: the database does not answer.
    """
    candidate, champion = evidence.candidate, evidence.champion
    if not candidate.digest or candidate.damage:
        return evidence
    fingerprint = test_split(candidate)
    beside = champion.digest if champion else ""
    found = kept_evidence.find(records, candidate.digest, fingerprint, beside)
    theirs = kept_evidence.find(records, champion.digest, fingerprint) if champion and champion.digest else {}
    return replace(
        evidence,
        candidate=replace(candidate, documents=_parsed(found, beside)),
        champion=champion and replace(champion, documents=_parsed(theirs)),
        uses=kept_evidence.uses(records, fingerprint, SCORES) + (SCORES not in found),
        approvals=approvals.approvals(records, candidate.digest, evidence.stage),
        checker=found[SCORES].measured_by if SCORES in found else "",
    )


def keep(records: Engine, judgement: Judgement, asked_by: str, when: datetime) -> None:
    """Write a judgement down.

    Raises:
        RecordsError: the database refuses.
    """
    gates = [{"gate": one.gate, **one.record(), "advice": one.verdict.advice} for one in judgement.judged]
    verdicts.keep(
        records,
        verdicts.Kept(
            model_name=judgement.model,
            version=judgement.version,
            version_digest=judgement.digest,
            stage=judgement.stage,
            champion_digest=judgement.champion_digest,
            policy_digest=judgement.policy_digest,
            fingerprint=judgement.fingerprint,
            allowed=judgement.allowed,
            gates=gates,
            asked_by=asked_by,
            when=when,
        ),
    )


def refusal(judgement: Judgement) -> str:
    """Why a version may not go there, gate by gate, and what to run."""
    unmeasured = [one for one in judgement.blocking if one.verdict.unmeasured]
    told = [_told(one) for one in judgement.blocking if not one.verdict.unmeasured]
    if unmeasured:
        beside = f" (version {judgement.champion} is live)" if judgement.champion else ""
        names = ", ".join(one.gate for one in unmeasured)
        told.append((f"not measured yet{beside}: {names}", unmeasured[0].verdict.advice))
    return _refusal(judgement.model, judgement.version, judgement.stage, told)


def refusal_by(one: Judged, model: str, version: str, stage: str) -> str:
    """The same of a single finding that is no gate of the policy."""
    return _refusal(model, version, stage, [_told(one)])


def _told(one: Judged) -> tuple[str, str]:
    return f"{one.gate}: {one.verdict.outcome.replace('_', ' ')}: {one.verdict.evidence}", one.verdict.advice


def _refusal(model: str, version: str, stage: str, told: Sequence[tuple[str, str]]) -> str:
    """Findings and advice; marked so that they can be told apart where line breaks are lost, as in MLflow's UI."""
    lines = [f"version {version} of {model} may not go to {stage}:"]
    for finding, advice in told:
        lines += [f"  • {finding}", *([f"    → what to do: {advice}"] if advice else [])]
    return "\n".join(lines)


def _missing(policy: Policy, evidence: Evidence, judged: Sequence[Judged]) -> list[str]:
    """Kinds that a gate needs and the records do not hold, of the candidate or of the version that is live.

    Nothing is missing of damaged files: there is nothing to measure.
    """
    candidate, champion = evidence.candidate, evidence.champion
    live = champion is not None and not champion.damage
    if candidate.damage:
        return []
    needed = policy.needs(evidence.stage)
    missing = {kind for kind in needed if kind not in candidate.documents}
    if champion is not None and live:
        missing |= {kind for kind in needed & {SCORES} if kind not in champion.documents}
    again = {one.gate for one in judged if one.verdict.again}
    for rule in policy.stages.get(evidence.stage, ()):
        missing |= rule.gate.needs if rule.gate.name in again else frozenset()
    return sorted(kind for kind in missing if live or _alone(kind))


def _alone(kind: str) -> bool:
    return kind not in DOCUMENTS or DOCUMENTS[kind].alone


def _parsed(found: Mapping[str, Measured], beside: str = "") -> dict[str, Document | Evaluation]:
    """The documents that hold beside the version of this digest.

    What another release wrote and this one does not understand was not measured: it is measured anew.
    """
    parsed = {}
    for kind, measured in found.items():
        if measured.champion_digest != beside and kind in DOCUMENTS and DOCUMENTS[kind].beside:
            continue
        try:
            parsed[kind] = parse_document(kind, measured.content)
        except (RecordsError, VersionError):
            continue
    return parsed

"""Gates on the version's files: are they what was made, who signed them, was it tested on what it never saw."""

from registry.evidence import EVALUATION_FILE, VERSION_FOLDER, Evaluation, Evidence, Lineage
from registry.gates.gate import GateSettings, Verdict, gate
from registry.gates.wording import counted, first, missing

_ANEW = "train the version anew; an evaluation cannot be added to a registered version"


@gate()
def intact(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The version's files are those in its list of digests: none changed, missing or added."""
    candidate = evidence.candidate
    if candidate.damage:
        return Verdict("fail", candidate.damage, "find out who changed it, and train the version anew")
    return Verdict("pass", f"{counted(len(candidate.listing), 'file')} as listed, {candidate.digest}")


@gate()
def signed(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The version is signed by a signer that is trusted here; not applicable where none is named."""
    candidate = evidence.candidate
    if candidate.damage:
        return Verdict("fail", "files that are not those that were listed are nobody's", "see the gate `intact`")
    if candidate.signer:
        return Verdict("pass", f"signed by {candidate.signer}, which is trusted here")
    if candidate.unsigned:
        advice = "train it with RESUNET_SIGNING_KEY set; find out who made it if it should have been"
        return Verdict("fail", candidate.unsigned, advice)
    return Verdict("not_applicable", "no signer is trusted here", "set RESUNET_TRUSTED_KEY to ask for signatures")


@gate(needs=[Lineage])
def evaluated(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The version was tested, through the file that serves, on images that neither it nor an ancestor learnt from."""
    candidate = evidence.candidate
    evaluation = candidate.evaluation
    if evaluation is None:
        return Verdict("fail", candidate.problem or f"there is no {EVALUATION_FILE}", _ANEW)
    for name in (EVALUATION_FILE, evaluation.serving_file):
        if f"{VERSION_FOLDER}/{name}" not in candidate.listing:
            return Verdict("fail", f"{name} is not in the version's list of digests", _ANEW)
    lineage = candidate.get(Lineage)
    if lineage is None:
        return missing(evidence, "which of its test images it or an ancestor learnt from")
    learnt = [*lineage.same, *lineage.grouped, *(f"{ours} = {theirs}" for ours, theirs in lineage.changed)]
    if learnt:
        versions = "version" if len(lineage.ancestors) == 1 else "versions"
        whom = f"it or {versions} {', '.join(lineage.ancestors)}" if lineage.ancestors else "it"
        return Verdict("fail", f"{whom} learnt from {counted(len(learnt), 'test image')}: {first(learnt)}", _ANEW)
    if lineage.test_images != evaluation.images:
        told = f"it was tested on {evaluation.images} of the {counted(lineage.test_images, 'test image')} that it lists"
        return Verdict("fail", told, _ANEW)
    return Verdict("pass", _told(evidence, evaluation, lineage))


def _told(evidence: Evidence, evaluation: Evaluation, lineage: Lineage) -> str:
    dice = evaluation.overall["dice"]
    pairs = counted(len(lineage.doubtful), "pair")
    doubt = f"; {pairs} alike by a hash alone: look at them" if lineage.doubtful else ""
    return (
        f"{counted(evaluation.images, 'test image')} through {evaluation.serving_file} ({evaluation.precision}): "
        f"Dice {dice.mean:.4f} [{dice.low:.4f}, {dice.high:.4f}]; none is among the {lineage.trained_images} that it "
        f"learnt from{doubt}; this test split has judged {counted(evidence.uses, 'version')}"
    )

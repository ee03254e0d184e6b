"""The gate on the data that a version was made from."""

from registry.evidence import DataCheck, Evidence
from registry.gates.gate import GateSettings, Verdict, gate
from registry.gates.wording import counted, first, missing


@gate(needs=[DataCheck])
def data(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The data set is what the version's manifest lists, `prepare` finds nothing to refuse in it, and no test image
    is a near-duplicate of one that was trained on."""
    measured = evidence.candidate.get(DataCheck)
    if measured is None:
        return missing(evidence, "the state of its data set")
    wrong, advice = [], []
    if not measured.complete:
        count = counted(len(measured.differing), "image")
        wrong.append(f"{count} of the manifest missing or changed: {first(measured.differing)}")
        advice.append("bring the images back, or train a version on what there is now")
    if measured.refusals:
        wrong += measured.refusals
        advice.append("mend what `python -m pipelines prepare --data …` names, and train anew")
    if measured.near_test:
        pairs = [f"{ours} ~ {theirs}" for ours, theirs in measured.near_test]
        wrong.append(f"{counted(len(pairs), 'test image')} nearly the same as one trained on: {first(pairs)}")
        advice.append(
            "put near-duplicates in one split (`python -m pipelines prepare --data … --mend`), and train anew"
        )
    if wrong:
        return Verdict("fail", f"{measured.name}: {'; '.join(wrong)}", "; ".join(advice))
    remarks = f"; {counted(len(measured.remarks), 'remark')}" if measured.remarks else ""
    images = counted(measured.images, "image")
    return Verdict("pass", f"{measured.name}: {images} as in the manifest, nothing to refuse{remarks}")

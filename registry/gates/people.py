"""The gate that asks people."""

from pydantic import Field

from registry.evidence import Evidence
from registry.evidence.documents import SCORES
from registry.gates.gate import GateSettings, Verdict, gate
from registry.gates.wording import missing


class ApprovedSettings(GateSettings):
    """`approvals`: how many people must have agreed."""

    approvals: int = Field(default=1, ge=1)


@gate(needs=[SCORES])
def approved(evidence: Evidence, settings: ApprovedSettings) -> Verdict:
    """Four eyes: who asks for the promotion, who had it measured and who approves are different people.

    Needs a server that asks for passwords: without, a name is only a claim.
    """
    if not evidence.authenticated:
        advice = "run the server as --app-name lifecycle-auth, or take `approved` out of the policy"
        return Verdict("fail", "this server does not know who anybody is, so nobody can approve", advice)
    if not evidence.checker:
        return missing(evidence, "its Dice, so that nobody has checked it yet")
    if evidence.requester == evidence.checker:
        told = f"{evidence.requester} had it measured and cannot promote it too"
        return Verdict("fail", told, "let somebody else promote it")
    both = {evidence.requester, evidence.checker}
    everybody = {approval.who for approval in evidence.approvals}
    others = sorted(everybody - both)
    if len(others) >= settings.approvals:
        return Verdict("pass", f"measured for {evidence.checker}, approved by {', '.join(others)}")
    own = sorted(everybody & both)
    not_counted = f"; {' and '.join(own)} asked for it or had it measured and cannot approve" if own else ""
    return Verdict(
        "undecided",
        f"{len(others)} of {settings.approvals} approvals{not_counted}",
        f"somebody else with the role `approve`: python -m registry approve {evidence.model} "
        f"{evidence.candidate.version} --stage {evidence.stage}",
    )

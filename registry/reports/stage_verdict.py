"""What the gates said of a version before a stage, and whether that still holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from records.verdicts import Kept
from registry.reports.reader import VersionRecords


@dataclass(frozen=True)
class StageVerdict:
    """The latest verdict before a stage.

    Attributes:
        void: why it does not hold any more; empty: it does.
        gates: as they were kept: name, outcome, evidence, action, advice.
    """

    stage: str
    allowed: bool
    when: datetime
    asked_by: str
    champion_digest: str
    policy_digest: str
    void: Sequence[str]
    gates: Sequence[Mapping[str, Any]]


def stage_verdict(kept: Kept, records: VersionRecords) -> StageVerdict:
    """A verdict with the reasons why it does not hold any more."""
    void = []
    if records.digest and kept.version_digest != records.digest:
        void.append("it was given of other bytes")
    if records.policy_digest and kept.policy_digest != records.policy_digest:
        void.append("the policy has changed since")
    beside = _beside(kept, records)
    if beside:
        void.append(beside)
    return StageVerdict(
        stage=kept.stage,
        allowed=kept.allowed,
        when=kept.when,
        asked_by=kept.asked_by,
        champion_digest=kept.champion_digest,
        policy_digest=kept.policy_digest,
        void=void,
        gates=kept.gates,
    )


def _beside(kept: Kept, records: VersionRecords) -> str:
    """Whether a verdict before Production was given beside another version than the one that is live."""
    if kept.stage != "Production" or records.live == kept.version:
        return ""
    if not records.live:
        return "it was given beside a version that is live no more" if kept.champion_digest else ""
    if records.live_digest in ("", kept.champion_digest):
        return ""
    return f"version {records.live} is live now, and it was given beside another"

"""A batch of labelled live images, as everybody sees it: what is in it, who decided on it, what was trained on it.

batch.state, batch.digest
batch.images[0].name            # live-0123…, also the stem of its files in a data set
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

Verdict = Literal["released", "rejected"]
State = Literal["quarantined", "released", "rejected", "withdrawn"]
# How the files of live images begin in a data set.
LIVE_PREFIX: Final = "live-"
# Of an answer's hash, in the name of a file: enough that no two share it, and that `forget` finds it.
_STEM: Final = 24


@dataclass(frozen=True, kw_only=True)
class BatchImage:
    """A labelled image of a batch.

    Attributes:
        answer_id: names image and mask in their stores.
        source: of the label: audit | picked | client.
        group: what keeps it in one split with others, where somebody said so.
        dice: of the label against the mask that was answered.
        image_sha256, mask_sha256: of the content when it was collected, hexadecimal.
        split_key: what decided its split when it was trained on first; None: it was not yet.
        left_out: why it is not trained on with the others; None: it is.
    """

    answer_id: str
    source: str
    event_time: datetime
    model_version: str
    slice: str | None = None
    group: str | None = None
    dice: float | None = None
    image_sha256: str
    mask_sha256: str
    split_key: str | None = None
    left_out: str | None = None

    @property
    def name(self) -> str:
        """What it is called for people, and in a data set."""
        return file_stem(self.answer_id)


@dataclass(frozen=True)
class Decision:
    """Who released or rejected a batch, why, when, and with which content."""

    verdict: Verdict
    who: str
    why: str
    when: datetime
    digest: str


@dataclass(frozen=True)
class Withdrawal:
    """Who has taken a release back, why, and when."""

    who: str
    why: str
    when: datetime


@dataclass(frozen=True)
class Use:
    """A version that was trained on a batch."""

    model_version: str
    run_id: str
    when: datetime


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Labelled images that are decided on together.

    Attributes:
        of_clients: its labels came from clients, of whose word nothing is known.
        members: all images, those that were left out among them.
        refusals: what `pipelines prepare` says against it; None: nobody has asked yet.
        checked_digest: of the content that it was asked about.
    """

    batch_id: str
    model_name: str
    made: datetime
    window_start: datetime
    window_end: datetime
    of_clients: bool
    members: tuple[BatchImage, ...] = ()
    refusals: tuple[str, ...] | None = None
    checked_digest: str | None = None
    decision: Decision | None = None
    withdrawal: Withdrawal | None = None
    uses: tuple[Use, ...] = ()

    @property
    def images(self) -> tuple[BatchImage, ...]:
        """Those that are to be trained on."""
        return tuple(one for one in self.members if one.left_out is None)

    @property
    def state(self) -> State:
        if self.withdrawal is not None:
            return "withdrawn"
        return "quarantined" if self.decision is None else self.decision.verdict

    @property
    def is_turned_down(self) -> bool:
        """Whether somebody has said that its labels are not to be trained on."""
        return self.state in ("rejected", "withdrawn")

    @property
    def digest(self) -> str:
        """Of images and masks, of the sources of the labels, and of what belongs together: `sha256:…`."""
        rows = sorted([one.answer_id, one.source, one.group, one.image_sha256, one.mask_sha256] for one in self.images)
        return "sha256:" + hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def file_stem(answer_id: str) -> str:
    """What the files of an answer are called in a data set."""
    return f"{LIVE_PREFIX}{answer_id[:_STEM]}"

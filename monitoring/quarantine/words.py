"""Batches for a terminal: one a row, and one with all its images, those that disagree most with the model first."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.table import Table
from rich.text import Text

from monitoring.quarantine.collect import Gathered
from records.batch import Batch

NO_SLICE: Final = "(none)"
_MOMENT: Final = "%Y-%m-%d %H:%M"


def batch_table(batches: Sequence[Batch]) -> Table:
    """A row for each."""
    table = Table(show_lines=True)
    for heading in ("batch", "state", "images"):
        table.add_column(heading, no_wrap=True)
    for heading in ("labels", "slices", "what is known"):
        table.add_column(heading)
    for batch in batches:
        table.add_row(
            Text(batch.batch_id),
            Text(batch.state),
            str(len(batch.images)),
            Text(labels(batch), style="bold yellow" if batch.of_clients else ""),
            Text(counts(one.slice or NO_SLICE for one in batch.images)),
            Text("\n".join(known(batch))),
        )
    return table


def image_table(batch: Batch, limit: int) -> Table:
    """Its images, the label that agrees least with the model first: false labels look so, and so do hard images."""
    table = Table(title=f"{min(limit, len(batch.images))} of {len(batch.images)} images", title_justify="left")
    for heading in ("image", "Dice of label and answer", "label", "slice", "version", "answered"):
        table.add_column(heading)
    for one in sorted(batch.images, key=lambda one: (one.dice if one.dice is not None else 0.0, one.answer_id))[:limit]:
        dice = "" if one.dice is None else f"{one.dice:.3f}"
        moment = one.event_time.strftime(_MOMENT)
        table.add_row(*map(Text, (one.name, dice, one.source, one.slice or "", one.model_version, moment)))
    return table


def labels(batch: Batch) -> str:
    """How many of which source; those of clients are marked."""
    told = counts(one.source for one in batch.images)
    return f"OF CLIENTS: {told}" if batch.of_clients else told


def counts(values: object) -> str:
    """`audit 12, picked 30`."""
    found = Counter(values)  # type: ignore[call-overload]
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items())) or "none"


def known(batch: Batch) -> list[str]:
    """What `prepare` and people say of a batch, and what is to be done."""
    lines = [f"{len(batch.members) - len(batch.images)} images were taken out"]
    lines = lines if len(batch.members) > len(batch.images) else []
    decision = batch.decision
    if decision is not None:
        lines.append(f"{decision.verdict} by {decision.who}, {_at(decision.when)}: {decision.why}")
        taken = batch.withdrawal
        if taken is not None:
            lines.append(f"taken back by {taken.who}, {_at(taken.when)}: {taken.why}")
        lines += [f"trained on by version {use.model_version}, {_at(use.when)}" for use in batch.uses]
        return lines
    if batch.refusals is None:
        return [*lines, f"`prepare` has not seen it: python -m monitoring quarantine check {batch.batch_id}"]
    if batch.refusals:
        return [*lines, *(f"cannot be trained on: {one}" for one in batch.refusals)]
    looking = f"python -m monitoring quarantine show {batch.batch_id}"
    return [*lines, f"waits for somebody to look at it ({looking}), then to release or reject it"]


def left(found: Sequence[Gathered]) -> list[str]:
    """What was not collected, and why."""
    known_ones = sum(one.known for one in found)
    unkept, copies = sum(one.without_image for one in found), sum(one.copies for one in found)
    told = []
    if known_ones:
        told.append(f"{known_ones} labels are of images that a batch holds already, or were turned down")
    if unkept:
        told.append(
            f"{unkept} labels are of images that are not kept with their true mask (RESUNET_KEEP_IMAGES, "
            "RESUNET_KEEP_LABELS, where it is served)"
        )
    if copies:
        told.append(f"{copies} are copies of others")
    return told


def _at(moment: datetime) -> str:
    return f"{moment:{_MOMENT}} UTC"

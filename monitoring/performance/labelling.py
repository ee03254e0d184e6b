"""Labels of a file, written down one by one: what one row has wrong costs the others nothing.

    done = label_all(rows, defaults, engine=engine, stores=stores, keep=False, now=datetime.now(UTC))
    done.refused[0].number, done.refused[0].why

A label that is there is replaced by one of the same source, so a file that was cut off is simply run again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich.table import Table
from sqlalchemy import Engine, select

from monitoring.performance.label_file import Defaults, LabelRow, label_of
from records.engines import explained
from records.labels import Added, Label, add_label, check_label
from records.picks import PickedRequest, picked_requests
from records.stores import Stores
from resunet.errors import DataError, RecordsError, ResunetError


@dataclass(frozen=True)
class Refused:
    """A row that gave no label: its line, its request and why."""

    number: int
    request_id: str
    why: str


@dataclass
class Outcome:
    """What became of a file: what was written (or would be), and the rows that were refused."""

    added: list[Added] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def label_all(
    rows: Iterable[LabelRow],
    defaults: Defaults,
    *,
    engine: Engine,
    stores: Stores,
    keep: bool,
    now: datetime,
    dry_run: bool = False,
) -> Outcome:
    """Write down the labels of a file.

    Args:
        rows: as `read_label_file` gives them.
        engine: of the inference log.
        stores: of this home, with the predicted masks that are still kept.
        keep: whether truths are kept, where images are.
        now: aware.
        dry_run: find out the same, and write nothing.

    Raises:
        RecordsError: the database does not answer; rows before that are written.
    """
    outcome = Outcome()
    picked: dict[str, dict[str, tuple[PickedRequest, ...]]] = {}
    seen: dict[tuple[str, str, str], int] = {}
    for row in rows:
        try:
            label = label_of(row, defaults)
            if label.model_name not in picked:
                picked[label.model_name] = picked_requests(engine, label.model_name)
            if row.draft:
                _check_source(label, picked[label.model_name].get(label.request_id, ()))
            before = seen.setdefault((label.request_id, label.model_name, label.source), row.number)
            if before != row.number:
                raise DataError(f"line {before} labels this request already: leave one of the two")
            if dry_run:
                outcome.added += check_label(engine, stores.masks, label)
            else:
                outcome.added += add_label(engine, stores.masks, label, now, stores if keep else None)
        except ResunetError as error:
            _end_if_dead(engine, error)
            outcome.refused.append(Refused(row.number, row.request_id, str(error)))
    return outcome


def _check_source(label: Label, chosen: Sequence[PickedRequest]) -> None:
    """Of rows that a pick wrote; an audit of one's own may well come upon an image that was picked."""
    if label.source == "audit" and chosen and all(one.source == "picked" for one in chosen):
        raise DataError(
            "the image was picked for what it looks like, so it is no random audit: write picked in the column source"
        )


def _end_if_dead(engine: Engine, error: ResunetError) -> None:
    """Ten thousand rows must not each wait for a database that is gone; one damaged mask must not end the others."""
    if isinstance(error, RecordsError):
        with explained(engine), engine.connect() as connection:
            connection.execute(select(1))


def outcome_table(outcome: Outcome, *, dry_run: bool) -> Table:
    """Labels by version and source, with their mean Dice, and how many rows were refused."""
    title = "labels that would be written" if dry_run else "labels written"
    table = Table(title=title, title_justify="left")
    table.add_column("version", no_wrap=True)
    table.add_column("source", no_wrap=True)
    for heading in ("labels", "mean Dice", "lowest"):
        table.add_column(heading, justify="right", no_wrap=True)
    parts: dict[tuple[str, str], list[float]] = {}
    for added in outcome.added:
        parts.setdefault((added.model_version, added.source), []).append(added.scores["dice"])
    for (version, source), dices in sorted(parts.items()):
        mean = sum(dices) / len(dices)
        table.add_row(version, source, f"{len(dices):,}", f"{mean:.3f}", f"{min(dices):.3f}")
    if outcome.refused:
        table.add_row("refused", "", f"{len(outcome.refused):,}", "", "", style="bold red")
    return table

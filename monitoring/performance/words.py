"""How measured performance reads: a table for a terminal, and why there is none."""

import math
from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from monitoring.performance.choice import Chosen
from monitoring.performance.labelled import Labelled
from monitoring.performance.window import Measured, Score, Weighing
from monitoring.window import Window
from resunet.intervals import FEW

_NAMED = 5
_IN_TABLE = {"Dice": "dice", "IoU": "iou", "precision": "precision", "recall": "recall"}
SHOWN = ("dice", "iou", "precision", "recall", "boundary_f1")


def score_text(score: Score, between: str = "\n") -> str:
    """A mean with its interval; empty where no label tells it."""
    return "" if math.isnan(score.mean) else f"{score.mean:.3f}{between}{score.low:.2f}–{score.high:.2f}"


def part_text(one: Measured) -> str:
    """What a row is of, besides the version."""
    parts = [f"slice {one.slice}" if one.slice is not None else "", one.route or ""]
    return ", ".join(part for part in parts if part) or "all"


def performance_table(rows: Sequence[Measured], headline: str) -> Table:
    """Scores of versions and their parts."""
    # In 80 columns; boundary F1 is on the page and in MLflow.
    table = Table(title=headline, title_justify="left", caption=method_text(rows), caption_justify="left", box=SIMPLE)
    table.add_column("version", overflow="fold")
    for heading in ("images", *_IN_TABLE):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in rows:
        whole = one.slice is None and one.route is None
        of = one.version if whole else f"{one.version}, {part_text(one)}"
        cells = [score_text(getattr(one, name)) for name in _IN_TABLE.values()]
        table.add_row(of, f"{one.images:,}", *cells, style="bold" if whole else "")
    return table


def method_text(rows: Sequence[Measured]) -> str:
    """How means and intervals came about."""
    if any(one.weighted for one in rows):
        picked = any("picked" in one.sources for one in rows)
        which = "audited and picked images" if picked else "random audits, which were drawn at different rates"
        return (
            f"Mean and 95 % interval of {which}, each weighted by the inverse of the probability with which it was "
            f"{'chosen' if picked else 'drawn'} (Hájek). While they say less than {FEW} labels of one weight "
            "would, the interval is one that holds for every distribution, which is wider."
        )
    source = "labels that clients sent: no sample of anything" if _is_client(rows) else "random audits"
    return (
        f"Mean and 95 % interval over images, from {source}. Interval: bootstrap over images; below {FEW} of them one "
        "that holds for every distribution (Waudby-Smith & Ramdas 2024), which is wider."
    )


def _is_client(rows: Sequence[Measured]) -> bool:
    return any("client" in one.sources for one in rows)


def notes(weighing: Weighing, *, named: bool = True) -> list[str]:
    """What a reader must know besides the table; requests are `named` or only counted."""
    labelled = weighing.labelled
    told = []
    if labelled.ambiguous:
        first = ", ".join(f"{request} (version {version})" for request, version in labelled.ambiguous[:_NAMED])
        more = f" and {len(labelled.ambiguous) - _NAMED} more" if len(labelled.ambiguous) > _NAMED else ""
        told.append(
            f"Left out: labels of {len(labelled.ambiguous)} request ids that stand for several answers of a version, "
            f"so nobody can tell which is meant{f': {first}{more}' if named else ''}."
        )
    if weighing.unknown:
        without = f"{weighing.unknown} audits for which no probability of being chosen is on record"
        told.append(f"Left out: {without}." if weighing.picked else f"Not weighted: where one of {without} is counted.")
    others = {source: count for source, count in labelled.sources.items() if source not in _counted(weighing)}
    if others:
        each = ", ".join(f"{count} {source}" for source, count in sorted(others.items()))
        told.append(f"Not counted: labels of other sources ({each}).")
    return told


def _counted(weighing: Weighing) -> set[str]:
    return {row.source for row in weighing.labelled.rows}


def pick_table(chosen: Sequence[Chosen], title: str) -> Table:
    """How many images were chosen for what."""
    table = Table(title=title, title_justify="left")
    table.add_column("source", no_wrap=True)
    table.add_column("why", no_wrap=True)
    table.add_column("images", justify="right")
    reasons = Counter((one.source, one.why.partition(":")[0]) for one in chosen)
    for (source, why), count in sorted(reasons.items()):
        table.add_row(source, why, str(count))
    return table


def no_labels(model: str, window: Window, labelled: Labelled) -> str:
    """Why there is nothing to measure, and what to do about it.

    Args:
        model: whose answers were looked for, in words.
    """
    where = f"the window {window}"
    if not labelled.answers:
        return (
            f"no labels: {where} holds no answers of {model}. Ask for another --window or --until, or check that the "
            "server logs to this database (RESUNET_INFERENCE_LOG)"
        )
    if labelled.sources:
        each = ", ".join(f"{count} {source}" for source, count in sorted(labelled.sources.items()))
        return (
            f"no labels that count: {where} holds labels of {model}, but of other sources ({each}). --picked counts "
            "picked ones by their probability, --client shows those of clients"
        )
    ambiguous = f", and {len(labelled.ambiguous)} that nobody can join" if labelled.ambiguous else ""
    return (
        f"no labels: {where} holds {labelled.answers:,} answers of {model} and no label of them{ambiguous}. Choose "
        "images with `python -m monitoring pick`, and send their masks with `python -m monitoring label --csv`"
    )

"""What versions were worth in a window, by their labels: Dice, IoU, precision, recall, boundary F1, with intervals.

    for one in measured(engine, "resunet", window, by=("slice",)):
        one.version, one.slice, one.images, one.dice.mean, one.dice.low, one.dice.high

Only labels of random audits count unless others are asked for: what people choose to look at is not what there is.
Where audits were drawn at different rates, each counts with the inverse of its own (`records.audits`). With
`picked=True` those of `monitoring pick` count too, each with the inverse of the probability with which its image was
chosen; a label without one is refused.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Engine

from monitoring.live import LIVE_ROUTES
from monitoring.performance.labelled import Labelled, LabelledAnswer, labelled_in
from monitoring.window import Window
from records.audits import audit_chances, unequal
from records.labels import SCORES, Source
from records.picks import Pick, PickedRequest, picked_requests
from resunet.errors import DataError
from resunet.intervals import mean_interval, weighted_interval

GROUPINGS: Final = ("slice", "route")


class Score(NamedTuple):
    """A mean with its 95 % interval; all nan where no label tells it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """A version, or a part of what it answered, by its labels.

    Attributes:
        slice, route: of the part; None for all of them.
        images: labelled ones that count.
        sources: of the labels that count.
        weighted: whether images count by the inverse of their probability.
    """

    version: str
    slice: str | None
    route: str | None
    images: int
    sources: tuple[Source, ...]
    weighted: bool
    dice: Score
    iou: Score
    precision: Score
    recall: Score
    boundary_f1: Score


@dataclass(frozen=True)
class Weighing:
    """How the labels of a window count.

    Attributes:
        labelled: those that count.
        probabilities: of their images having been chosen, in the same order, None where it is not on record; None
            alone: all count alike.
        unknown: labels of audits for which no probability is on record, where others have one.
        picked: whether picked images count, and audits without a probability are left out; else audits alone count,
            and a part in which there is one without a probability is not weighted.
    """

    labelled: Labelled
    probabilities: tuple[float | None, ...] | None = None
    unknown: int = 0
    picked: bool = False

    def of(self, places: Sequence[int]) -> list[float] | None:
        """The probabilities of some rows; None where they count alike."""
        if self.probabilities is None:
            return None
        chances = [self.probabilities[place] for place in places]
        return [chance for chance in chances if chance is not None] if self.picked else unequal(chances)


def measured(
    engine: Engine,
    model: str,
    window: Window,
    *,
    by: Sequence[str] = (),
    version: str | None = None,
    routes: Sequence[str] = LIVE_ROUTES,
    picked: bool = False,
    client: bool = False,
) -> list[Measured]:
    """Measure the versions of a model in a window; none where there is no label that counts.

    Args:
        model: registered.
        window: of the predictions' event time: a late label counts where its image belongs.
        by: any of `GROUPINGS`, besides the version, which always is one: parts come after their whole.
        version: one alone.
        routes: that count.
        picked: count labels of picked images too, weighted.
        client: count labels that clients sent of their own accord instead, which are no sample of anything.

    Raises:
        DataError: a picked label has no probability on record, or `by` makes no sense.
        RecordsError: the database does not answer.
    """
    return summarise(weighed(engine, model, window, version=version, routes=routes, picked=picked, client=client), by)


def weighed(
    engine: Engine,
    model: str,
    window: Window,
    *,
    version: str | None = None,
    routes: Sequence[str] = LIVE_ROUTES,
    picked: bool = False,
    client: bool = False,
) -> Weighing:
    """The labels that count and what each counts for; see `measured`."""
    if picked and client:
        raise DataError("labels of clients have no known probability: ask for picked or for client, not for both")
    sources: tuple[Source, ...] = ("client",) if client else ("audit", "picked") if picked else ("audit",)
    found = labelled_in(engine, model, window, sources=sources, version=version, routes=routes)
    if picked:
        return _with_probabilities(found, picked_requests(engine, model))
    return Weighing(found) if client else _audited(found, audit_chances(engine, model, found.rows))


def _audited(found: Labelled, chances: Mapping[str, float]) -> Weighing:
    if not chances:
        return Weighing(found)
    probabilities = tuple(chances.get(row.answer_id) for row in found.rows)
    return Weighing(found, probabilities, unknown=probabilities.count(None))


def _with_probabilities(found: Labelled, chosen: dict[str, tuple[PickedRequest, ...]]) -> Weighing:
    rows: list[LabelledAnswer] = []
    probabilities: list[float] = []
    picks: dict[str, Pick] = {}
    unknown = 0
    for row in found.rows:
        mine = chosen.get(row.request_id, ())
        if mine:
            rows.append(row)
            probabilities.append(mine[-1].probability)
            picks[mine[-1].pick.pick_id] = mine[-1].pick
        elif row.source == "picked":
            raise DataError(
                f"the label of request {row.request_id!r} is of a picked image, but with which probability it was "
                "picked is not on record: images are picked with `python -m monitoring pick`; without --picked only "
                "audits count"
            )
        else:
            unknown += 1
    _check_apart(sorted(picks.values(), key=lambda pick: pick.window_start))
    kept = Labelled(tuple(rows), found.ambiguous, found.sources, found.answers)
    return Weighing(kept, tuple(probabilities), unknown, picked=True)


def _check_apart(picks: Sequence[Pick]) -> None:
    """An image that two picks could have chosen had another probability than either of them knows."""
    for one, other in itertools.pairwise(picks):
        if other.window_start < one.window_end:
            raise DataError(
                f"the picks {one.pick_id} and {other.pick_id} chose from the same hours, so nobody knows the "
                "probabilities of both together: ask for a window that holds images of one of them, or leave --picked"
            )


def summarise(weighing: Weighing, by: Sequence[str] = ()) -> list[Measured]:
    """Means of each version, then of its parts."""
    wrong = [name for name in by if name not in GROUPINGS]
    if wrong:
        raise DataError(f"{wrong[0]!r} is nothing to measure by: choose from {', '.join(GROUPINGS)}")
    rows = weighing.labelled.rows

    def parted(key: Callable[[LabelledAnswer], tuple[str | None, ...]]) -> dict[tuple[str | None, ...], list[int]]:
        parts: dict[tuple[str | None, ...], list[int]] = {}
        for place, row in enumerate(rows):
            parts.setdefault(key(row), []).append(place)
        return parts

    keys: list[Callable[[LabelledAnswer], tuple[str | None, ...]]] = [lambda row: (row.model_version, None, None)]
    if "slice" in by:
        keys.append(lambda row: (row.model_version, row.slice, None))
    if "route" in by:
        keys.append(lambda row: (row.model_version, None, row.route))
    if "slice" in by and "route" in by:
        keys.append(lambda row: (row.model_version, row.slice, row.route))
    found = {part: places for key in keys for part, places in parted(key).items()}
    return [
        _measure(part, places, weighing) for part, places in sorted(found.items(), key=lambda item: _order(item[0]))
    ]


def _order(part: tuple[str | None, ...]) -> tuple[object, ...]:
    version, *others = part
    number = (0, int(version), "") if version is not None and version.isdigit() else (1, 0, version or "")
    return number, sum(name is not None for name in others), *(name or "" for name in others)


def _measure(part: tuple[str | None, ...], places: Sequence[int], weighing: Weighing) -> Measured:
    rows = [weighing.labelled.rows[place] for place in places]
    probabilities = weighing.of(places)
    version, piece, route = part
    scores = {name: _score([row.scores.get(name) for row in rows], rows, probabilities) for name in SCORES}
    present: list[Source] = [name for name in ("audit", "picked", "client") if any(row.source == name for row in rows)]
    return Measured(version or "", piece, route, len(rows), tuple(present), probabilities is not None, **scores)


def _score(
    values: Sequence[float | None], rows: Sequence[LabelledAnswer], probabilities: Sequence[float] | None
) -> Score:
    numbers = [float("nan") if value is None else value for value in values]
    images = [row.image_digest for row in rows]
    if probabilities is not None:
        return Score(*weighted_interval(numbers, probabilities, images))
    return Score(*mean_interval(numbers, images))

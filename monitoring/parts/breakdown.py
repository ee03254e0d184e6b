"""What a report says of the parts of its window: read what is needed, and divide.

found = divide(question, drift, looked_at, engine)
found.slices, found.blame, found.versions
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from sqlalchemy import Engine

from monitoring.drift import Drift, Family
from monitoring.families import ANSWER, make_families, once
from monitoring.furthest import furthest
from monitoring.judge import judge
from monitoring.live import OTHER_VERSIONS, RowCounts
from monitoring.parts.blame import Blame, blame
from monitoring.parts.distributions import Part, Rows
from monitoring.parts.pairs import same_images
from monitoring.parts.slices import SliceDrift, Slices, break_down
from monitoring.parts.versions import OtherVersion, beside
from monitoring.streams import Stream, read_stream

if TYPE_CHECKING:
    from monitoring.answer import Question

SLICE: Final = "slice"


@dataclass(frozen=True, eq=False)
class LookedAt:
    """The rows that were compared: of the reference, and of the window or a sample of it; and families made of them."""

    reference: pd.DataFrame
    live: pd.DataFrame
    families: tuple[Family, ...]
    counts: RowCounts


@dataclass(frozen=True)
class Breakdown:
    """The window by slice and by version."""

    slices: Slices = field(default_factory=Slices)
    blame: Blame | None = None
    versions: tuple[OtherVersion, ...] = ()


def divide(question: "Question", drift: Drift, looked_at: LookedAt, engine: Engine) -> Breakdown:
    """Divide a window: of more rows than the sample from their sums, which are of all.

    Raises:
        RecordsError: the database does not answer.
    """
    counts, live = looked_at.counts, once(looked_at.live)
    sampled = counts.compared > question.sample_rows
    others = counts.left_out.get(OTHER_VERSIONS, 0)
    stream = read_stream(engine, question.version.name, question.window) if sampled or others else None
    slices = _slices(question, drift, looked_at, live, stream if sampled else None)
    found = Breakdown(slices)
    if drift.alarms:

        def rest(without: Collection[str | None]) -> Drift | None:
            left = live[~live[SLICE].map(lambda name: name in without)]
            families, _ = make_families(looked_at.reference, left, min_live=question.min_rows)
            return judge(families, drift.rule) if len(families) == len(looked_at.families) else None

        found = replace(found, blame=blame(slices, rest))
    if stream is not None and others:
        found = replace(found, versions=_versions(question, drift, live, stream, engine))
    return found


def _slices(
    question: "Question", drift: Drift, looked_at: LookedAt, live: pd.DataFrame, stream: Stream | None
) -> Slices:
    parts: Mapping[str | None, Part]
    whole: Part
    if stream is not None:
        parts, whole = (
            stream.by("slice", question.version, question.routes),
            stream.of(question.version, question.routes),
        )
    else:
        groups = live.groupby(live[SLICE].map(_key), sort=False)
        parts, whole = {_name(key): Rows(rows) for key, rows in groups}, Rows(live)
    if set(parts) <= {None}:
        return Slices()
    found = break_down(parts, whole, drift, looked_at.reference, min_rows=question.min_rows)
    alarms = {test.name for test in drift.alarms}
    return _by_strangers(found, looked_at, live, drift.rule.seed) if alarms == {"strangers"} else found


def _by_strangers(found: Slices, looked_at: LookedAt, live: pd.DataFrame, seed: int) -> Slices:
    """The same where only a few images are like none of the reference: a slice's part is its share of those."""
    far = [one.answer for one in furthest(looked_at.families[0], len(live), seed) if one.distance > one.usual]
    whose = live.set_index(ANSWER)[SLICE].reindex(far)
    if not far:
        return found

    def part(one: SliceDrift) -> SliceDrift:
        return replace(one, part=float(whose.map(lambda name: _name(_key(name)) == one.name).mean()))

    shown = sorted(map(part, found.shown), key=lambda one: (-(one.part or 0.0), -one.rows, one.name or ""))
    return replace(found, shown=tuple(shown), columns=())


def _versions(
    question: "Question", drift: Drift, live: pd.DataFrame, stream: Stream, engine: Engine
) -> tuple[OtherVersion, ...]:
    everyone = stream.by("model_version", None, question.routes)
    others = {str(number): one for number, one in everyone.items() if number != question.version.version}
    pairs = same_images(engine, question.version, question.window, live, routes=question.routes)
    watched = stream.of(question.version, question.routes)
    return beside(watched, others, pairs, min_rows=question.min_rows, min_effect=drift.rule.min_effect)


def _key(name: Any) -> tuple[str, ...]:
    """A slice's name to group by: pandas drops None."""
    return (name,) if isinstance(name, str) else ()


def _name(key: Any) -> str | None:
    return key[0] if key else None

"""What a verdict on a window takes: its rows beside a reference, and nothing that draws or keeps the answer.

stream = read_stream(engine, "resunet", window)
compared = compare(question, engine, stream, reference)
compared.drift.verdict, compared.left_out
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from monitoring.answer import Question
from monitoring.drift import FEW_GROUPS, ColumnDrift, Drift, Family, LeftOut
from monitoring.families import ANSWER, EMBEDDING, WINDOW_SHORT, make_families
from monitoring.judge import answerable, judge
from monitoring.live import REFUSED, RowCounts
from monitoring.parts.breakdown import SLICE
from monitoring.parts.pairs import KEY
from monitoring.quality import Finding, findings, refusals
from monitoring.sampling import count_copies, sample_rows
from monitoring.streams import Stream
from monitoring.summary import ColumnSummary
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import VersionError


@dataclass(frozen=True)
class Compared:
    """A window beside a reference.

    Attributes:
        drift: the verdict.
        live: the rows that were looked at, a sample of many.
        families: what was compared; none where there are too few rows of everything.
        left_out: descriptors that were not, and why.
    """

    drift: Drift
    live: pd.DataFrame
    families: tuple[Family, ...]
    left_out: tuple[LeftOut, ...]


def compare(question: Question, engine: Engine, stream: Stream, reference: pd.DataFrame) -> Compared:
    """Compare a window with a reference: all that a verdict takes, and nothing that draws or keeps it.

    Args:
        stream: the window's sums; they hold `min_rows` that are compared.
        reference: as `monitoring.tracking.read_reference` gives it.

    Raises:
        RecordsError: the database does not answer.
        VersionError: no descriptor can be compared with such a reference.
    """
    counts = stream.counts(question.version, question.routes)
    live = _live(question, engine)
    families, left_out = _families(question, reference, live)
    copies = None
    if counts.compared > question.sample_rows:
        copies = count_copies(engine, question.version, question.window, routes=question.routes)
    quality = _quality(reference, live, _refused(question, counts), copies)
    if not families:
        return Compared(_too_few(question, quality), live, (), tuple(left_out))
    drift = judge(families, question.rule, quality)
    if counts.compared > question.sample_rows:
        drift = with_all_rows(drift, stream, question)
    return Compared(drift, live, tuple(families), tuple(left_out))


def of_too_few(question: Question, counts: RowCounts) -> Drift:
    """The verdict on a window that is too small to be compared."""
    return _too_few(question, [_refused(question, counts)])


def _refused(question: Question, counts: RowCounts) -> Finding:
    return refusals(counts.left_out.get(REFUSED, 0), counts.compared, question.min_rows)


def with_all_rows(drift: Drift, stream: Stream, question: Question) -> Drift:
    """The same with live means of all rows, from their sums, in the place of those of the sample."""
    everything = stream.of(question.version, question.routes)
    return replace(drift, columns=tuple(_of_all(column, everything[column.column]) for column in drift.columns))


def _of_all(column: ColumnDrift, live: ColumnSummary) -> ColumnDrift:
    if not live.count:
        return column
    shift = (live.mean - column.reference_mean) / column.reference_std if column.reference_std > 0 else None
    return replace(column, live_mean=live.mean, shift=shift, live_rows=live.count)


def _too_few(question: Question, quality: list[Finding]) -> Drift:
    """Without a test; images that are at fault are a verdict all the same."""
    alarm = any(finding.alarm for finding in quality)
    return Drift(
        "drift" if alarm else "too few rows", question.rule, quality=tuple(one for one in quality if one.images)
    )


def _quality(
    reference: pd.DataFrame, live: pd.DataFrame, refused: Finding, copies: tuple[int, int] | None
) -> list[Finding]:
    found = findings(reference[reference["split"] == "train"], live, copies=copies)
    return [refused, *found] if refused.images else found


def _live(question: Question, engine: Engine) -> pd.DataFrame:
    live = sample_rows(
        engine,
        question.version,
        question.window,
        routes=question.routes,
        columns=(*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS, ANSWER, *KEY, SLICE, "embedding"),
        limit=question.sample_rows,
        seed=question.rule.seed,
    )
    live[EMBEDDING] = live["embedding"].map(_unpacked)
    return live


def _families(question: Question, reference: pd.DataFrame, live: pd.DataFrame) -> tuple[list[Family], list[LeftOut]]:
    if len(reference) > question.sample_rows:
        reference = reference.sample(question.sample_rows, random_state=question.rule.seed)
    found, left_out = make_families(reference, live, min_live=question.min_rows)
    families, unanswerable = answerable(found, question.rule)
    left_out += unanswerable
    if not families and not any(short in left.reason for left in left_out for short in (WINDOW_SHORT, FEW_GROUPS)):
        raise VersionError(
            f"nothing can be compared: {left_out[0].column}: {left_out[0].reason}. The reference of "
            f"{question.version} holds {int((reference['split'] == 'train').sum())} training images; train a version "
            "on more of them"
        )
    return families, left_out


def _unpacked(stored: bytes | None) -> Any:
    return None if stored is None else np.frombuffer(stored, "<f4")

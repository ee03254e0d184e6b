"""The answers of a window that can be picked: those whose image and mask are still kept in this home.

found = candidates_in(engine, version, window, stores, routes=LIVE_ROUTES, before=picked_answers(engine, "resunet"))
found.rows, found.fresh
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from monitoring.sampling import sample_chunks
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.engines import explained
from records.picks import PickSource
from records.schema import labels
from records.stores import Stores
from records.window import read_window

if TYPE_CHECKING:
    import pandas as pd

# More would take minutes to spread; of more a uniform sample is looked at, and probabilities say so.
MOST: Final = 5000
COLUMNS: Final = (
    "answer_id",
    "request_id",
    "event_time",
    "route",
    "slice",
    "model_digest",
    "confidence",
    "boundary_uncertainty",
    "embedding",
)


@dataclass(frozen=True)
class Candidates:
    """What can be picked.

    Attributes:
        rows: `COLUMNS`, oldest first, at most MOST.
        fresh: (rows,) neither picked before nor labelled by audit or pick: may be picked for its worth.
        share: of the kept answers of the window that `rows` are.
        answers: of the version in the window, kept or not.
        kept: of these, with image and mask, and not in an audit of an earlier pick.
    """

    rows: "pd.DataFrame"
    fresh: NDArray[np.bool_]
    share: float
    answers: int
    kept: int


def candidates_in(
    engine: Engine,
    version: WatchedVersion,
    window: Window,
    stores: Stores,
    *,
    routes: Sequence[str],
    before: Mapping[str, set[PickSource]],
    seed: int,
) -> Candidates:
    """Find the answers that can be picked.

    What was drawn at random before is left out (what remains is as random as it was); what was picked for its worth
    stays among those of which audits are drawn, or these would miss the worst images.

    Args:
        before: answers that were chosen before, and as what.
        seed: of the sample, where there are more than MOST.

    Raises:
        RecordsError: the database does not answer.
    """
    import pandas as pd

    answers = kept = 0

    def chunks() -> "Iterator[pd.DataFrame]":
        nonlocal answers, kept
        for chunk in read_window(
            engine, window.start, window.end, version.name, version.version, columns=list(COLUMNS), status="ok"
        ):
            mine = chunk["route"].isin(list(routes))
            if version.digest:
                mine &= chunk["model_digest"].isin([version.digest, ""])
            chunk = chunk[mine]
            there = [
                "audit" not in before.get(answer, ())
                and stores.images.holds(answer, when)
                and stores.masks.holds(answer, when)
                for answer, when in zip(chunk["answer_id"], chunk["event_time"], strict=True)
            ]
            answers, kept = answers + len(chunk), kept + sum(there)
            yield chunk[np.array(there, np.bool_)]

    rows = sample_chunks(chunks(), MOST, seed)
    if rows.empty:
        rows = pd.DataFrame(columns=list(COLUMNS))
    done = _labelled(engine, version)
    pairs = zip(rows["answer_id"], rows["request_id"], strict=True)
    fresh = np.array([answer not in before and request not in done for answer, request in pairs], np.bool_)
    return Candidates(rows, fresh, len(rows) / kept if kept else 1.0, answers, kept)


def _labelled(engine: Engine, version: WatchedVersion) -> set[str]:
    """Requests with a label that nobody need make again; a client's word is none."""
    query = select(labels.c.request_id).where(
        labels.c.model_name == version.name,
        labels.c.model_version == version.version,
        labels.c.source.in_(("audit", "picked")),
    )
    with explained(engine), engine.connect() as connection:
        return set(connection.scalars(query))

"""Images of a window that two versions have answered: a shadow's twins have the request id of what the client got.

pairs = same_images(engine, version, window, live, routes=LIVE_ROUTES)
"""

from collections.abc import Sequence
from typing import Final

import pandas as pd
from sqlalchemy import Engine, select

from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.engines import explained
from records.schema import predictions
from resunet.descriptors import PREDICTION_DESCRIPTORS

KEY: Final = ("request_id", "image_digest")
# Of the sample so many images are looked for, in as many rows at most: a client may give all its requests one id.
MOST_IMAGES: Final = 1_000
# How a column of the watched version is called beside the other one's.
MINE: Final = "_mine"
_AT_A_TIME: Final = 500
_MOST_ROWS: Final = 20


def same_images(
    engine: Engine, version: WatchedVersion, window: Window, live: pd.DataFrame, *, routes: Sequence[str]
) -> pd.DataFrame:
    """Find answers of other versions to images of the window that the watched version answered too.

    Args:
        live: a row an answer of the watched version: `request_id`, `image_digest` and prediction descriptors.

    Returns:
        a row a pair: `model_version` of the other, its prediction descriptors, and the watched one's with `_mine`.

    Raises:
        RecordsError: the database does not answer.
    """
    mine = live[live["image_digest"].notna()].drop_duplicates(list(KEY))[:MOST_IMAGES]
    names = ("model_version", *KEY, *PREDICTION_DESCRIPTORS)
    rows: list[tuple[object, ...]] = []
    table, ids = predictions.c, mine["request_id"].unique().tolist()
    with explained(engine), engine.connect() as connection:
        for start in range(0, len(ids), _AT_A_TIME):
            query = (
                select(*(table[name] for name in names))
                .where(table.model_name == version.name, table.request_id.in_(ids[start : start + _AT_A_TIME]))
                .where(table.event_time >= window.start, table.event_time < window.end)
                .where(table.model_version != version.version, table.status == "ok", table.route.in_(list(routes)))
                .limit(_AT_A_TIME * _MOST_ROWS)
            )
            rows += [tuple(row) for row in connection.execute(query)]
    theirs = pd.DataFrame.from_records(rows, columns=list(names)).drop_duplicates(["model_version", *KEY])
    numbers = dict.fromkeys(PREDICTION_DESCRIPTORS, "float64")
    both = theirs.astype(numbers).merge(mine[[*KEY, *PREDICTION_DESCRIPTORS]], on=list(KEY), suffixes=("", MINE))
    return both.drop(columns=list(KEY))

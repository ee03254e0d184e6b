"""An inference log of as many rows as one likes, made by PostgreSQL itself: what `benchmarks.monitoring_scale` reads.

fill(url, rows=1_000_000)
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.engines import make_engine
from records.schema import DESCRIPTORS
from serving.predictor import EMBEDDING_SIZE

VERSION: Final = WatchedVersion("resunet", "3", "sha256:" + "a" * 64)
# Neither begins nor ends with an hour.
WINDOW: Final = Window.ending(datetime(2026, 3, 2, 14, 20, tzinfo=UTC), timedelta(days=1))
REFERENCE: Final = Window.ending(WINDOW.start - timedelta(days=1), timedelta(days=1))
REFERENCE_ROWS: Final = 10_000
# 20 columns: of the others all images have the same value.
COLUMNS: Final = tuple(name for name in DESCRIPTORS if name not in ("width", "height"))
# Of as many different ones; each has some thousand images.
_EMBEDDINGS: Final = 16
_FRACTIONS: Final = ("saturation", "hue_spread", "clipped_low", "clipped_high", "foreground_fraction", "confidence")
_FRACTIONS_TOO: Final = (*_FRACTIONS, "boundary_uncertainty")

_INSERT = """
INSERT INTO predictions (answer_id, request_id, model_name, model_version, route, event_time, model_digest, client,
  slice, engine, status, image_digest, threshold, latency_ms, width, height, embedding, {names})
SELECT encode(sha256(('{mark} ' || i)::bytea), 'hex'), '{mark}-' || i, 'resunet', '3',
  (ARRAY['production', 'canary', 'shadow'])[1 + i %% 3], timestamptz '{start}' + i * interval '{step} microseconds',
  '{digest}', 'lab-' || i %% 7, 'modality=' || i %% 4, 'openvino', 'ok',
  'sha256:' || md5(i::text) || md5('x' || i), 0.5, 10 + 20 * random(), 256, 256,
  decode((ARRAY[{embeddings}])[1 + i %% {count}], 'hex'), {values}
FROM generate_series(0, {rows} - 1) AS i
"""


def fill(url: str, rows: int) -> None:
    """Log rows evenly over WINDOW, and REFERENCE_ROWS over REFERENCE, as a release without sketches would."""
    engine = make_engine(url)
    with engine.begin() as connection:
        for mark, window, count in (("live", WINDOW, rows), ("reference", REFERENCE, min(rows, REFERENCE_ROWS))):
            step = (window.end - window.start) // timedelta(microseconds=1) // count
            words: dict[str, object] = {"mark": mark, "start": window.start.isoformat(), "step": step, "rows": count}
            words |= {"names": ", ".join(COLUMNS), "values": ", ".join(_value(name) for name in COLUMNS)}
            words |= {"embeddings": ", ".join(f"'{one}'" for one in _embeddings()), "count": _EMBEDDINGS}
            connection.exec_driver_sql(_INSERT.format(digest=VERSION.digest, **words))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE predictions")
    engine.dispose()


def _embeddings() -> list[str]:
    """As the log holds them, in hexadecimal."""
    drawn = np.random.default_rng(0).normal(size=(_EMBEDDINGS, EMBEDDING_SIZE)).astype("<f4")
    return [one.tobytes().hex() for one in drawn]


def _value(name: str) -> str:
    """A bell around the middle of the column's range."""
    bell = "(random() + random() + random()) / 3"
    return bell if name in _FRACTIONS_TOO else f"5 + 100 * {bell}"

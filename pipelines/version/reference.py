"""What a version's images looked like: the rows that live images are compared with.

    rows = build_reference(predictor, samples, splits)
    write_reference(rows, root / "reference.parquet")

A row an image: `path`, `split`, the descriptors of the image; for validation and test images also those of the
prediction and the embedding. Of training images they are missing on purpose: there the network remembers, and
live images would always look less certain.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.dataset import Sample
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS, describe_image
from resunet.images import read_image
from serving.predictor import Predictor

HELD_OUT = frozenset({"validation", "test"})


def build_reference(
    predictor: Predictor,
    samples: Iterable[Sample],
    splits: Mapping[str, str],
    *,
    advance: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Describe every image of a data set, and predict the held-out ones.

    Args:
        predictor: of the version, calibration included.
        samples: all images.
        splits: `train`, `validation` or `test` of each sample's file.
        advance: told how many images were done.

    Returns:
        Columns `path`, `split`, `IMAGE_DESCRIPTORS`, `PREDICTION_DESCRIPTORS` (float; nan where not predicted) and
        `embedding` ((64,) float32, or None).
    """
    rows = []
    for sample in samples:
        rows.append(_row(predictor, sample, splits[sample.file]))
        advance(1)
    columns = ["path", "split", *IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS, "embedding"]
    return pd.DataFrame(rows, columns=columns)


def _row(predictor: Predictor, sample: Sample, split: str) -> dict[str, object]:
    rgb = read_image(sample.image)
    row: dict[str, object] = {"path": sample.file, "split": split}
    if split not in HELD_OUT:
        return row | describe_image(rgb) | dict.fromkeys(PREDICTION_DESCRIPTORS, math.nan) | {"embedding": None}
    prediction = predictor.predict(rgb)
    return row | prediction.descriptors | prediction.prediction_descriptors | {"embedding": prediction.embedding}


def write_reference(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows as Parquet; embeddings are lists of 64 float32, null where there is none."""
    numbers = [*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS]
    schema = pa.schema(
        [("path", pa.string()), ("split", pa.string())]
        + [(name, pa.float64()) for name in numbers]
        # Not of a fixed length: Parquet cannot read nulls among such lists back.
        + [("embedding", pa.list_(pa.float32()))]
    )
    arrays = [pa.array(rows[name].tolist(), schema.field(name).type) for name in ("path", "split")]
    arrays += [pa.array(rows[name].to_numpy(np.float64), from_pandas=True) for name in numbers]
    arrays.append(pa.array(rows["embedding"].tolist(), schema.field("embedding").type))
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)

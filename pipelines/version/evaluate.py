"""How good a version is on the test split, through the file that serves.

evaluation = evaluate(predictor, LabelledImages(data.split("test")), fingerprint=fingerprint(test_rows))
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipelines.data.labelled import LabelledImage
from pipelines.data.manifest import SLICE_PREFIX
from pipelines.version.evaluation_report import metric_name
from registry.evidence import Evaluation, ImageScore, Interval, Metric, SliceResult
from resunet.errors import DataError
from resunet.metrics import METRICS, bootstrap_interval, overlap_scores
from resunet.ranking import Ranking
from serving.predictor import Predictor


class FileDigests(NamedTuple):
    """sha256 (hex) of an image file and of its mask's; empty where nobody knows."""

    image: str = ""
    mask: str = ""


def evaluate(
    predictor: Predictor,
    images: Iterable[LabelledImage],
    *,
    fingerprint: str,
    digests: Mapping[str, FileDigests] = MappingProxyType({}),
    known_slices: Iterable[str] = (),
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Score a version.

    Args:
        predictor: of the version, with its serving file.
        images: the test split.
        fingerprint: of the manifest's test rows.
        digests: of the files of each image, by path: by them a later version's images are known to be the same.
        known_slices: `column=value` of the whole data set; those without a test image are reported as such.
        seed: of the bootstrap.
        advance: told how many images were done.

    Raises:
        DataError: there is no image.
    """
    scores: list[ImageScore] = []
    groups: list[str | None] = []
    slices: list[Mapping[str, str]] = []
    for image in images:
        scores.append(_score(predictor, image, digests.get(image.path, FileDigests())))
        groups.append(image.group)
        slices.append(image.slices)
        advance(1)
    if not scores:
        raise DataError("the test split is empty: nothing can be said of this version; add images")
    members: dict[str, list[int]] = {}
    for index, values in enumerate(slices):
        for column, value in values.items():
            members.setdefault(f"{column}={value}", []).append(index)
    every = range(len(scores))
    return Evaluation(
        fingerprint=fingerprint,
        images=len(scores),
        overall=_intervals(scores, groups, every, seed),
        slices={
            name: SliceResult(images=len(rows), metrics=_intervals(scores, groups, rows, seed))
            for name, rows in sorted(members.items())
        },
        per_image=scores,
        unevaluated_slices=sorted(set(known_slices) - set(members)),
        serving_file=predictor.spec.serving_file,
        precision=predictor.spec.precision,
        engine=predictor.engine.name,
    )


def _score(predictor: Predictor, image: LabelledImage, digests: FileDigests) -> ImageScore:
    """Score one image; the network runs once, and its probabilities are ranked tile by tile."""
    ranking = Ranking(len(predictor.spec.class_names), image.mask.size)
    prediction = predictor.predict(
        image.rgb, on_tile=lambda tile, probabilities: ranking.add(probabilities, image.mask[tile.keep])
    )
    auc = ranking.auc()
    return ImageScore(
        path=image.path,
        sha256=digests.image,
        mask_sha256=digests.mask,
        group=image.group,
        slices=sorted(f"{column}={value}" for column, value in image.slices.items()),
        **overlap_scores(prediction.mask, image.mask),
        auc=None if np.isnan(auc) else auc,
        confidence=min(1.0, max(0.0, prediction.confidence)),
    )


def _intervals(
    scores: Sequence[ImageScore], groups: Sequence[str | None], rows: Iterable[int], seed: int
) -> dict[Metric, Interval]:
    """Mean and 95 % interval of each metric that has a value; whole groups are drawn."""
    rows = list(rows)
    intervals: dict[Metric, Interval] = {}
    for name in METRICS:
        values = [(getattr(scores[row], name), groups[row]) for row in rows]
        known = [(value, group) for value, group in values if value is not None]
        if not known:
            continue
        mean, low, high = bootstrap_interval([v for v, _ in known], [g for _, g in known], seed=seed)
        if len({(group, row if group is None else 0) for row, (_, group) in enumerate(known)}) < 2:
            low, high = 0.0, 1.0  # one image or one group says nothing of the next
        intervals[metric_name(name)] = Interval(mean=mean, low=low, high=high)
    return intervals


def known_slices(manifest: pd.DataFrame) -> list[str]:
    """Every `column=value` that a manifest knows, in alphabetical order."""
    columns = [column for column in manifest.columns if column.startswith(SLICE_PREFIX)]
    return sorted(
        f"{column.removeprefix(SLICE_PREFIX)}={value}"
        for column in columns
        for value in manifest[column].dropna().unique()
    )


def file_digests(manifest: pd.DataFrame) -> dict[str, FileDigests]:
    """The digests of every image and mask of a manifest, by the image's path."""
    rows = manifest[["path", "sha256", "mask_sha256"]].itertuples(index=False, name=None)
    return {path: FileDigests(image, mask or "") for path, image, mask in rows}

"""What the live version was tested on and takes, held beside the candidate: so that nobody chooses what is compared."""

import pandas as pd

from pipelines.data.manifest import SLICE_PREFIX
from pipelines.evidence.contract import schemas
from pipelines.evidence.subject import Subject, Version
from registry.evidence import Overlap


def overlap(subject: Subject, live: Version) -> Overlap:
    """Find the live version's own test images among the candidate's, by the bytes of image and mask.

    Only what the two versions' own manifests say is compared, so that an image need not be at hand.
    """
    ours, theirs = subject.candidate.test, live.test
    paths = dict(zip(_keys(ours), ours["path"], strict=True))
    shared = {key: paths[key] for key in _keys(theirs) if key in paths}
    slices: dict[str, list[str]] = {}
    counted: dict[str, int] = {}
    for column in (column for column in theirs.columns if column.startswith(SLICE_PREFIX)):
        for value, rows in theirs.dropna(subset=[column]).groupby(column):
            name = f"{column.removeprefix(SLICE_PREFIX)}={value}"
            slices[name] = [shared[key] for key in _keys(rows) if key in shared]
            counted[name] = len(rows)
    return Overlap(
        fingerprint=subject.fingerprint,
        own_images=len(theirs),
        shared=list(shared.values()),
        slices=slices,
        slice_images=counted,
        **schemas(live),
    )


def _keys(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """What tells an image with its mask from others, row by row."""
    return list(zip(rows["sha256"].astype(str), rows["mask_sha256"].astype(str), strict=True))

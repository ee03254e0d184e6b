"""Which files a data set holds, to the byte, and which split each is in.

    manifest = build_manifest(read_dataset(root))
    fingerprint(manifest)                   # "sha256:…", logged with every run

The manifest is a table, a row an image:

| column | |
| --- | --- |
| `path` | name in the data set, `images/a.png` |
| `sha256`, `mask_sha256` | of the two files' bytes; `mask_sha256` is null without a mask |
| `pixels` | sha256 of the decoded RGB pixels and their shape |
| `phash` | perceptual hash, 16 hexadecimal digits |
| `group` | what it shares its split with, by name; null if it stands alone |
| `split` | `train`, `validation` or `test` |
| `width`, `height` | pixels |
| `slice:<column>` | value of that slice; null if it has none |
"""

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from pipelines.data.dataset import Dataset, Sample, count_values, to_indices
from pipelines.data.duplicates import Look, look
from pipelines.data.splits import PIXELS_PREFIX, key_of
from pipelines.data.splits import SPLITS as SPLITS
from pipelines.data.splits import Split as Split
from pipelines.data.splits import split_of as split_of
from pipelines.progress import progress_bar
from resunet.errors import DataError, ImageError
from resunet.images import MAX_PIXELS, decode_image_and_orientation, decode_mask_and_orientation, is_16_bit_grey

SLICE_PREFIX: Final = "slice:"
_COLUMNS: Final = (
    "path",
    "sha256",
    "mask_sha256",
    "pixels",
    "phash",
    "group",
    "split",
    "width",
    "height",
)


@dataclass(frozen=True)
class FileFacts:
    """What one pass over an image and its mask found.

    Attributes:
        error: why the image cannot be read; all else of the image is then empty.
        mask_error: the same of the mask.
        size, mask_size: (height, width) in pixels.
        values: pixels of each value that the mask file stores.
        mask_pixels: sha256 of the mask as class indices.
        orientation, mask_orientation: EXIF orientation that was undone, 1 for none.
        peak: the largest grey level, 0 to 255, of an image of 16-bit grey; None for others.
    """

    file: str
    sha256: str = ""
    pixels: str = ""
    seen: Look | None = None
    size: tuple[int, int] = (0, 0)
    error: str | None = None
    mask_sha256: str | None = None
    mask_pixels: str | None = None
    mask_size: tuple[int, int] | None = None
    values: Mapping[int, int] | None = None
    mask_error: str | None = None
    orientation: int = 1
    mask_orientation: int = 1
    peak: int | None = None


def examine(dataset: Dataset, console: Console | None = None, workers: int | None = None) -> list[FileFacts]:
    """Decode every image and mask once and keep what the checks and the manifest need.

    Threads decode side by side, images of 100 million pixels one at a time: about 1 GiB however many cores.

    Args:
        workers: threads; by default one a core, at most 16.

    Returns:
        Facts in the order of `dataset.samples`.
    """
    memory = _PixelBudget(MAX_PIXELS)
    threads = workers or min(16, os.cpu_count() or 1)

    def one(sample: Sample) -> FileFacts:
        with memory.take(sample.image, sample.mask):
            facts = _examine(sample)
        advance(1)
        return facts

    with (
        progress_bar(console, "Reading images", len(dataset.samples)) as advance,
        ThreadPoolExecutor(threads) as pool,
    ):
        try:
            return list(pool.map(one, dataset.samples))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def build_manifest(
    dataset: Dataset, facts: Sequence[FileFacts] | None = None, console: Console | None = None
) -> pd.DataFrame:
    """The manifest of a data set; see the module.

    Args:
        facts: what `examine` found, if it was called before.

    Raises:
        DataError: an image or mask cannot be read.
    """
    facts = examine(dataset, console) if facts is None else facts
    for fact in facts:
        if fact.error is not None or fact.mask_error is not None:
            reason = fact.error or f"its mask {fact.mask_error}"
            raise DataError(f"{fact.file}: {reason}; 'prepare' lists all that is wrong with a data set")
    keys = [key_of(sample.group, fact.pixels) for sample, fact in zip(dataset.samples, facts, strict=True)]
    shared = Counter(keys)
    rows = []
    for sample, fact, key in zip(dataset.samples, facts, keys, strict=True):
        alone = key.startswith(PIXELS_PREFIX) and shared[key] == 1
        row: dict[str, object] = {
            "path": fact.file,
            "sha256": fact.sha256,
            "mask_sha256": fact.mask_sha256,
            "pixels": fact.pixels,
            "phash": cast(Look, fact.seen).phash,
            "group": None if alone else key if sample.group is None else sample.group,
            "split": split_of(key),
            "width": fact.size[1],
            "height": fact.size[0],
        }
        rows.append(row | {SLICE_PREFIX + c: sample.slices.get(c) for c in dataset.slice_columns})
    return pd.DataFrame(rows, columns=[*_COLUMNS, *(SLICE_PREFIX + c for c in dataset.slice_columns)])


def fingerprint(manifest: pd.DataFrame) -> str:
    """One name for these files in these splits; row order and slices do not matter.

    Returns:
        "sha256:…" over the sorted rows of path, both files' sha256, group and split.
    """
    columns = ["path", "sha256", "mask_sha256", "group", "split"]
    rows = sorted(
        ["" if pd.isna(value) else str(value) for value in row]
        for row in manifest[columns].itertuples(index=False, name=None)
    )
    return "sha256:" + hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_manifest(manifest: pd.DataFrame, path: Path) -> None:
    """Write a manifest as Parquet."""
    manifest.to_parquet(path, index=False)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest that `write_manifest` wrote.

    Raises:
        DataError: it is not there or no manifest.
    """
    try:
        manifest = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a manifest ({error}); run 'prepare' to write one") from None
    missing = set(_COLUMNS) - set(manifest.columns)
    if missing:
        raise DataError(f"{path} is not a manifest: it has no {', '.join(sorted(missing))}")
    # A column that is empty throughout comes back as NaN, not None.
    return manifest.astype({"group": object}).where(manifest.notna(), None)


def _examine(sample: Sample) -> FileFacts:
    try:
        data = sample.image.read_bytes()
        rgb, orientation = decode_image_and_orientation(data)
    except (ImageError, OSError) as error:
        return FileFacts(sample.file, error=_reason(error))
    facts = FileFacts(
        sample.file,
        sha256=hashlib.sha256(data).hexdigest(),
        pixels=pixel_digest(rgb),
        seen=look(rgb),
        size=(rgb.shape[0], rgb.shape[1]),
        orientation=orientation,
        peak=int(rgb[..., 0].max()) if is_16_bit_grey(data) else None,
    )
    del rgb, data
    if sample.mask is None:
        return facts
    try:
        mask_data = sample.mask.read_bytes()
        mask, mask_orientation = decode_mask_and_orientation(mask_data)
    except (ImageError, OSError) as error:
        return FileFacts(**{**vars(facts), "mask_error": _reason(error)})
    counts = count_values(mask)
    found = {
        "mask_sha256": hashlib.sha256(mask_data).hexdigest(),
        "mask_size": (mask.shape[0], mask.shape[1]),
        "values": {int(value): int(counts[value]) for value in np.flatnonzero(counts)},
        "mask_pixels": pixel_digest(to_indices(mask)),
        "mask_orientation": mask_orientation,
    }
    return FileFacts(**{**vars(facts), **found})


def _reason(error: Exception) -> str:
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """sha256 of decoded pixels and their shape: what makes two images the same one."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


class _PixelBudget:
    """Lets threads decode at the same time only what fits together in memory."""

    def __init__(self, pixels: int) -> None:
        self._limit = pixels
        self._taken = 0
        self._freed = threading.Condition()

    @contextmanager
    def take(self, *paths: Path | None) -> Iterator[None]:
        amount = min(self._limit, max(_pixels(path) for path in paths if path is not None))
        with self._freed:
            self._freed.wait_for(lambda: self._taken + amount <= self._limit)
            self._taken += amount
        try:
            yield
        finally:
            with self._freed:
                self._taken -= amount
                self._freed.notify_all()


def _pixels(path: Path) -> int:
    """What the header states; an unreadable one is refused when it is decoded and takes no memory."""
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except Exception:
        return 0

"""Whether a test image was trained on: as the same pixels, as a copy that was changed, or through its group.

    leaks = find_leaks(test_rows, trained_rows(manifests), data)
    refuse_leaks(leaks, "version 3 or its ancestors", console)

What was trained on is known by the manifests of a version and its ancestors; the images themselves may be gone. So:

- the same pixels are refused;
- an image of a group of which a member was trained on is refused;
- a changed copy is refused where both images are at hand and the comparison of `duplicates` finds them alike; and
  where only the manifest's hash is left, if that is almost the same and the file has kept its name;
- an almost identical hash alone is no proof: it is said, by name, and a person looks.

Inside one data set `prepare` has compared all images with each other already.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console

from pipelines.data.data_step import PreparedData
from pipelines.data.duplicates import MAX_HASH_DISTANCE, look, near_duplicates
from pipelines.data.names import composed
from pipelines.data.splits import PIXELS_PREFIX
from resunet.errors import DataError, ImageError
from resunet.images import decode_image, read_image

# The hash alone, without thumbnails: of 161,596 pairs of nuclei images, none near-duplicates, one comes within 6 bits
# in any of 8 orientations (54 within the 14 that `duplicates` starts from). JPEG quality 50, half size, gain 0.7,
# gamma 0.5, noise sigma 8, a shift by 2 px, flips and turns stay within 6 bits for 100 %, gain 1.5 for 97 %.
HASH_ALONE_DISTANCE: Final = 6
# Of 64 bits about half are set. An image with nothing in it sets next to none, and so do all others like it.
_MIN_BITS: Final = 16
_SHOWN: Final = 5


@dataclass(frozen=True)
class Leaks:
    """What of the test images was trained on.

    Attributes:
        same: test images whose pixels were trained on.
        grouped: test images of a group of which a member was trained on.
        changed: test image and the trained one that it is a copy of.
        doubtful: the same, by an almost identical hash alone.
    """

    same: tuple[str, ...] = ()
    grouped: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    doubtful: tuple[tuple[str, str], ...] = ()


def trained_rows(manifests: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all images that are not in a test split: validation chose the weights, so it was learnt from too."""
    rows = pd.concat(list(manifests), ignore_index=True)
    return rows[rows["split"] != "test"].reset_index(drop=True)


def find_leaks(test: pd.DataFrame, trained: pd.DataFrame, data: PreparedData | None = None) -> Leaks:
    """Look for what was trained on among test images.

    Args:
        test: manifest rows of the test split.
        trained: manifest rows of what was trained on, as `trained_rows` gives them.
        data: what the test split belongs to; without it turned copies are not seen, and images are not opened.
    """
    same = test["pixels"].isin(set(trained["pixels"]))
    grouped = test["group"].isin(_trained_groups(trained, data)) & ~same
    left = test[~same & ~grouped]
    changed, doubtful = [], []
    for path, row, distance in _alike(left, trained, data):
        other = str(row["path"])
        verdict = _shows_the_same(data, path, row)
        alone = verdict is None and distance <= HASH_ALONE_DISTANCE
        if verdict or (alone and composed(PurePosixPath(path).stem) == composed(PurePosixPath(other).stem)):
            changed.append((path, other))
        elif alone:
            doubtful.append((path, other))
    return Leaks(
        tuple(test.loc[same, "path"]), tuple(test.loc[grouped, "path"]), tuple(sorted(changed)), tuple(sorted(doubtful))
    )


def refuse_leaks(leaks: Leaks, who: str, console: Console | None, to_do: str) -> None:
    """Refuse what was trained on, and say what may have been.

    Args:
        who: trained on them, `version 3 or its ancestors`.
        console: where doubts are said.
        to_do: what to do instead.

    Raises:
        DataError: a test image was trained on.
    """
    found = {
        f"{len(leaks.same)} test images were trained on by {who}": leaks.same,
        f"{len(leaks.grouped)} test images are of a group of which {who} saw others": leaks.grouped,
        f"{len(leaks.changed)} test images are changed copies of what was trained on by {who}": _pairs(leaks.changed),
    }
    said = [f"{what} (first: {files[0]})" for what, files in found.items() if files]
    if said:
        raise DataError(f"{'; '.join(said)}: a metric on them would be a lie. {to_do}")
    if leaks.doubtful and console is not None:
        shown = _pairs(leaks.doubtful)
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        console.print(
            f"{len(shown)} test images look like images that were trained on by {who}, by a hash alone: "
            f"{', '.join(shown[:_SHOWN])}{more}. Where you have both, look; remove what is a copy",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{a} = {b}" for a, b in pairs]


def _trained_groups(trained: pd.DataFrame, data: PreparedData | None) -> set[str]:
    """Groups that a trained image had then or gave its name to, or that the tables give one that is gone now."""
    groups = set(trained["group"].dropna()) | {PIXELS_PREFIX + pixels for pixels in trained["pixels"]}
    # Names mean something only where the version was trained on this data set, some of which is still there.
    if data is not None and set(trained["pixels"]) & set(data.manifest["pixels"]):
        names = {composed(str(path).removeprefix("images/")) for path in trained["path"]}
        groups |= {group for file, group in data.dataset.absent_groups.items() if composed(file) in names}
    return groups


def _alike(
    test: pd.DataFrame, trained: pd.DataFrame, data: PreparedData | None
) -> Iterator[tuple[str, Mapping[str, object], int]]:
    """Test image, row of a trained image, and by how many bits their hashes differ, where these are close."""
    present = set() if data is None else set(data.manifest["pixels"])
    # Those that are in the data set now were compared by `prepare`.
    rows = trained[~trained["pixels"].isin(present)].drop_duplicates(["path", "pixels"])
    known = np.array([int(value, 16) for value in rows["phash"]], np.uint64)
    told = np.bitwise_count(known) >= _MIN_BITS
    records = [row for row, tells in zip(rows.to_dict("records"), told, strict=True) if tells]
    known = known[told]
    for path, phash in zip(test["path"], test["phash"], strict=True):
        own = np.array([int(phash, 16)], np.uint64) if data is None else data.report.hashes[path]
        if not records or np.bitwise_count(own[0]) < _MIN_BITS:
            continue
        distance = np.bitwise_count(known[:, None] ^ own[None, :]).min(axis=1)
        for index in np.flatnonzero(distance <= MAX_HASH_DISTANCE):
            yield str(path), {str(k): v for k, v in records[index].items()}, int(distance[index])


def _shows_the_same(data: PreparedData | None, path: str, row: Mapping[str, object]) -> bool | None:
    """Whether a test image shows what a trained one did; None where that one's file is no longer at hand."""
    if data is None:
        return None
    try:
        content = (data.root / str(row["path"])).read_bytes()
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            return None
        return bool(near_duplicates([look(read_image(data.root / path)), look(decode_image(content))]))
    except (OSError, ImageError):
        return None

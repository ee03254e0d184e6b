"""What must share a split: the groups of `metadata.csv` and `groups.csv`, and how near-duplicates join them.

`groups.csv` (`file,group`) is written by `prepare --mend`. It lists every file that was there, so that a file
once listed never changes its split: what is found later to resemble it joins its group.
"""

import csv
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipelines.data.names import Names
from pipelines.data.splits import PIXELS_PREFIX, SPLITS, key_of, split_of
from pipelines.data.tables import file_named, read_lines
from resunet.errors import DataError

GROUPS_FILE = "groups.csv"


def effective_groups(declared: Mapping[str, str], written: Mapping[str, str]) -> dict[str, str]:
    """The group of each file: its row in `groups.csv`, else its group in `metadata.csv`.

    Where rows have taken members of a `metadata.csv` group to one other group, the members without a row
    follow: a patient's new image goes where the patient's others are.
    """
    moved: dict[str, set[str]] = defaultdict(set)
    for file, group in declared.items():
        if file in written:
            moved[group].add(written[file])
    follow = {group: next(iter(targets)) for group, targets in moved.items() if len(targets) == 1}
    return {**{file: follow.get(group, group) for file, group in declared.items()}, **written}


@dataclass(frozen=True)
class Mending:
    """What `mend` found.

    Attributes:
        rows: new rows for `groups.csv`; never one for a file that has a row.
        bridges: components that would join groups whose splits differ, by new files.
    """

    rows: dict[str, str]
    bridges: tuple[tuple[str, ...], ...]


def mend(
    pixels: Mapping[str, str],
    groups: Mapping[str, str],
    written: Mapping[str, str],
    pairs: Iterable[tuple[str, str]],
) -> Mending:
    """Join files that resemble each other, and the groups they are in, into one group each.

    Args:
        pixels: each file's hash of its decoded pixels.
        groups: each grouped file's present group.
        written: the rows of `groups.csv`; they stay as they are.
        pairs: files that must share a split.

    Returns:
        A row for every file that has none. A component takes the first group of its written rows. Where it has
        none, nobody knows which of its files was there first, and it takes what keeps one of them where it is: a
        group's name or a file's pixels that lie in train, else in validation, else in test. So no image that was
        trained on becomes a test image. Of several, groups come before pixels, by name, and files by name.
    """
    components = _components(pixels, groups, pairs)
    rows: dict[str, str] = {}
    bridges: list[tuple[str, ...]] = []
    for members in components:
        new = [file for file in members if file not in written]
        if not new:
            continue
        fixed = sorted({written[file] for file in members if file in written})
        if len({split_of(key_of(group, "")) for group in fixed}) > 1:
            bridges.append(tuple(new))
            continue
        name = fixed[0] if fixed else _name(members, pixels, groups)
        rows.update(dict.fromkeys(new, name))
    return Mending(rows, tuple(bridges))


def _name(members: Iterable[str], pixels: Mapping[str, str], groups: Mapping[str, str]) -> str:
    """Of a component without a row; see `mend`."""
    named = sorted({groups[file] for file in members if file in groups})
    alone = [PIXELS_PREFIX + pixels[file] for file in members if file not in groups]
    return min([*named, *alone], key=lambda name: SPLITS.index(split_of(key_of(name, ""))))


def joined_keys(manifest: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One key for all that must stay together: a group, copies, near-copies, and whatever these join.

    Cut by it (folds, folds of folds), nothing that was trained on is seen again where it is held out. Prepare does
    the same for the splits only as far as it must: copies within one split need no group.

    Args:
        manifest: rows of the images that are cut.
        pairs: near-copies by `path`, those of other images among them.

    Returns:
        The key of each `path`, in the manifest's order: the first, by name, of the keys that were joined.
    """
    pixels = dict(zip(manifest["path"], manifest["pixels"], strict=True))
    groups = {path: group for path, group in zip(pixels, manifest["group"], strict=True) if isinstance(group, str)}
    inside = [(a, b) for a, b in pairs if a in pixels and b in pixels]
    keys: dict[str, str] = {}
    for members in _components(pixels, groups, inside):
        key = min(key_of(groups.get(file), pixels[file]) for file in members)
        keys.update(dict.fromkeys(members, key))
    return {path: keys[path] for path in pixels}


def foreign_rows(written: Mapping[str, str], pixels: Mapping[str, str]) -> frozenset[str]:
    """Files whose rows `mend` wrote for other images of the same names, or for these before they were saved anew.

    Args:
        written: the rows of `groups.csv`.
        pixels: each present file's hash of its decoded pixels.

    Returns:
        The present files with such a row, if no row names the pixels of any image that is there; else none: an
        image that gave a group its name may be gone, and the others of the group stay where they are.
    """
    named = {file: group for file, group in written.items() if file in pixels and group.startswith(PIXELS_PREFIX)}
    present = {PIXELS_PREFIX + value for value in pixels.values()}
    return frozenset() if present & set(named.values()) else frozenset(named)


def straddles(pixels: Mapping[str, str], groups: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether copies, or one of the pairs, are in two splits."""
    split = {file: split_of(key_of(groups.get(file), pixels[file])) for file in pixels}
    first: dict[str, str] = {}
    copies = [(first.setdefault(value, file), file) for file, value in pixels.items()]
    return any(split[a] != split[b] for a, b in [*copies, *pairs])


def _components(
    pixels: Mapping[str, str], groups: Mapping[str, str], pairs: Iterable[tuple[str, str]]
) -> list[list[str]]:
    parent = {file: file for file in pixels}

    def root(file: str) -> str:
        while parent[file] != file:
            parent[file] = parent[parent[file]]
            file = parent[file]
        return file

    first: dict[str, str] = {}
    for file in pixels:
        for anchor in {f"key {key_of(groups.get(file), pixels[file])}", f"pixels {pixels[file]}"}:
            parent[root(file)] = root(first.setdefault(anchor, file))
    for a, b in pairs:
        parent[root(a)] = root(b)
    members: dict[str, list[str]] = defaultdict(list)
    for file in sorted(pixels):
        members[root(file)].append(file)
    return [members[key] for key in sorted(members, key=lambda key: members[key][0])]


def read_groups(path: Path, images: Names) -> dict[str, str]:
    """Rows of a `groups.csv` by file name without `images/`; none if the file is not there.

    Args:
        images: file names without `images/`.

    Raises:
        DataError: it is not such a table, or gives a file two groups.
    """
    rows: dict[str, str] = {}
    columns: list[str] = []
    for line, cells in read_lines(path):
        if not columns:
            columns = cells
            if not {"file", "group"} <= set(columns):
                raise DataError(f"{path}: columns 'file' and 'group' are needed")
            continue
        row = dict(zip(columns, cells, strict=True))
        file, group = file_named(row["file"], images), row["group"]
        if not file or not group:
            raise DataError(f"{path}, line {line}: a file and its group are needed")
        if rows.setdefault(file, group) != group:
            raise DataError(
                f"{path}, line {line}: {file} already has another group; remove one of the two rows, whose names may "
                "be written in two Unicode normal forms"
            )
    return rows


def write_groups(path: Path, rows: Mapping[str, str]) -> None:
    """Write a `groups.csv` whole or not at all.

    Raises:
        DataError: its folder cannot be written to.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as stream:
            part = Path(stream.name)
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["file", "group"])
            writer.writerows([f"images/{file}", rows[file]] for file in sorted(rows))
            stream.flush()
            os.fsync(stream.fileno())
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror}): give --groups a file in another folder"
        ) from None

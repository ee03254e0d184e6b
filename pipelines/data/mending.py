"""`prepare --mend`: near-duplicates of a data set into one group each, written to `groups.csv`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines.data.dataset import Dataset
from pipelines.data.groups import (
    GROUPS_FILE,
    effective_groups,
    foreign_rows,
    mend,
    read_groups,
    straddles,
    write_groups,
)
from pipelines.data.manifest import FileFacts
from pipelines.data.splits import Split, key_of, split_of


@dataclass(frozen=True)
class Mended:
    """What mending a data set did.

    Attributes:
        dataset: with its new groups.
        new_rows: rows that were written.
        bridges: files that could not be placed without moving others, by set.
        in_doubt: tables whose rows name no image that is there and keep apart what looks alike; nothing was written.
        moved: files whose split is another than before, with that one and the new one.
    """

    dataset: Dataset
    new_rows: int = 0
    bridges: tuple[tuple[str, ...], ...] = ()
    in_doubt: tuple[str, ...] = ()
    moved: Mapping[str, tuple[Split, Split]] = field(default_factory=dict)


def mend_dataset(
    dataset: Dataset, readable: Sequence[FileFacts], pairs: Sequence[tuple[str, str]], target: Path, whole: bool
) -> Mended:
    """Write near-duplicates into one group each; files that have a row keep it.

    Rows that were evidently written for other images, or for these before they were saved anew, keep files together
    that need not be, which does no harm. Where they also keep copies apart, the two cases call for opposite cures:
    nothing is written, and a person decides.

    Args:
        readable: facts of the images that can be read.
        pairs: near-duplicates by name, `images/a.png`.
        target: the `groups.csv` that is read and written.
        whole: `dataset` is the whole folder, not a part of it.
    """
    name = {sample.file: sample.image.name for sample in dataset.samples}
    pixels = {name[fact.file]: fact.pixels for fact in readable}
    joined = [(name[a], name[b]) for a, b in pairs]
    declared = {s.image.name: s.declared_group for s in dataset.samples if s.declared_group is not None}
    own = read_groups(target, dataset.names)
    tables = {GROUPS_FILE: read_groups(dataset.root / GROUPS_FILE, dataset.names)}
    if target.resolve() != (dataset.root / GROUPS_FILE).resolve():
        tables[str(target)] = own
    written = {**tables[GROUPS_FILE], **own}
    before = effective_groups(declared, written)
    mending = mend(pixels, before, written, joined)
    groups = effective_groups(declared, {**written, **mending.rows})
    foreign = foreign_rows(written, pixels) if whole else frozenset()
    conflict = bool(mending.bridges) or straddles(pixels, groups, joined)
    in_doubt = tuple(table for table, rows in tables.items() if conflict and foreign & set(rows))
    new_rows = {} if in_doubt else mending.rows
    if new_rows or not (in_doubt or target.is_file()):
        write_groups(target, {**own, **new_rows})
    samples = tuple(replace(sample, group=groups.get(sample.image.name)) for sample in dataset.samples)
    bridges = tuple(tuple(f"images/{file}" for file in bridge) for bridge in mending.bridges)
    return Mended(
        replace(dataset, samples=samples),
        len(new_rows),
        bridges,
        in_doubt,
        {} if in_doubt else _moved(pixels, before, groups),
    )


def _moved(
    pixels: Mapping[str, str], before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, tuple[Split, Split]]:
    splits = {
        f"images/{file}": (split_of(key_of(before.get(file), digest)), split_of(key_of(after.get(file), digest)))
        for file, digest in sorted(pixels.items())
    }
    return {file: (was, now) for file, (was, now) in splits.items() if was != now}

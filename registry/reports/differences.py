"""What differs between two versions besides their scores: images, settings, requirements, speed. Pure functions."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from records.evidence import Measured
from registry.evidence import Performance
from registry.reports.files import ImageRow
from resunet.errors import RecordsError

_SPLITS: Final = ("train", "validation", "test")


@dataclass(frozen=True)
class Differs:
    """A name and its two values; empty where a version has none."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class SplitChange:
    """What happened to a split of the data set. An image is its file's bytes, whatever its name.

    Attributes:
        first, second: images in it.
        added, removed, relabelled: names; relabelled is the same image with another mask.
    """

    split: str
    first: int
    second: int
    added: Sequence[str]
    removed: Sequence[str]
    relabelled: Sequence[str]


@dataclass(frozen=True)
class Speed:
    """Latency and memory of two versions.

    Attributes:
        together: measured in one interleaved run; else each in its own, which says less.
        first_ms, second_ms: median over rounds of the p95; None where it was not measured.
        first_mb, second_mb: resident memory at its peak.
        where: engine, side of the image, machine.
    """

    together: bool
    first_ms: float | None
    second_ms: float | None
    first_mb: float | None
    second_mb: float | None
    where: str


def settings_differing(first: Mapping[str, str], second: Mapping[str, str]) -> list[Differs]:
    """The names under which two sets of settings hold different values."""
    names = sorted({*first, *second})
    return [
        Differs(name, first.get(name, ""), second.get(name, ""))
        for name in names
        if first.get(name, "") != second.get(name, "")
    ]


def splits_changed(first: Mapping[str, ImageRow], second: Mapping[str, ImageRow]) -> list[SplitChange]:
    """What changed in each split; empty where one of the two versions keeps no list of its images."""
    if not first or not second:
        return []
    splits = [*_SPLITS, *sorted({row.split for row in (*first.values(), *second.values())} - set(_SPLITS))]
    return [_split(split, first, second) for split in splits]


def _split(split: str, first: Mapping[str, ImageRow], second: Mapping[str, ImageRow]) -> SplitChange:
    before = {row.sha256: (path, row) for path, row in first.items() if row.split == split}
    after = {row.sha256: (path, row) for path, row in second.items() if row.split == split}
    return SplitChange(
        split,
        sum(row.split == split for row in first.values()),
        sum(row.split == split for row in second.values()),
        added=sorted(after[digest][0] for digest in after.keys() - before.keys()),
        removed=sorted(before[digest][0] for digest in before.keys() - after.keys()),
        relabelled=sorted(
            after[digest][0]
            for digest in after.keys() & before.keys()
            if after[digest][1].mask_sha256 != before[digest][1].mask_sha256
        ),
    )


def find_speed(
    first: Sequence[Measured], second: Sequence[Measured], first_digest: str, second_digest: str
) -> Speed | None:
    """The latest measurement of the two beside each other; else of each alone; None where neither was measured.

    Args:
        first, second: what was measured of each version's bytes, the oldest first.
    """
    beside = _latest(second, first_digest)
    if beside is not None and beside.champion_p95_ms:
        return Speed(
            True,
            statistics.median(beside.champion_p95_ms),
            statistics.median(beside.candidate_p95_ms),
            beside.champion_mb,
            beside.candidate_mb,
            _where(beside),
        )
    beside = _latest(first, second_digest)
    if beside is not None and beside.champion_p95_ms:
        return Speed(
            True,
            statistics.median(beside.candidate_p95_ms),
            statistics.median(beside.champion_p95_ms),
            beside.candidate_mb,
            beside.champion_mb,
            _where(beside),
        )
    old, new = _latest(first), _latest(second)
    if old is None and new is None:
        return None
    where = {_where(one) for one in (old, new) if one is not None}
    return Speed(
        False,
        statistics.median(old.candidate_p95_ms) if old else None,
        statistics.median(new.candidate_p95_ms) if new else None,
        old.candidate_mb if old else None,
        new.candidate_mb if new else None,
        "; ".join(sorted(where)),
    )


def _latest(measured: Sequence[Measured], beside: str | None = None) -> Performance | None:
    """The last measurement, or the last beside the version of a digest."""
    for one in reversed(measured):
        if one.kind == Performance.kind and beside in (None, one.champion_digest):
            try:
                return Performance.parse(one.content)
            except RecordsError:
                continue
    return None


def _where(measured: Performance) -> str:
    return f"{measured.engine}, {measured.side_px} px, {measured.machine}"

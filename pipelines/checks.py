"""What can be wrong with a data set: each check reads stored facts and returns the problems it sees.

`refuse` is for what would make a metric a lie or cannot be trained on; `warn` for what a person should know.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pandas as pd

from pipelines.dataset import Dataset, size_mismatch
from pipelines.groups import GROUPS_FILE
from pipelines.manifest import SLICE_PREFIX, FileFacts
from pipelines.splits import SPLITS
from pipelines.tables import CLASSES_FILE, MAX_CLASSES, MAX_SLICE_VALUES, METADATA_FILE

Severity = Literal["refuse", "warn"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        check: its name, the same in every report.
        files: those concerned; pairs are written `images/a.png = images/b.png`. Empty for the whole data set.
        what_to_do: what is wrong and how to mend it.
    """

    check: str
    severity: Severity
    files: tuple[str, ...]
    what_to_do: str


@dataclass(frozen=True)
class Findings:
    """What the checks read.

    Attributes:
        facts: of the files in `dataset`, in its order.
        class_names: of the whole data set.
        manifest: of the files that could be read.
        pairs: near-duplicates by name, exact ones not among them.
        bridges: files that `--mend` could not place without moving others.
    """

    dataset: Dataset
    facts: Sequence[FileFacts]
    class_names: Sequence[str]
    manifest: pd.DataFrame
    pairs: Sequence[tuple[str, str]]
    bridges: Sequence[tuple[str, ...]] = ()


def check_all(findings: Findings) -> list[Problem]:
    """Run every check; refusals come first."""
    problems = [problem for check in _CHECKS for problem in check(findings)]
    return sorted(problems, key=lambda problem: problem.severity != "refuse")


def split_masks(facts: Sequence[FileFacts], class_names: Sequence[str]) -> tuple[list[FileFacts], list[FileFacts]]:
    """Facts whose masks hold only class indices, and those whose masks hold other values."""
    good: list[FileFacts] = []
    bad: list[FileFacts] = []
    for fact in facts:
        if fact.values is not None:
            held = set(fact.values)
            binary = len(class_names) == 1
            fits = held <= {0, 1} or held <= {0, 255} if binary else max(held) < len(class_names)
            (good if fits else bad).append(fact)
    return good, bad


def _pairing(found: Findings) -> Iterator[Problem]:
    dataset = found.dataset
    yield from _problem(
        "image without mask",
        "refuse",
        (sample.file for sample in dataset.samples if sample.mask is None),
        "add masks/<same stem>.png (all 0 where there is nothing to find) or remove the image",
    )
    yield from _problem("mask without image", "refuse", dataset.orphan_masks, "add the image or remove the mask")
    yield from _problem(
        "stem clash",
        "refuse",
        dataset.stem_clashes,
        "these files share a stem, so a mask's image is a guess; rename or remove one of each, with its mask",
    )


def _reading(found: Findings) -> Iterator[Problem]:
    for fact in found.facts:
        if fact.error is not None:
            yield Problem("unreadable", "refuse", (fact.file,), f"{fact.error}; replace or remove it")
        elif fact.mask_error is not None:
            yield Problem("unreadable", "refuse", (fact.file,), f"its mask {fact.mask_error}; replace or remove both")
        elif fact.mask_size is not None and fact.mask_size != fact.size:
            yield Problem(
                "size mismatch",
                "refuse",
                (fact.file,),
                size_mismatch(fact.file, fact.size, fact.mask_size),
            )


def _mask_values(found: Findings) -> Iterator[Problem]:
    _, bad = split_masks(found.facts, found.class_names)
    for fact in bad:
        values = sorted(fact.values or {})
        shown = ", ".join(map(str, values[:6])) + (", …" if len(values) > 6 else "")
        if len(found.class_names) > 1:
            fits = f"this data set has class indices 0 to {len(found.class_names) - 1}"
        else:
            fits = "this data set's masks are binary: 0 and 1, or 0 and 255"
        if len(values) > MAX_CLASSES:
            mend = "so many come from smoothing or JPEG: threshold the mask, or export it without"
        else:
            mend = f"correct the mask, or list all classes (at most {MAX_CLASSES}) in {CLASSES_FILE}"
        yield Problem("mask values", "refuse", (fact.file,), f"its mask holds {shown}; {fits}; {mend}")


def _empty_masks(found: Findings) -> Iterator[Problem]:
    good, _ = split_masks(found.facts, found.class_names)
    yield from _problem(
        "empty mask",
        "warn",
        (fact.file for fact in good if set(fact.values or {}) == {0}),
        "no foreground: right for an image with nothing to find (it then scores 1 if nothing is found), "
        "else draw the mask",
    )


def _exact_duplicates(found: Findings) -> Iterator[Problem]:
    same: dict[str, list[FileFacts]] = defaultdict(list)
    for fact in found.facts:
        if fact.pixels:
            same[fact.pixels].append(fact)
    split = dict(zip(found.manifest["path"], found.manifest["split"], strict=True))
    for copies in (facts for facts in same.values() if len(facts) > 1):
        files = [" = ".join(fact.file for fact in copies)]
        masks = {fact.mask_pixels for fact in copies if fact.mask_pixels is not None}
        if len(masks) > 1:
            yield from _problem(
                "contradictory masks",
                "refuse",
                files,
                "the same pixels with different masks; keep the right pair and remove the others",
            )
        if len({split[fact.file] for fact in copies if fact.file in split}) > 1:
            yield from _problem(
                "exact duplicates across splits",
                "refuse",
                files,
                f"their groups put them in different splits; remove the copies, correct the groups in "
                f"{METADATA_FILE} or {GROUPS_FILE}, or run prepare with --mend",
            )
        else:
            yield from _problem(
                "exact duplicates", "warn", files, "they count twice in every figure; remove the copies"
            )


def _near_duplicates(found: Findings) -> Iterator[Problem]:
    split = dict(zip(found.manifest["path"], found.manifest["split"], strict=True))
    group = dict(zip(found.manifest["path"], found.manifest["group"], strict=True))
    straddling = [(a, b) for a, b in found.pairs if split[a] != split[b]]
    stuck = {file for bridge in found.bridges for file in bridge}
    yield from _problem(
        "near-duplicates across splits",
        "refuse",
        (f"{a} = {b}" for a, b in straddling if not {a, b} & stuck),
        "what is trained on would be tested on; run prepare with --mend to put each set into one group. "
        f"Where that changes nothing, {GROUPS_FILE} has put them apart before: remove one, or give "
        "both rows one group there",
    )
    for bridge in found.bridges:
        yield from _problem(
            "bridges two groups",
            "refuse",
            bridge,
            f"resembles files of two groups that {GROUPS_FILE} has put into different splits, and neither "
            "may move; remove it" + (", or find the one of these that does" if len(bridge) > 1 else ""),
        )
    yield from _problem(
        "near-duplicates",
        "warn",
        (f"{a} = {b}" for a, b in found.pairs if split[a] == split[b] and (group[a] is None or group[a] != group[b])),
        "in one split but no group, so intervals come out too narrow; run prepare with --mend",
    )


def _groups(found: Findings) -> Iterator[Problem]:
    split = dict(zip(found.manifest["path"], found.manifest["split"], strict=True))
    members: dict[str, list[str]] = defaultdict(list)
    for sample in found.dataset.samples:
        if sample.declared_group is not None and sample.file in split:
            members[sample.declared_group].append(sample.file)
    for name, files in members.items():
        if len({split[file] for file in files}) > 1:
            yield from _problem(
                "group across splits",
                "refuse",
                files,
                f"{METADATA_FILE} says that they belong together ('{name}'), {GROUPS_FILE} takes them apart; "
                f"remove their rows from {GROUPS_FILE}",
            )


def _splits(found: Findings) -> Iterator[Problem]:
    present = set(found.manifest["split"])
    for split in SPLITS:
        if split not in present:
            yield Problem(
                f"empty {split} split",
                "refuse",
                (),
                f"no image falls into the {split} split; add images (30 or more as a rule), "
                "or use more and smaller groups",
            )
    good, _ = split_masks(found.facts, found.class_names)
    values = {fact.file: set(fact.values or {}) for fact in good}
    for index, name in enumerate(found.class_names, start=1 if len(found.class_names) == 1 else 0):
        stored = {index, 255} if len(found.class_names) == 1 else {index}
        for split in (s for s in SPLITS if s in present):
            files = found.manifest.loc[found.manifest["split"] == split, "path"]
            if not any(values.get(file, set()) & stored for file in files):
                yield Problem(
                    "class missing from split",
                    "warn",
                    (),
                    f"no image of the {split} split shows class '{name}': it is not learned or not evaluated there",
                )
    for column in found.dataset.slice_columns:
        by_value = found.manifest.groupby(SLICE_PREFIX + column)["split"].agg(set)
        for value, splits in by_value.items():
            for split in (s for s in SPLITS if s in present and s not in splits):
                meaning = "not learned" if split == "train" else "not evaluated"
                yield Problem(
                    "slice missing from split",
                    "warn",
                    (),
                    f"no image of the {split} split has {column}={value}: reported as {meaning}",
                )


def _listing(found: Findings) -> Iterator[Problem]:
    dataset = found.dataset
    yield from _problem(
        "ignored files",
        "warn",
        dataset.ignored_files,
        "hidden, a folder, or no image of an accepted format (images: PNG, JPEG, TIFF, BMP; masks not JPEG)",
    )
    for column, count in dataset.ignored_columns.items():
        yield Problem(
            "slice column ignored",
            "warn",
            (),
            f"column '{column}' of {METADATA_FILE} has {count} values, more than {MAX_SLICE_VALUES}; "
            "name it with --slices if it is one",
        )
    yield from _problem(
        "metadata without image",
        "warn",
        dataset.missing_files,
        f"rows of {METADATA_FILE} for images that are not there; correct their names or remove the rows",
    )


def _problem(check: str, severity: Severity, files: Iterable[str], what_to_do: str) -> Iterator[Problem]:
    listed = tuple(files)
    if listed:
        yield Problem(check, severity, listed, what_to_do)


_CHECKS: Final[tuple[Callable[[Findings], Iterator[Problem]], ...]] = (
    _pairing,
    _reading,
    _mask_values,
    _exact_duplicates,
    _near_duplicates,
    _groups,
    _splits,
    _empty_masks,
    _listing,
)

"""What can be wrong with a data set: each check reads stored facts and returns the problems it sees.

    problems = check_all(Findings(dataset, facts, class_names, manifest, pairs))

Those of the files and tables themselves are in `file_checks`; here are those of what must share a split.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from pipelines.data.file_checks import (
    check_empty_masks,
    check_grey_levels,
    check_listing,
    check_mask_values,
    check_orientations,
    check_pairing,
    check_rare_classes,
    check_reading,
    check_strays,
    split_masks,
)
from pipelines.data.groups import GROUPS_FILE
from pipelines.data.manifest import SLICE_PREFIX, FileFacts
from pipelines.data.problems import Findings, Problem, problem_of
from pipelines.data.splits import SPLITS
from pipelines.data.tables import METADATA_FILE

# What is asked of the splits of a whole data set, and not of some images that are added to one.
OF_A_WHOLE: Final = frozenset(
    {
        *(f"empty {split} split" for split in SPLITS),
        "class missing from split",
        "slice missing from split",
        "few grey levels",
        "rare class",
    }
)


def check_all(findings: Findings) -> list[Problem]:
    """Run every check; refusals come first."""
    problems = [problem for check in _CHECKS for problem in check(findings)]
    return sorted(problems, key=lambda problem: problem.severity != "refuse")


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
            yield from problem_of(
                "contradictory masks",
                "refuse",
                files,
                "the same pixels with different masks; keep the right pair and remove the others",
            )
        if len({split[fact.file] for fact in copies if fact.file in split}) > 1:
            yield from problem_of(
                "exact duplicates across splits",
                "refuse",
                files,
                _other_images(found, "remove the copies")
                or "their groups put them in different splits; remove the copies, correct the groups in "
                f"{METADATA_FILE} or {GROUPS_FILE}, or run prepare with --mend",
            )
        else:
            yield from problem_of(
                "exact duplicates", "warn", files, "they count twice in every figure; remove the copies"
            )


def _near_duplicates(found: Findings) -> Iterator[Problem]:
    split = dict(zip(found.manifest["path"], found.manifest["split"], strict=True))
    group = dict(zip(found.manifest["path"], found.manifest["group"], strict=True))
    straddling = [(a, b) for a, b in found.pairs if split[a] != split[b]]
    stuck = {file for bridge in found.bridges for file in bridge}
    yield from problem_of(
        "near-duplicates across splits",
        "refuse",
        (f"{a} = {b}" for a, b in straddling if not {a, b} & stuck),
        _other_images(found, "remove one of each, or give both rows one group there")
        or "what is trained on would be tested on; run prepare with --mend to put each set into one group. "
        f"Where that changes nothing, {GROUPS_FILE} has put them apart before: remove one, or give "
        "both rows one group there",
    )
    for bridge in found.bridges:
        several = len(bridge) > 1
        apart = "remove the ones named, or give each a group of its own in " + METADATA_FILE
        yield from problem_of(
            "bridges two groups",
            "refuse",
            bridge,
            _other_images(found, apart if several else "remove the one named")
            or f"resembles files of two groups that {GROUPS_FILE} has put into different splits, and neither "
            "may move; remove it"
            + (", or find the one of these that does" if several else ""),
        )
    yield from problem_of(
        "near-duplicates",
        "warn",
        (f"{a} = {b}" for a, b in found.pairs if split[a] == split[b] and (group[a] is None or group[a] != group[b])),
        "in one split but no group, so intervals come out too narrow; run prepare with --mend",
    )


def _other_images(found: Findings, saved_anew: str) -> str:
    """What to do about rows that keep apart what looks alike, and name no image that is there; empty if none do.

    Args:
        saved_anew: the cure where they are of these images, before they were saved anew.
    """
    if not found.in_doubt:
        return ""
    tables = " and ".join(found.in_doubt)
    return (
        f"{tables} keeps apart what looks alike, and was written when no image had the pixels it has now; nothing was "
        f"written. If the images here were saved anew since, {saved_anew}. If {tables} came from another data set, "
        "move it away. Then run prepare with --mend again"
    )


def _moved(found: Findings) -> Iterator[Problem]:
    tested = {file for file, (_, now) in found.moved.items() if now == "test"}
    told = {file: f"{file}: {was} → {now}" for file, (was, now) in found.moved.items()}
    yield from problem_of(
        "moved into the test split",
        "warn",
        (told[file] for file in told if file in tested),
        f"to where {GROUPS_FILE} keeps what they resemble; a version that was trained on one of them cannot be "
        "tested here any more",
    )
    yield from problem_of(
        "moved to another split",
        "warn",
        (told[file] for file in told if file not in tested),
        "to be with what they resemble; from now on they stay there. Where test images went, the Dice of "
        "earlier versions was taken on other images",
    )


def _groups(found: Findings) -> Iterator[Problem]:
    split = dict(zip(found.manifest["path"], found.manifest["split"], strict=True))
    members: dict[str, list[str]] = defaultdict(list)
    for sample in found.dataset.samples:
        if sample.declared_group is not None and sample.file in split:
            members[sample.declared_group].append(sample.file)
    for name, files in members.items():
        if len({split[file] for file in files}) > 1:
            yield from problem_of(
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


_CHECKS: Final[tuple[Callable[[Findings], Iterator[Problem]], ...]] = (
    check_pairing,
    check_reading,
    check_orientations,
    check_mask_values,
    check_rare_classes,
    _exact_duplicates,
    _near_duplicates,
    _moved,
    _groups,
    _splits,
    check_empty_masks,
    check_grey_levels,
    check_listing,
    check_strays,
)

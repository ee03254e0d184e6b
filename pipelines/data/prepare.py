"""Check a data set before anything trains on it.

    report = prepare(Path("nuclei"), console=Console())
    console.print(report.table())
    report.write(Path("prepare.json"))
    report.raise_if_refused()
    train_on(report.dataset, report.manifest)

Every image and mask is decoded once. `mend=True` puts near-duplicates into one group (`groups.csv`).
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from pipelines.data.checks import OF_A_WHOLE, check_all
from pipelines.data.dataset import Dataset, classes_of, read_dataset
from pipelines.data.duplicates import Look, near_duplicates
from pipelines.data.file_checks import split_masks
from pipelines.data.groups import GROUPS_FILE
from pipelines.data.manifest import SLICE_PREFIX, FileFacts, build_manifest, examine, fingerprint
from pipelines.data.mending import Mended, mend_dataset
from pipelines.data.problems import Findings, Problem
from pipelines.data.splits import SPLITS
from resunet.errors import DataError

_SHOWN_FILES = 5


@dataclass(frozen=True)
class PreparedReport:
    """What is in a data set and what is wrong with it.

    Attributes:
        class_names: one name (the foreground) for binary masks, else one a class.
        splits: images in each split.
        slices: images of each `column=value` in each split.
        classes: images that show each class, in each split.
        groups: how many groups hold more than one image.
        near_duplicate_pairs: pairs of images that show the same thing, exact copies not counted.
        new_group_rows: rows that `mend` has written.
        fingerprint: of the files that can be read, None if there are none.
        dataset, manifest: of the same files, for whoever goes on; not in the JSON, nor is what follows.
        pairs: those near-duplicates, by name.
        hashes: (8,) uint64 of each image, the perceptual hash of its eight orientations.
    """

    root: Path
    images: int
    class_names: tuple[str, ...]
    splits: dict[str, int]
    slices: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    groups: int
    near_duplicate_pairs: int
    new_group_rows: int
    problems: tuple[Problem, ...]
    fingerprint: str | None
    dataset: Dataset
    manifest: pd.DataFrame
    pairs: tuple[tuple[str, str], ...]
    hashes: Mapping[str, NDArray[np.uint64]]

    @property
    def refused(self) -> bool:
        """Whether training on it is refused."""
        return any(problem.severity == "refuse" for problem in self.problems)

    def raise_if_refused(self, kept: Path | None = None) -> None:
        """Refuse to go on.

        Args:
            kept: where the whole report lies.

        Raises:
            DataError: naming the first problems and what to do about them.
        """
        refusals = [problem for problem in self.problems if problem.severity == "refuse"]
        if refusals:
            lines = [f"- {p.check}: {_names(p.files)}{p.what_to_do}" for p in refusals[:_SHOWN_FILES]]
            more = len(refusals) - len(lines)
            lines += [f"- and {more} more problems; 'prepare' lists all"] if more else []
            lines += [f"the whole report: {kept}"] if kept else []
            raise DataError("\n".join([f"the data set in {self.root} cannot be trained on:", *lines]))

    def to_json(self) -> str:
        """The report for programs."""
        fields = {
            "format_version": 1,
            "refused": self.refused,
            "fingerprint": self.fingerprint,
            "images": self.images,
            "class_names": self.class_names,
            "splits": self.splits,
            "slices": self.slices,
            "classes": self.classes,
            "groups": self.groups,
            "near_duplicate_pairs": self.near_duplicate_pairs,
            "new_group_rows": self.new_group_rows,
            "problems": [asdict(problem) for problem in self.problems],
        }
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the JSON report whole or not at all.

        Raises:
            DataError: its folder cannot be written to.
        """
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(self.to_json(), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise DataError(
                f"the report cannot be written to {path} ({error.strerror}); give another place with --report, "
                "or set RESUNET_HOME"
            ) from None

    def table(self) -> Group:
        """The report for people: what is there, then what is wrong."""
        counts = Table(title=f"{escape(str(self.root))}: {self.images} images", title_justify="left")
        counts.add_column("")
        for column in (*SPLITS, "all"):
            counts.add_column(column, justify="right")
        sections = ({"images": self.splits}, self.classes, self.slices)
        for section in sections:
            for name, by_split in section.items():
                numbers = [by_split.get(split, 0) for split in SPLITS]
                counts.add_row(escape(name), *map(str, numbers), str(sum(numbers)))
            counts.add_section()
        if not self.problems:
            return Group(counts, "No problems found.")
        problems = Table(title="Problems", title_justify="left", show_lines=True)
        for column in ("", "check", "files", "what to do"):
            problems.add_column(column, overflow="fold")
        seen: Counter[str] = Counter()
        for problem in self.problems:
            seen[problem.check] += 1
            if seen[problem.check] > _SHOWN_FILES:
                continue
            colour = "red" if problem.severity == "refuse" else "yellow"
            files = _names(problem.files, "\n").removesuffix(": ")
            row = (problem.check, files, problem.what_to_do)
            problems.add_row(f"[{colour}]{problem.severity}[/]", *map(escape, row))
        for check, count in seen.items():
            if count > _SHOWN_FILES:
                problems.add_row("", check, f"… {count - _SHOWN_FILES} more", "the JSON report lists all")
        return Group(counts, problems)


def prepare(
    root: Path,
    groups_file: Path | None = None,
    mend: bool = False,
    slices: Sequence[str] | None = None,
    where: str | None = None,
    console: Console | None = None,
    part: bool = False,
) -> PreparedReport:
    """Check a data set folder, and with `mend` group its near-duplicates.

    Args:
        groups_file: where groups are read and written in place of the folder's `groups.csv`.
        mend: write near-duplicates into one group; files that have a row keep it.
        slices: columns of `metadata.csv` to slice by; by default its text columns of few values.
        where: a slice filter, `modality=fluorescence|histology`; checks (and mends) only what it keeps.
        console: where to show progress; None shows nothing.
        part: it is to become a part of a larger data set: what only a whole one must have is not asked for.

    Raises:
        SettingsError: `groups_file` is not there and not to be written either.
        DataError: the folder is no data set at all; all that is wrong with its files is in the report.
    """
    new_file = mend and groups_file is not None and not groups_file.exists()
    dataset = read_dataset(root, slices, None if new_file else groups_file)
    if where is not None:
        dataset = dataset.where(where)
    facts = examine(dataset, console)
    if where is None:
        values = [frozenset(fact.values) for fact in facts if fact.values is not None]
        dataset = replace(dataset, known_classes=classes_of(dataset.declared_classes, values))
    readable = [fact for fact in facts if fact.seen is not None]
    pairs = _near_pairs(readable)
    mended = Mended(dataset)
    # Written beside groups that fit nothing, rows would make them look as if they did.
    if mend and not any(stray.loses_groups(mended=True) for stray in dataset.strays):
        mended = mend_dataset(dataset, readable, pairs, groups_file or root / GROUPS_FILE, whole=where is None)
    report = _report(facts, pairs, mended, mend)
    if part:
        problems = tuple(one for one in report.problems if one.check not in OF_A_WHOLE)
        report = replace(report, problems=problems)
    return report


def _near_pairs(readable: Sequence[FileFacts]) -> list[tuple[str, str]]:
    looks: list[Look] = [fact.seen for fact in readable if fact.seen is not None]
    return [
        (readable[i].file, readable[j].file)
        for i, j in near_duplicates(looks)
        if readable[i].pixels != readable[j].pixels
    ]


def _report(facts: Sequence[FileFacts], pairs: Sequence[tuple[str, str]], mended: Mended, mend: bool) -> PreparedReport:
    dataset = mended.dataset
    good = {fact.file for fact in facts if fact.error is None and fact.mask_error is None}
    kept = replace(dataset, samples=tuple(s for s in dataset.samples if s.file in good))
    kept_facts = [fact for fact in facts if fact.file in good]
    manifest = build_manifest(kept, kept_facts)
    class_names = dataset.class_names
    kept_pairs = tuple((a, b) for a, b in pairs if a in good and b in good)
    findings = Findings(
        dataset,
        facts,
        class_names,
        manifest,
        kept_pairs,
        mended.bridges,
        mended=mend,
        in_doubt=mended.in_doubt,
        moved=mended.moved,
    )
    return PreparedReport(
        root=dataset.root,
        images=len(dataset.samples),
        class_names=class_names,
        splits={split: int((manifest["split"] == split).sum()) for split in SPLITS},
        slices={
            f"{column}={value}": _by_split(manifest[manifest[SLICE_PREFIX + column] == value])
            for column in dataset.slice_columns
            for value in sorted(manifest[SLICE_PREFIX + column].dropna().unique())
        },
        classes=_classes(manifest, kept_facts, class_names),
        groups=int((manifest["group"].value_counts() > 1).sum()),
        near_duplicate_pairs=len(pairs),
        new_group_rows=mended.new_rows,
        problems=tuple(check_all(findings)),
        fingerprint=fingerprint(manifest) if len(manifest) else None,
        dataset=dataset,
        manifest=manifest,
        pairs=kept_pairs,
        hashes={fact.file: fact.seen.hashes for fact in kept_facts if fact.seen is not None},
    )


def _by_split(manifest: pd.DataFrame) -> dict[str, int]:
    count = Counter(manifest["split"])
    return {split: count[split] for split in SPLITS}


def _classes(
    manifest: pd.DataFrame, facts: Sequence[FileFacts], class_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    masks, _ = split_masks(facts, class_names)
    out: dict[str, dict[str, int]] = {}
    for index, name in enumerate(class_names, start=1 if len(class_names) == 1 else 0):
        stored = {index, 255} if len(class_names) == 1 else {index}
        showing = [fact.file for fact in masks if set(fact.values or {}) & stored]
        out[f"class {name}" if not name.startswith("class ") else name] = _by_split(
            manifest[manifest["path"].isin(showing)]
        )
    return out


def _names(files: Sequence[str], separator: str = ", ") -> str:
    if not files:
        return ""
    more = f"{separator}… {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
    return separator.join(files[:_SHOWN_FILES]) + more + ": "

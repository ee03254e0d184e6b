"""What a check of a data set says, and what it reads.

`refuse` is for what would make a metric a lie or cannot be trained on; `warn` for what a person should know.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from pipelines.data.dataset import Dataset
from pipelines.data.manifest import FileFacts
from pipelines.data.splits import Split

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
        mended: `--mend` was asked for.
        in_doubt: tables of groups for which `--mend` wrote nothing, because they may be another data set's.
        moved: files that `--mend` has just taken from one split to another, with both.
    """

    dataset: Dataset
    facts: Sequence[FileFacts]
    class_names: Sequence[str]
    manifest: pd.DataFrame
    pairs: Sequence[tuple[str, str]]
    bridges: Sequence[tuple[str, ...]] = ()
    mended: bool = False
    in_doubt: Sequence[str] = ()
    moved: Mapping[str, tuple[Split, Split]] = field(default_factory=dict)


def problem_of(check: str, severity: Severity, files: Iterable[str], what_to_do: str) -> Iterator[Problem]:
    """One problem of the files; none if there are no files."""
    listed = tuple(files)
    if listed:
        yield Problem(check, severity, listed, what_to_do)

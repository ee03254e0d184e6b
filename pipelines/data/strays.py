"""Rows of `metadata.csv` and `groups.csv` that name no image of the data set.

What is left of an image that was removed does no harm. A table of groups of which no row fits any image does, or one
that misspells an image's name: what it should keep together would be split unseen.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines.data.names import composed
from pipelines.data.splits import PIXELS_PREFIX


@dataclass(frozen=True)
class Strays:
    """Rows of one table without an image.

    Attributes:
        table: `metadata.csv`, or where a `groups.csv` lies.
        files: what they name.
        groups: those of them that give a group, and which.
        fits: whether any row of the table that gives a group names an image.
        hint: what may be wrong with the names; empty if nothing is seen.
        misspelt: whether a row that gives a group is seen to mean an image that is there.
    """

    table: str
    files: tuple[str, ...]
    groups: Mapping[str, str]
    fits: bool
    hint: str
    misspelt: bool = False

    def loses_groups(self, mended: bool) -> bool:
        """Whether training would ignore every group of the table, or one that is meant for an image that is there.

        Args:
            mended: near-duplicates have just been looked for anew; groups that `--mend` itself named after pixels
                of other images are then no loss.
        """
        lost = self.misspelt or (bool(self.groups) and not self.fits)
        return lost and not (mended and self.by_mend)

    @property
    def by_mend(self) -> bool:
        """Whether all groups are names that `--mend` makes up."""
        return all(group.startswith(PIXELS_PREFIX) for group in self.groups.values())


def find_strays(table: str, groups: Mapping[str, str], images: Collection[str]) -> Strays | None:
    """The rows of a table that name none of the images; None if there are none.

    Args:
        table: what to call it.
        groups: of each row by file name; empty where it gives none.
        images: file names without `images/`.
    """
    files = tuple(sorted(file for file in groups if file not in images))
    if not files:
        return None
    given = {file: groups[file] for file in files if groups[file]}
    return Strays(
        table,
        files,
        groups=given,
        fits=any(group and file in images for file, group in groups.items()),
        hint=_hint(list(given), images) or _hint(files, images),
        misspelt=bool(_hint(list(given), images)),
    )


def _hint(files: Collection[str], images: Collection[str]) -> str:
    plain = {composed(image): image for image in images}
    by_stem = {PurePosixPath(name).stem: image for name, image in plain.items()}
    by_case = {name.lower(): image for name, image in plain.items()}
    for file in files:
        name = composed(file)
        if name in by_stem:
            return f"a row names its image with the extension: {by_stem[name]}, not {file}"
        if PurePosixPath(name).name in plain and "/" in name:
            return f"a row names its image without other folders than images/: {PurePosixPath(file).name}, not {file}"
        if name in plain:
            return f"several images are called {file}, in different Unicode normal forms: rename all but one"
        if name.lower() in by_case:
            return f"upper and lower case count: {by_case[name.lower()]}, not {file}"
    return ""

"""A data set is a folder of images and masks; this reads what is in it.

    dataset = read_dataset(Path("nuclei")).where("modality=fluorescence|histology")
    rgb, mask = load(dataset.samples[0])

Layout: `images/*` (PNG, JPEG, TIFF, BMP) and `masks/<same stem>.png` (class index per pixel, or 0/255), both
without sub-folders. Optional beside them:

- `metadata.csv` with a column `file` (`a.png` or `images/a.png`). Its text columns of at most 20 values are
  *slices*; its column `group` (patient, slide, scene) keeps files in one split.
- `groups.csv` (`file,group`), written by `prepare --mend` or by hand; its rows win over `metadata.csv`.
- `classes.txt`, one class name a line in index order, background first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.data.groups import GROUPS_FILE, effective_groups, read_groups
from pipelines.data.names import Names
from pipelines.data.slice_filter import parse_where, quoted
from pipelines.data.strays import Strays, find_strays
from pipelines.data.tables import (
    CLASSES_FILE,
    MAX_CLASSES,
    METADATA_FILE,
    choose_slices,
    read_classes,
    read_metadata,
)
from resunet.errors import DataError, ImageError, SettingsError
from resunet.images import read_image, read_mask

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Attributes:
        file: its name in the data set, `images/a.png`.
        mask: None if there is none.
        group: what it must share a split with, by name; None if it stands alone.
        slices: value of each slice column in which it has one.
        declared_group: the group that `metadata.csv` gives, before `groups.csv`.
    """

    file: str
    image: Path
    mask: Path | None
    group: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict)
    declared_group: str | None = None


@dataclass(frozen=True)
class Dataset:
    """What a data set folder holds; nothing is decoded yet.

    Attributes:
        declared_classes: from `classes.txt`, background first; None if it is not there.
        orphan_masks: masks without an image, `masks/a.png`.
        stem_clashes: files that share a stem, so that pairing them is a guess.
        ignored_files: hidden files, folders and files that are no image.
        ignored_columns: text columns of `metadata.csv` with too many values, and how many they have.
        strays: rows of `metadata.csv` and `groups.csv` without an image.
        absent_groups: what group the tables give to files that are not there.
        names: of all images, without `images/`, also of those that a slice filter leaves out.
    """

    root: Path
    samples: tuple[Sample, ...]
    slice_columns: tuple[str, ...] = ()
    declared_classes: tuple[str, ...] | None = None
    orphan_masks: tuple[str, ...] = ()
    stem_clashes: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()
    ignored_columns: Mapping[str, int] = field(default_factory=dict)
    strays: tuple[Strays, ...] = ()
    absent_groups: Mapping[str, str] = field(default_factory=dict)
    known_classes: tuple[str, ...] | None = None
    names: Names = field(default_factory=Names)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """One name for binary masks (the foreground); else one a class, background first.

        Without `classes.txt` it is found by reading all masks; those that cannot be read are skipped.
        """
        if self.declared_classes is not None:
            return classes_of(self.declared_classes, [])
        if self.known_classes is not None:
            return self.known_classes
        values: list[frozenset[int]] = []
        for sample in self.samples:
            if sample.mask is not None:
                try:
                    values.append(frozenset(np.flatnonzero(count_values(read_mask(sample.mask))).tolist()))
                except ImageError:
                    continue
        return classes_of(None, values)

    def where(self, expression: str) -> "Dataset":
        """The part of the data set that a slice filter keeps, `modality=fluorescence|histology,stain="H&E, 40x"`.

        Columns are joined by "and", values by "or". The classes stay those of the whole data set.

        Raises:
            DataError: a column or value does not exist, or nothing is left.
        """
        wanted = parse_where(expression)
        for column, values in wanted.items():
            if column not in self.slice_columns:
                known = ", ".join(map(quoted, self.slice_columns)) or "none; give them in metadata.csv"
                raise DataError(f"where: there is no slice column '{column}'. Slice columns: {known}")
            known_values = {s.slices[column] for s in self.samples if column in s.slices}
            for value in sorted(values - known_values):
                known = ", ".join(map(quoted, sorted(known_values)))
                raise DataError(f"where: '{column}' is never '{value}'. Its values: {known}")
        kept = tuple(s for s in self.samples if all(s.slices.get(c) in v for c, v in wanted.items()))
        if not kept:
            raise DataError(f"where: no image has {expression}; ask for fewer columns at once")
        return replace(self, samples=kept, known_classes=self.class_names)


def read_dataset(root: Path, slices: Sequence[str] | None = None, groups_file: Path | None = None) -> Dataset:
    """Read a data set folder's listing and tables, without decoding an image.

    Args:
        slices: columns of `metadata.csv` to slice by; by default its text columns of at most 20 values.
        groups_file: a further `groups.csv`, for folders that cannot be written to; its rows win.

    Raises:
        SettingsError: there is no such `groups_file`.
        DataError: the folder holds no images, or a table in it makes no sense.
    """
    if groups_file is not None and not groups_file.is_file():
        raise SettingsError(
            f"groups: there is no file {groups_file}; correct the path, or let `prepare --mend` write it there"
        )
    images_folder = root / "images"
    if not images_folder.is_dir():
        raise DataError(f"{root} has no folder 'images'; a data set is images/* and masks/<same stem>.png")
    images, ignored = _list(images_folder, IMAGE_SUFFIXES)
    if not images:
        raise DataError(f"{images_folder} holds no image; PNG, JPEG, TIFF and BMP are read")
    masks_folder = root / "masks"
    masks, ignored_masks = _list(masks_folder, MASK_SUFFIXES) if masks_folder.is_dir() else ([], [])

    present = {path.name: f"images/{path.name}" for path in images}
    names = Names(present)
    rows, columns = read_metadata(root / METADATA_FILE, names)
    slice_columns, too_many = choose_slices(rows, columns, slices)
    declared = {file: row["group"] for file, row in rows.items() if row.get("group")}
    tables = {METADATA_FILE: {file: row.get("group", "") for file, row in rows.items()}}
    tables[GROUPS_FILE] = written = read_groups(root / GROUPS_FILE, names)
    if groups_file is not None and groups_file.resolve() != (root / GROUPS_FILE).resolve():
        tables[str(groups_file)] = read_groups(groups_file, names)
        written = {**written, **tables[str(groups_file)]}
    groups = effective_groups(declared, written)
    strays = (find_strays(table, given, present) for table, given in tables.items())

    stems = Names(path.stem for path in images)
    by_stem: dict[str, Path] = {stems.meant_by(mask.stem): mask for mask in masks}
    samples = tuple(
        Sample(
            file=present[path.name],
            image=path,
            mask=by_stem.get(path.stem),
            group=groups.get(path.name),
            slices={c: rows[path.name][c] for c in slice_columns if rows.get(path.name, {}).get(c)},
            declared_group=declared.get(path.name),
        )
        for path in images
    )
    return Dataset(
        root=root,
        samples=samples,
        slice_columns=slice_columns,
        declared_classes=read_classes(root / CLASSES_FILE),
        orphan_masks=tuple(f"masks/{path.name}" for path in masks if stems.meant_by(path.stem) not in stems),
        stem_clashes=_clashes("images", images, stems) + _clashes("masks", masks, stems),
        ignored_files=tuple(f"images/{n}" for n in ignored) + tuple(f"masks/{n}" for n in ignored_masks),
        ignored_columns=too_many,
        strays=tuple(stray for stray in strays if stray is not None),
        absent_groups={file: group for file, group in groups.items() if file not in present},
        names=names,
    )


def load(sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decode one image and its mask.

    Returns:
        rgb: (H, W, 3) uint8.
        mask: (H, W) uint8 class index; 0/255 masks become 0/1.

    Raises:
        DataError: there is no mask, or its size is not the image's.
        ImageError: one of the two cannot be decoded.
    """
    if sample.mask is None:
        raise DataError(f"{sample.file} has no mask; add masks/{sample.image.stem}.png or remove the image")
    rgb = read_image(sample.image)
    mask = to_indices(read_mask(sample.mask))
    if mask.shape != rgb.shape[:2]:
        raise DataError(size_mismatch(sample.file, rgb.shape[:2], mask.shape))
    return rgb, mask


def to_indices(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0/255 becomes 0/1 in place; as there are at most 32 classes, 255 is never an index."""
    mask[mask == 255] = 1
    return mask


def size_mismatch(file: str, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    """What to tell the user; both sizes are (height, width)."""
    sizes = f"the image is {image[1]} x {image[0]}, its mask {mask[1]} x {mask[0]}"
    return f"{file}: {sizes}; export the mask anew in the image's size, without EXIF rotation"


def count_values(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels have each value: (256,) int64, in strips so that large masks need no copy."""
    counts = np.zeros(256, np.int64)
    rows = max(1, (1 << 20) // max(1, mask.shape[1]))
    for top in range(0, mask.shape[0], rows):
        counts += np.bincount(mask[top : top + rows].ravel(), minlength=256)
    return counts


def classes_of(declared: Sequence[str] | None, values: Sequence[frozenset[int]]) -> tuple[str, ...]:
    """Class names from `classes.txt`, else from the values that each mask holds.

    Masks of 0 and 255 have one class, those of 0 to 31 with a value above 1 have more, those of 0 and 1 fit both: what
    more masks say holds for all.

    Returns:
        One name for a binary data set, else one name a class; at most 32.
    """
    if declared is not None:
        return (declared[1],) if len(declared) == 2 else tuple(declared)
    binary = [held for held in values if held <= {0, 255} and 255 in held]
    highest = [max(held) for held in values if 1 < max(held, default=0) < MAX_CLASSES]
    if not highest or len(highest) < len(binary):
        return ("foreground",)
    return ("background", *(f"class {index}" for index in range(1, max(highest) + 1)))


def _list(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[Path], list[str]]:
    taken, ignored = [], []
    try:
        found = sorted(folder.iterdir(), key=lambda p: p.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})") from None
    for path in found:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            # Neither a report nor a manifest could name it.
            raise DataError(f"{folder} holds a file whose name is not UTF-8, {path.name!r}: rename it") from None
        wanted = path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
        if wanted:
            taken.append(path)
        else:
            ignored.append(path.name)
    return taken, ignored


def _clashes(folder: str, paths: list[Path], stems: Names) -> tuple[str, ...]:
    count = Counter(stems.meant_by(path.stem) for path in paths)
    return tuple(f"{folder}/{path.name}" for path in paths if count[stems.meant_by(path.stem)] > 1)

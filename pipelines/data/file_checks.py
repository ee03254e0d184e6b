"""What can be wrong with a data set's files and tables, one by one; see `pipelines.data.checks`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from pipelines.data.dataset import size_mismatch
from pipelines.data.manifest import FileFacts
from pipelines.data.problems import Findings, Problem, problem_of
from pipelines.data.tables import CLASSES_FILE, MAX_CLASSES, MAX_SLICE_VALUES, METADATA_FILE

# What a class that is not listed shows at most to be asked about: a share of the masks (one always), or of all
# foreground pixels.
RARE_MASKS: Final = 0.01
RARE_PIXELS: Final = 0.001
# 16-bit grey of which a data set uses no more than this many of 256 levels is asked about: 13 of 16 bits.
FEW_LEVELS: Final = 32


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


def check_pairing(found: Findings) -> Iterator[Problem]:
    """Each image has its mask, each mask its image, and no stem is there twice."""
    dataset = found.dataset
    yield from problem_of(
        "image without mask",
        "refuse",
        (sample.file for sample in dataset.samples if sample.mask is None),
        "add masks/<same stem>.png (all 0 where there is nothing to find) or remove the image",
    )
    yield from problem_of("mask without image", "refuse", dataset.orphan_masks, "add the image or remove the mask")
    yield from problem_of(
        "stem clash",
        "refuse",
        dataset.stem_clashes,
        "these files share a stem, so a mask's image is a guess; rename or remove one of each, with its mask",
    )


def check_reading(found: Findings) -> Iterator[Problem]:
    """Each file can be read, and a mask has its image's size."""
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


def check_orientations(found: Findings) -> Iterator[Problem]:
    """An image and its mask were turned alike, or their sizes say which way is right."""
    yield from problem_of(
        "orientation unclear",
        "refuse",
        (fact.file for fact in found.facts if _turned_apart(fact)),
        "the EXIF orientation of image and mask differ, and the sizes fit both ways, so the mask may belong to the "
        "image before or after turning; save both upright, without an EXIF orientation "
        "(`mogrify -auto-orient`, or Pillow's ImageOps.exif_transpose), and see that they fit",
    )


def _turned_apart(fact: FileFacts) -> bool:
    """Whether the mask could have been drawn on the image turned otherwise.

    Orientations 5 to 8 swap the sides: where only one of the two does that to sides that differ, a mask that fits
    was drawn on the upright image, and one that does not is a size mismatch.
    """
    if fact.mask_size != fact.size or fact.orientation == fact.mask_orientation:
        return False
    return (fact.orientation >= 5) == (fact.mask_orientation >= 5) or fact.size[0] == fact.size[1]


def check_mask_values(found: Findings) -> Iterator[Problem]:
    """Masks hold class indices and nothing else."""
    good, bad = split_masks(found.facts, found.class_names)
    listed = found.dataset.declared_classes is not None
    whose = f"{CLASSES_FILE} asks for" if listed else f"{len(good)} of {len(good) + len(bad)} masks hold"
    fits = (
        "0 and 1, or 0 and 255" if len(found.class_names) == 1 else f"class indices 0 to {len(found.class_names) - 1}"
    )
    for fact in bad:
        values = sorted(fact.values or {})
        shown = ", ".join(map(str, values[:6])) + (", …" if len(values) > 6 else "")
        if len(values) > MAX_CLASSES:
            mend = "so many come from smoothing or JPEG: threshold the mask, or export it without"
        elif values[-1] >= MAX_CLASSES:
            mend = f"correct the mask: a class index is at most {MAX_CLASSES - 1}"
        else:
            mend = f"correct the mask, or list all classes (at most {MAX_CLASSES}) in {CLASSES_FILE}"
        yield Problem("mask values", "refuse", (fact.file,), f"its mask holds {shown}; {whose} {fits}; {mend}")


def check_rare_classes(found: Findings) -> Iterator[Problem]:
    """A class that nobody listed and that hardly any mask or pixel shows may be a slip of the pen."""
    if found.dataset.declared_classes is not None or len(found.class_names) == 1:
        return
    good, _ = split_masks(found.facts, found.class_names)
    pixels = Counter[int]()
    for fact in good:
        pixels.update({value: count for value, count in (fact.values or {}).items() if value > 0})
    for index, count in sorted(pixels.items()):
        files = tuple(fact.file for fact in good if index in (fact.values or {}))
        if len(files) <= max(1, RARE_MASKS * len(good)) or count < RARE_PIXELS * pixels.total():
            yield Problem(
                "rare class",
                "warn",
                files,
                f"class index {index} has {count:,} of {pixels.total():,} foreground pixels, in {len(files)} of "
                f"{len(good)} masks; correct it there if it is a slip, or else list all classes in {CLASSES_FILE}",
            )


def check_grey_levels(found: Findings) -> Iterator[Problem]:
    """16-bit files of a camera with fewer bits, of which decoding leaves little, are known of."""
    peaks = {fact.file: fact.peak for fact in found.facts if fact.peak is not None}
    levels = max(peaks.values(), default=255) + 1
    if levels > FEW_LEVELS:
        return
    limit = 256 * levels - 1
    factor = 2 ** (16 - limit.bit_length())
    yield Problem(
        "few grey levels",
        "warn",
        tuple(peaks),
        f"none of the {len(peaks):,} images of 16-bit grey holds a value above {limit:,}, and the upper 8 bits count: "
        f"at most {levels} of 256 grey levels are left. If their camera has {limit.bit_length()} bits, train on images "
        f"multiplied by {factor}, and send such to the model. With Pillow and numpy, file by file: "
        f"Image.fromarray(np.asarray(Image.open(old)) * {factor}).save(new); docs/data.md has it for a whole folder",
    )


def check_empty_masks(found: Findings) -> Iterator[Problem]:
    """Masks without foreground are known of."""
    good, _ = split_masks(found.facts, found.class_names)
    yield from problem_of(
        "empty mask",
        "warn",
        (fact.file for fact in good if set(fact.values or {}) == {0}),
        "no foreground: right for an image with nothing to find (it then scores 1 if nothing is found), "
        "else draw the mask",
    )


def check_listing(found: Findings) -> Iterator[Problem]:
    """Files and columns that are left out are known of."""
    dataset = found.dataset
    yield from problem_of(
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


def check_strays(found: Findings) -> Iterator[Problem]:
    """The rows of the tables name images that are there."""
    for stray in found.dataset.strays:
        lost = stray.loses_groups(found.mended)
        what = f"rows of {stray.table} for images that are not there"
        to_do = "correct their names or remove the rows"
        if lost:
            some = "a row" if stray.fits else "no row"
            names = "names an image wrongly" if stray.fits else "names an image"
            what = f"{some} of {stray.table} that gives a group {names}: what belongs together would be split"
        if lost and stray.by_mend:
            to_do = "it was written for another folder: give another file, remove it, or run prepare with --mend"
        yield Problem(
            "metadata without image" if stray.table == METADATA_FILE else "groups without image",
            "refuse" if lost else "warn",
            stray.files,
            f"{what}; {to_do}" + (f"; {stray.hint}" if stray.hint else ""),
        )

"""What is said of the parts of a window: a table each, and a sentence that needs no table."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from monitoring.parts.blame import Blame
from monitoring.parts.breakdown import Breakdown
from monitoring.parts.names import shown
from monitoring.parts.slices import Move, SliceDrift, Slices
from monitoring.parts.versions import Beside, OtherVersion
from monitoring.streams import OTHERS
from monitoring.words import change, from_to, is_ratio, number, unit

SLICE_CELLS = ("slice", "images", "share", "of the drift", "beside the reference")
VERSION_CELLS = ("version", "answers", "its images", "its predictions")
_NUMBERS = ("images", "share", "of the drift", "answers")
_RULE = (
    "The verdict is that of all images together; a slice may differ from the whole reference and always have done so."
)


def slice_rows(slices: Slices) -> list[tuple[str, ...]]:
    """A row a slice, as `SLICE_CELLS` names them."""
    rows: list[tuple[str, ...]] = [
        (
            shown(one.name),
            f"{one.rows:,}",
            _share(one),
            "" if one.part is None else f"{one.part:.0%}",
            _moves(one),
        )
        for one in slices.shown
    ]
    if slices.more:
        rows.append((f"{slices.more:,} more", f"{slices.more_rows:,}", "", "", _small(slices)))
    return rows


def version_rows(versions: Sequence[OtherVersion]) -> list[tuple[str, ...]]:
    """A row a version, as `VERSION_CELLS` names them."""
    return [(shown(one.version), f"{one.rows:,}", _images(one), _predictions(one)) for one in versions]


@dataclass(frozen=True)
class Listed:
    """A table of texts; what clients wrote is in it as `monitoring.parts.names` shows it."""

    title: str
    cells: tuple[str, ...]
    rows: list[tuple[str, ...]]


def listed(found: Breakdown, *, drifted: bool) -> list[Listed]:
    """The tables that there are; slices only of a window that has drifted."""
    made = []
    if drifted and found.slices.shown:
        made.append(Listed(f"By slice. {_RULE}", SLICE_CELLS, slice_rows(found.slices)))
    if found.versions:
        made.append(Listed("Other versions in the window", VERSION_CELLS, version_rows(found.versions)))
    return made


def tables(found: Breakdown, *, drifted: bool) -> list[Table]:
    """The same for a terminal."""
    made = []
    for each in listed(found, drifted=drifted):
        one = Table(title=each.title, title_justify="left")
        for cell in each.cells:
            one.add_column(cell, justify="right" if cell in _NUMBERS else "left", overflow="fold")
        for row in each.rows:
            one.add_row(*(Text(cell) for cell in row))
        made.append(one)
    return made


def sentences(found: Breakdown) -> list[str]:
    """What the parts tell, one sentence each."""
    said = [_blamed(found.blame)] if found.blame is not None else []
    return said + [_beside(one) for one in found.versions]


def _blamed(one: Blame) -> str:
    if one.kind == "alike":
        return "By slice: none stands out, each bears about its share of the drift."
    names = " and ".join([", ".join(map(shown, one.names[:-1])), shown(one.names[-1])]) if len(one.names) > 1 else ""
    which, them = (f"slices {names}", "them") if names else (f"slice {shown(one.names[0])}", "it")
    if one.kind == "all":
        return (
            f"By slice: all of it is in {which} ({one.share:.0%} of the images): without {them} none of the "
            "descriptors moved, and no other test raises an alarm."
        )
    rest = {
        "drift": f"without {them} the others have drifted too",
        "too few rows": f"without {them} too few images are left to judge the others",
    }.get(one.rest, "the others bear the rest")
    return f"By slice: most of it is in {which}: {one.share:.0%} of the images, {one.part:.0%} of the drift; {rest}."


def _share(one: SliceDrift) -> str:
    return f"{one.share:.0%}" + (f" (trained on {one.reference_share:.0%})" if one.reference_share is not None else "")


def _moves(one: SliceDrift) -> str:
    if one.name == OTHERS:
        return "slices that were too many in an hour to be told apart"
    if not one.enough:
        return "too few images to compare by themselves"
    like = " of the same slice" if one.own else ""
    if not one.moves:
        return f"like the reference{like}, as far as chance lets see"
    return "; ".join(map(move, one.moves)) + (f" (beside the reference{like})" if like else "")


def move(one: Move) -> str:
    """A descriptor's change in words and units, with its effect."""
    means = f" ({from_to(one)})" if is_ratio(one) else ""
    return f"{change(one)}{means}, effect {one.effect:.2f}"


def _small(slices: Slices) -> str:
    return f"{slices.small:,} of them with too few images to be named" if slices.small else ""


def _images(one: OtherVersion) -> str:
    if not one.enough:
        return "too few to compare"
    return _listed(one.images) if one.images else "alike"


def _predictions(one: OtherVersion) -> str:
    if not one.predictions:
        return "too few to compare"
    different = [each for each in one.predictions if each.differs]
    on = f"on {one.same_images:,} same images: " if one.predictions[0].effect is None else ""
    return on + (_listed(different) if different else "alike")


def _listed(those: Sequence[Beside]) -> str:
    return "; ".join(
        f"{one.column} {number(one.watched)} → {number(one.other)} {unit(one.column)}".rstrip() for one in those[:3]
    )


def _beside(one: OtherVersion) -> str:
    named = f"Version {shown(one.version)}"
    if not one.predictions:
        return f"{named} answered {one.rows:,} images in the window: too few to compare."
    different = any(each.differs for each in one.predictions)
    if one.predictions[0].effect is None:
        if different:
            return (
                f"{named} sees the same images otherwise ({_predictions(one)}): that is the versions' difference, "
                "whatever the images are."
            )
        return f"{named} sees the same {one.same_images:,} images alike: a shift of predictions comes with the images."
    if not different:
        return f"{named} predicts alike in the window."
    if one.images:
        return (
            f"{named} predicts otherwise ({_predictions(one)}), but of other images ({_images(one)}): images and "
            "version cannot be told apart."
        )
    return (
        f"{named} predicts otherwise ({_predictions(one)}) of images that look alike: that is the versions' difference."
    )

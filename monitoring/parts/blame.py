"""Whether a drift is in some slices alone: judge the rest of the window without them.

found = blame(slices, judge_rest)       # Blame(kind="all", names=("site=B",), …)
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal

from monitoring.drift import Drift
from monitoring.parts.slices import SliceDrift, Slices
from monitoring.streams import OTHERS

# More of them are no explanation.
_MOST: Final = 3
# Of what the rest would bear by its share of the images, were all slices alike.
_LITTLE: Final = 0.5
_STANDS_OUT: Final = 1.5
_MOST_OF_IT: Final = 0.5

Rest = Literal["no drift", "drift", "too few rows", "not judged"]
# Judges the rows of all slices but some; None where too few are left.
JudgeRest = Callable[[Collection[str | None]], Drift | None]


@dataclass(frozen=True)
class Blame:
    """What the slices say of a drift.

    Attributes:
        kind: "all": without them the rest raises no alarm; "most": they bear far more than their share of the images;
            "alike": none stands out.
        names: of the slices; empty where none stands out.
        share, part: of the images, and of the drift.
        rest: the verdict on the others.
    """

    kind: Literal["all", "most", "alike"]
    names: tuple[str | None, ...] = ()
    share: float = 0.0
    part: float = 0.0
    rest: Rest = "not judged"


def blame(slices: Slices, judge_rest: JudgeRest) -> Blame | None:
    """Find the fewest slices without which the window has not drifted; None where there is nothing to divide.

    That the rest raises no alarm is not enough: of fewer images less is seen. It must also bear far less of the
    drift than its share of the images.

    Args:
        slices: of a window that has drifted.
        judge_rest: the verdict on the rows without some slices.
    """
    known = [one for one in slices.shown if one.part is not None]
    if not known or len(known) + slices.more < 2:
        return None
    out: list[SliceDrift] = []
    found = Blame("alike")
    for one in [each for each in known if each.name != OTHERS and _part(each) > each.share][:_MOST]:
        out.append(one)
        share, part = sum(each.share for each in out), sum(_part(each) for each in out)
        clean = 1 - part <= _LITTLE * (1 - share)
        rest = _rest(judge_rest, out) if clean and share < 1 else "not judged"
        names = tuple(each.name for each in out)
        if rest == "no drift":
            return Blame("all", names, share, part, rest)
        stands_out = part >= _STANDS_OUT * share or (clean and rest == "drift")
        # Of many small slices some bear much by chance.
        sure = all(each.enough for each in out)
        if found.kind == "alike" and part >= _MOST_OF_IT and stands_out and sure:
            found = Blame("most", names, share, part, rest)
        if rest == "too few rows":
            break
    return found


def _rest(judge_rest: JudgeRest, out: list[SliceDrift]) -> Rest:
    found = judge_rest([each.name for each in out])
    return "too few rows" if found is None else found.verdict


def _part(one: SliceDrift) -> float:
    return one.part or 0.0

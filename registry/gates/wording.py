"""How verdicts say what several gates have to say."""

import math
from collections.abc import Sequence

from registry.evidence import Evidence
from registry.gates.gate import Verdict
from registry.noninferiority import Shown

# Beyond as many, no number is worth naming: the difference is as good as the limit.
_ENDLESS = 100_000


def missing(evidence: Evidence, what: str) -> Verdict:
    """The verdict where something was not measured yet."""
    return Verdict("undecided", f"not measured: {what}", f"measure it: {evidence.check}", unmeasured=True)


def nothing_live(evidence: Evidence) -> str:
    """Why there is no version to compare with."""
    if evidence.stage == "Production":
        return "there is no live version to compare with"
    return f"it is compared with the live version before Production, not before {evidence.stage}"


def signed(value: float) -> str:
    """`+0.0012`, and never `-0.0000`."""
    return f"{round(value, 4) + 0.0:+.4f}"


def interval(shown: Shown) -> str:
    """`-0.0012 [-0.0050, +0.0031]`, and how many groups that comes from where they are fewer than the images."""
    told = f"{signed(shown.mean)} [{signed(shown.low)}, {signed(shown.high)}]"
    if math.isinf(shown.low):
        told = f"{signed(shown.mean)} (too few for an interval)"
    return told if shown.clusters == shown.images else f"{told} from {shown.clusters} groups"


def more_wanted(images: int | None) -> str:
    """What to do where the images do not decide."""
    if images is None:
        return "add test images"
    if images >= _ENDLESS:
        return "no number of test images would decide, it is so near the limit: train a version that differs more"
    return f"about {_two_digits(images)} more test {'images' if images > 1 else 'image'} would decide"


def _two_digits(number: int) -> int:
    """Rounded up: an estimate has no more."""
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit


def percent(share: float) -> str:
    """`12.3 %`, and more digits where it is close to all."""
    digits = 4 if share > 0.999 else 2 if share > 0.99 else 1
    return f"{100 * share:.{digits}f} %"


def first(names: Sequence[str], count: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def counted(number: int, one: str, many: str = "") -> str:
    """`1 image`, `2 images`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"

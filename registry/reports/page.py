"""A comparison as one HTML file: it holds all that it shows, and works without a network.

Path("6-7.html").write_text(render(comparison, drawn, made=now))
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from registry.evidence import Interval
from registry.reports.compare import Comparison
from registry.reports.compare_table import about, running, sentences
from registry.reports.examples import PICTURES, Drawn, Example
from registry.reports.paired import ImagePair, Row
from registry.reports.words import count, difference, interval, moment, plain

TEMPLATE: Final = Path(__file__).with_name("page.html")
# Half the width of a bar, and where its middle is.
_HALF, _MIDDLE = 74.0, 80.0
# The square in which images are drawn by their two Dice: left, bottom and side.
_LEFT, _BOTTOM, _SIDE = 40.0, 290.0, 280.0
# Names in a list, letters of a value: the whole is in `--json`.
_NAMES: Final = 200
_LONGEST: Final = 120


@dataclass(frozen=True)
class Bar:
    """Where an interval is drawn."""

    low: float
    mean: float
    high: float


def render(comparison: Comparison, drawn: Drawn, made: datetime) -> str:
    """The page's text.

    Args:
        drawn: images on which the two differ.
        made: aware.
    """
    first, second = f"version {comparison.first.version}", f"version {comparison.second.version}"
    rows = [(metric.replace("_", " "), "", row) for metric, row in comparison.metrics.items()]
    parts = [
        (name, f"{row.first_images} and {count(row.second_images, 'image')}", row)
        for name, row in comparison.slices.items()
    ]
    images = comparison.paired.images if comparison.paired else ()
    least = _least(images)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.finalize = _printable
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=f"{comparison.model}: {first} and {second}",
        model=comparison.model,
        numbers=(comparison.first.version, comparison.second.version),
        first=first,
        second=second,
        sentences=sentences(comparison),
        about=about(comparison.first, comparison.second),
        metrics=_scores(rows),
        slices=_scores(parts),
        examples=[_example(one, drawn.pictures, first, second) for one in drawn.examples],
        dots=[_dot(one, least) for one in images],
        least=f"{least:g}",
        counted=_counted(images, first, second),
        splits=[
            {name: getattr(part, name) for name in ("split", "first", "second", "added", "removed", "relabelled")}
            for part in comparison.splits
        ],
        shown=_NAMES,
        longest=_LONGEST,
        differing=[
            (id, heading, found)
            for id, heading, found in (
                ("parameters", "Parameters that differ", comparison.parameters),
                ("requirements", "Requirements that differ", comparison.requirements),
            )
            if found
        ],
        running=running(comparison),
        notices=[*comparison.notices, *drawn.notices],
        made=moment(made),
    )


def _printable(value: Any) -> Any:
    """Texts of others without control characters, some of which no HTML may hold."""
    return plain(value) if type(value) is str else value


def _scores(rows: Sequence[tuple[str, str, Row]]) -> list[dict[str, object]]:
    known = [row.difference for *_, row in rows if row.difference is not None]
    # An interval from -1 to 1 is that of a single image: it says nothing, and would make the others invisible.
    told = [one for one in known if one.high - one.low < 2]
    reach = max((abs(end) for one in told for end in (one.low, one.high)), default=1.0) or 1.0
    return [
        {
            "name": name,
            "detail": detail,
            "first": interval(row.first),
            "second": interval(row.second),
            "difference": difference(row.difference),
            "judged": _judged(row.difference),
            "bar": _bar(row.difference, reach),
            "spoken": f"difference {difference(row.difference)}",
            "images": row.images,
        }
        for name, detail, row in rows
    ]


def _judged(found: Interval | None) -> str:
    if found is None or found.low <= 0 <= found.high:
        return ""
    return "better" if found.low > 0 else "worse"


def _bar(found: Interval | None, reach: float) -> Bar | None:
    if found is None:
        return None
    places = [
        round(_MIDDLE + _HALF * max(-1.0, min(1.0, end / reach)), 1) for end in (found.low, found.mean, found.high)
    ]
    return Bar(*places)


def _least(images: Sequence[ImagePair]) -> float:
    """Where the axes begin: a tenth below the worst image."""
    lowest = min((min(one.first, one.second) for one in images), default=0.0)
    return max(0.0, int(lowest * 10) / 10 if lowest < 1 else 0.9)


def _dot(one: ImagePair, least: float) -> dict[str, object]:
    scale = _SIDE / (1 - least)
    return {
        "x": round(_LEFT + (one.first - least) * scale, 1),
        "y": round(_BOTTOM - (one.second - least) * scale, 1),
        "lost": one.second < one.first,
        "told": f"{one.path}: {one.first:.4f} → {one.second:.4f}",
    }


def _counted(images: Sequence[ImagePair], first: str, second: str) -> str:
    better = sum(one.second > one.first for one in images)
    worse = sum(one.second < one.first for one in images)
    same = len(images) - better - worse
    alike = f"; on {count(same, 'image')} they are alike" if same else ""
    return (
        f"{second.capitalize()} has the higher Dice on {count(better, 'image')}, {first} on {count(worse, 'image')}"
        f"{alike}. Above the dashed line {second} is better."
    )


def _example(one: Example, pictures: Mapping[str, bytes], first: str, second: str) -> dict[str, object]:
    brighter = ", shown brighter" if one.brighter > 1 else ""
    captions = {
        "image": f"image{brighter}",
        "truth": "truth",
        "first": f"{first}: Dice {one.first:.3f}",
        "second": f"{second}: Dice {one.second:.3f}",
    }
    change = one.second - one.first
    return {
        "path": one.path,
        "width": one.width,
        "height": one.height,
        "change": f"{change:+.3f}",
        "judged": "better" if change > 0 else "worse" if change < 0 else "",
        "pictures": [
            {
                "source": f"data:image/png;base64,{base64.b64encode(pictures[one.pictures[kind]]).decode()}",
                "caption": captions[kind],
                "alt": f"{one.path}, {captions[kind]}",
            }
            for kind in PICTURES
        ],
    }

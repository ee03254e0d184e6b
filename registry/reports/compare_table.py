"""Two versions side by side on a console."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from registry.reports.compare import Comparison
from registry.reports.differences import Differs
from registry.reports.paired import Row
from registry.reports.show import Shown
from registry.reports.words import count, difference, interval, moment, plain, safe, short

_LONGEST: Final = 60


def say_comparison(console: Console, comparison: Comparison) -> None:
    """Print what differs, one table a question."""
    first, second = f"version {comparison.first.version}", f"version {comparison.second.version}"
    for title, table in _tables(comparison, first, second):
        console.print(safe(f"\n{title}", style="bold"))
        console.print(table)
    for sentence in sentences(comparison):
        console.print(plain(sentence), markup=False, soft_wrap=True)
    for notice in comparison.notices:
        console.print(plain(notice), style="yellow", markup=False, soft_wrap=True)


def sentences(comparison: Comparison) -> list[str]:
    """What the numbers say, in words."""
    first, second, paired = comparison.first.version, comparison.second.version, comparison.paired
    told = []
    if paired is not None and paired.images:
        which = "the same test split" if paired.whole else "the test images that both have"
        told.append(f"Paired on {count(len(paired.images), 'image')}: {which}; intervals are of 95 %.")
    if paired is not None and paired.bound is not None:
        low, high = paired.bound.low, paired.bound.high
        if low > 0:
            told.append(f"Version {second} is shown to be better: by more than {low:.4f} Dice (one-sided 95 %).")
        elif high < 0:
            told.append(f"Version {second} is shown to be worse: by more than {-high:.4f} Dice (one-sided 95 %).")
        else:
            told.append(f"Version {second} is shown to lose no more than {-low:.4f} Dice (one-sided 95 %).")
    same = [
        name
        for name, differ in (("requirements", comparison.requirements), ("parameters", comparison.parameters))
        if not differ and _looked_at(comparison, name)
    ]
    if same:
        told.append(f"No difference in {' and '.join(same)} between version {first} and version {second}.")
    return told


def _looked_at(comparison: Comparison, name: str) -> bool:
    if name == "requirements":
        return bool(comparison.sizes.first and comparison.sizes.second)
    return comparison.first.run is not None and comparison.second.run is not None


def _tables(comparison: Comparison, first: str, second: str) -> Iterator[tuple[str, Table]]:
    yield f"{comparison.model}: {first} and {second}", _about(comparison.first, comparison.second, first, second)
    if comparison.metrics:
        rows = [(metric.replace("_", " "), row) for metric, row in comparison.metrics.items()]
        yield "scores: mean [95 % interval]", _scores(rows, first, second)
    if comparison.slices:
        parts = [(f"{name} ({row.first_images}, {row.second_images})", row) for name, row in comparison.slices.items()]
        yield "Dice by slice (images of each)", _scores(parts, first, second)
    if comparison.splits:
        table = Table("split", first, second, "added", "removed", "relabelled")
        for part in comparison.splits:
            numbers = (part.first, part.second, len(part.added), len(part.removed), len(part.relabelled))
            table.add_row(safe(part.split), *(str(number) for number in numbers))
        yield "images of the data set", table
    if comparison.parameters:
        yield "parameters that differ", _differing(comparison.parameters, first, second)
    if comparison.requirements:
        yield "requirements that differ", _differing(comparison.requirements, first, second)
    yield "size and speed", _running(comparison, first, second)


def _about(old: Shown, new: Shown, first: str, second: str) -> Table:
    table = Table("", first, second)
    for name, told in about(old, new):
        table.add_row(name, *(safe(text) for text in told))
    return table


def about(old: Shown, new: Shown) -> list[tuple[str, tuple[str, str]]]:
    """What the two versions are: a name and two texts a line."""

    def both(name: str, told: "list[str]") -> tuple[str, tuple[str, str]]:
        return name, (told[0], told[1])

    pairs = (old, new)
    return [
        both("stage", [" ".join((one.stage, *(f"@{alias}" for alias in one.aliases))) for one in pairs]),
        both("made", [moment(one.created) for one in pairs]),
        both("bytes", [short(one.digest) for one in pairs]),
        both("parent", [{"": "unknown", "none": "none"}.get(one.parent, f"version {one.parent}") for one in pairs]),
        both("data set", [short(one.fingerprint) for one in pairs]),
        both("commit", [f"{one.commit[:8] or 'unknown'} {one.working_tree}".strip() for one in pairs]),
        both("precision, engine", [", ".join(filter(None, (one.precision, one.engine))) for one in pairs]),
    ]


def _scores(rows: Sequence[tuple[str, Row]], first: str, second: str) -> Table:
    table = Table("", first, second, "difference", "images")
    for name, row in rows:
        told = difference(row.difference)
        style = ""
        if row.difference is not None:
            style = "green" if row.difference.low > 0 else "red" if row.difference.high < 0 else ""
        table.add_row(
            safe(name),
            interval(row.first),
            interval(row.second),
            safe(told, style),
            str(row.images) if row.images else "–",
        )
    return table


def _differing(rows: Sequence[Differs], first: str, second: str) -> Table:
    table = Table("", first, second)
    for row in rows:
        table.add_row(safe(row.name), *(safe(_cut(text)) for text in (row.first, row.second)))
    return table


def _cut(text: str) -> str:
    return (text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…") or "–"


def _running(comparison: Comparison, first: str, second: str) -> Table:
    table = Table("", first, second, "ratio")
    for name, before, after, ratio in running(comparison):
        table.add_row(safe(name), before, after, ratio)
    return table


def running(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Size, latency and memory: a name, two values and their ratio a line."""
    sizes, speed = comparison.sizes, comparison.speed
    rows = [
        ("all files", *_both(sizes.first / 1e6 or None, sizes.second / 1e6 or None, "MB", 2)),
        ("file that serves", *_both(sizes.first_serving / 1e6 or None, sizes.second_serving / 1e6 or None, "MB", 2)),
    ]
    if speed is None:
        return [*rows, ("latency and memory", "not measured", "not measured", "–")]
    how = "one run" if speed.together else "two runs, which is hard to compare"
    return [
        *rows,
        (f"p95 latency ({speed.where}; {how})", *_both(speed.first_ms, speed.second_ms, "ms", 1)),
        ("memory at its peak", *_both(speed.first_mb, speed.second_mb, "MB", 0)),
    ]


def _both(first: float | None, second: float | None, unit: str, digits: int) -> tuple[str, str, str]:
    told = [f"{value:.{digits}f} {unit}" if value is not None else "–" for value in (first, second)]
    return told[0], told[1], f"{second / first:.2f} ×" if first and second else "–"

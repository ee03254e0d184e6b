"""Two or more sides measured in turn, round by round, so that a slow moment of the machine hits all of them.

measured = interleave({"ours": ours, "peer": peer}, rounds=7)
print_ratio(measured, ours="ours", peer="peer", unit="images/s", at_least=2.0)
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table


def interleave(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each side once a round and keep what it returns; every second round runs in reverse order."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(rounds):
        order = list(sides)
        for name in order if index % 2 == 0 else reversed(order):
            measured[name].append(sides[name]())
    return measured


def ratios(measured: Mapping[str, Sequence[float]], over: str, under: str) -> list[float]:
    """`over` / `under`, one a round."""
    return [a / b for a, b in zip(measured[over], measured[under], strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range: `2.41 (2.30 … 2.52)`."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})"


def print_comparison(
    title: str,
    measured: Mapping[str, Sequence[float]],
    unit: str,
    wanted: Sequence[tuple[str, str, float]],
    console: Console | None = None,
) -> bool:
    """Print a table of all sides and of the ratios asked for.

    Args:
        title: what was measured.
        measured: of `interleave`.
        unit: of the values.
        wanted: (numerator, denominator, at least) of each ratio.
        console: where to print.

    Returns:
        whether the median of every ratio is at least what is wanted.
    """
    rounds = len(next(iter(measured.values())))
    table = Table("", f"median (smallest … largest), {unit}", "must be", title=f"{title}, {rounds} rounds")
    for name, values in measured.items():
        table.add_row(name, spread(values), "")
    held = True
    for over, under, least in wanted:
        found = ratios(measured, over, under)
        reached = statistics.median(found) >= least
        held = held and reached
        table.add_row(f"{over} / {under}", f"{spread(found)} ×", f"≥ {least:g} × {'✓' if reached else '✗'}")
    (console or Console()).print(table)
    return held


def arguments(description: str | None, given: Sequence[str] | None = None) -> argparse.Namespace:
    """The one option of most benchmarks: `--smoke`, a short run that shows that it works."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    return parser.parse_args(given)

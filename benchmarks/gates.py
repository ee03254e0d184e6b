"""Whether the champion gate tells the truth: rates of error over simulated pairs of versions.

    python -m benchmarks.gates            # 20,000 pairs a cell
    python -m benchmarks.gates --power    # the table of docs/gates.md
    python -m benchmarks.gates --smoke

Per-image differences of Dice are drawn from distributions that real ones are like, with a known mean: at `-margin` (the
gate must not let more than 5.5 % through) and at 0 (it must let at least 80 % through at n = 300). Beside each rate
stands that of the interval that most tools use, the percentile bootstrap. The last rows are beyond any method: the loss
is in so few images that a sample often holds hardly one of them.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from registry.noninferiority import DRAWS, ERROR, bounds, noninferiority

Floats = NDArray[np.float64]
Rng = np.random.Generator
Size = tuple[int, ...]

MARGIN: Final = 0.01
SPREAD: Final = 0.05
SIZES: Final = (30, 85, 300)
POWER_SPREADS: Final = (0.03, 0.05, 0.1)
# True differences of the power table, in margins.
POWER_STEPS: Final = (1.0, 0.5, 0.0, -0.5, -0.75, -1.0, -2.0)
_GROUPS: Final = 60
_SAME_GROUP: Final = 0.5
_BLOCK: Final = 500
_WORST: Final = 0.055
_POWER: Final = 0.8


class Draw(NamedTuple):
    """A distribution of per-image differences.

    Attributes:
        values: (rng, shape, mean, spread) → differences of that mean and standard deviation.
        shifts: a mean moves it as a whole and a spread stretches it, so that one sample serves for all.
        sizes: how many images are in each group; empty: images are alone.
    """

    values: Callable[[Rng, Size, float, float], Floats]
    shifts: bool = True
    sizes: tuple[int, ...] = ()


def _standard(shape: Callable[[Rng, Size], Floats]) -> Draw:
    """Of a shape of mean 0 and standard deviation 1."""
    return Draw(lambda rng, size, mean, spread: mean + spread * shape(rng, size))


def _normal(rng: Rng, size: Size) -> Floats:
    return rng.standard_normal(size)


def _losses(shape: float) -> Callable[[Rng, Size], Floats]:
    """Gamma to the left: of skew -2 / sqrt(shape)."""
    return lambda rng, size: (shape - rng.gamma(shape, 1.0, size)) / np.sqrt(shape)


def _uneven(share: float, times: float, shape: Callable[[Rng, Size], Floats]) -> Callable[[Rng, Size], Floats]:
    """A share of the images varies some times more than the others."""

    def draw(rng: Rng, size: Size) -> Floats:
        scale = np.where(rng.random(size) < share, times, 1.0)
        return np.asarray(scale * shape(rng, size) / np.sqrt(share * times**2 + 1 - share), np.float64)

    return draw


def _unchanged(share: float, shape: Callable[[Rng, Size], Floats]) -> Draw:
    """A share of the images is answered exactly alike; the whole difference is in the others."""

    def draw(rng: Rng, size: Size, mean: float, spread: float) -> Floats:
        changed = 1 - share
        own = np.sqrt((spread**2 + mean**2) / changed - (mean / changed) ** 2)
        return np.where(rng.random(size) < changed, mean / changed + own * shape(rng, size), 0.0)

    return Draw(draw, shifts=False)


def _in_few(share: float, times: float = 3.0) -> Draw:
    """The whole difference is in a share of the images, which also vary some times more than the others."""

    def draw(rng: Rng, size: Size, mean: float, spread: float) -> Floats:
        rest = spread**2 - mean**2 / share + mean**2
        own = np.sqrt(rest / (share * times**2 + 1 - share))
        few = rng.random(size) < share
        drawn = np.where(few, mean / share + times * own * _normal(rng, size), own * _normal(rng, size))
        return np.asarray(drawn, np.float64)

    return Draw(draw, shifts=False)


def _grouped(sizes: tuple[int, ...], shape: Callable[[Rng, Size], Floats]) -> Draw:
    """Half of the variance is common to the images of a group."""

    def draw(rng: Rng, size: Size, mean: float, spread: float) -> Floats:
        common = np.repeat(shape(rng, (len(sizes), *size[1:])), sizes, axis=0)
        own = np.sqrt(1 - _SAME_GROUP) * shape(rng, size)
        return np.asarray(mean + spread * (np.sqrt(_SAME_GROUP) * common + own), np.float64)

    return Draw(draw, sizes=sizes)


# Name, distribution, images, and whether the gate must hold there.
Cell = tuple[str, Draw, int, bool]
ALONE: Final[Mapping[str, Draw]] = {
    "normal": _standard(_normal),
    "losses skewed": _standard(_losses(4.0)),
    "losses very skewed": _standard(_losses(1.0)),
    "gains very skewed": _standard(lambda rng, size: -_losses(1.0)(rng, size)),
    "heavy tails (t, 5 degrees)": _standard(lambda rng, size: rng.standard_t(5, size) / np.sqrt(5 / 3)),
    "a tenth of the images varies 6 × more": _standard(_uneven(0.1, 6.0, _normal)),
    "a fifth varies 4 × more, losses skewed": _standard(_uneven(0.2, 4.0, _losses(4.0))),
    "half unchanged, losses skewed": _unchanged(0.5, _losses(4.0)),
    "four fifths unchanged": _unchanged(0.8, _normal),
    "a fifth carries all of it": _in_few(0.2),
    "a tenth carries all of it": _in_few(0.1),
}
GROUPED: Final[Mapping[str, Draw]] = {
    "60 groups of 5": _grouped((5,) * _GROUPS, _normal),
    "60 groups of 5, losses skewed": _grouped((5,) * _GROUPS, _losses(4.0)),
    "60 groups of 5, losses very skewed": _grouped((5,) * _GROUPS, _losses(1.0)),
    "60 groups of 1 to 10, losses skewed": _grouped((1, 2, 5, 7, 10) * (_GROUPS // 5), _losses(4.0)),
}
BEYOND: Final[Mapping[str, Draw]] = {
    "four fifths unchanged, losses skewed": _unchanged(0.8, _losses(4.0)),
    "a twentieth carries all of it": _in_few(0.05, 1.0),
}


def lower_bounds(draw: Draw, n: int, mean: float, spread: float, pairs: int, seed: int) -> tuple[Floats, Floats]:
    """The gate's lower bound of each of many samples, and the percentile bootstrap's.

    Args:
        n: images of a sample.
        mean, spread: of the differences.
    """
    rng = np.random.default_rng([seed, n, round(1e4 * (mean + 1)), round(1e4 * spread)])
    sizes = np.array(draw.sizes or (1,) * n, np.float64)
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=DRAWS).astype(np.float64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    ours, percentile = [], []
    for start in range(0, pairs, _BLOCK):
        values = draw.values(rng, (n, min(_BLOCK, pairs - start)), mean, spread)
        sums = np.add.reduceat(values, starts, axis=0)
        ours.append(bounds(sums, sizes).low)
        percentile.append(np.quantile(drawn @ sums / (drawn @ sizes)[:, None], 0.05, axis=0))
    return np.concatenate(ours), np.concatenate(percentile)


class Rates(NamedTuple):
    """Shares that are let through, ours and the percentile bootstrap's, where worse by the margin and where equal."""

    worse: float
    worse_percentile: float
    equal: float
    equal_percentile: float


def rates(draw: Draw, n: int, pairs: int, seed: int) -> Rates:
    """Simulate one cell."""
    equal = lower_bounds(draw, n, 0.0, SPREAD, pairs, seed)
    worse = (equal[0] - MARGIN, equal[1] - MARGIN)
    if not draw.shifts:
        worse = lower_bounds(draw, n, -MARGIN, SPREAD, pairs, seed)
    shares = [float((low >= -MARGIN).mean()) for low in (*worse, *equal)]
    return Rates(*shares)


def skew(draw: Draw) -> float:
    """Of the differences where the challenger is worse by the margin."""
    n = sum(draw.sizes) or 1000
    values = draw.values(np.random.default_rng(0), (n, 200_000 // n), -MARGIN, SPREAD)
    return float(((values - values.mean()) ** 3).mean() / values.std() ** 3)


def _cells() -> Iterator[Cell]:
    """All of them."""
    for name, draw in ALONE.items():
        yield from ((name, draw, n, True) for n in SIZES)
    for name, draw in GROUPED.items():
        yield name, draw, sum(draw.sizes), True
    for name, draw in BEYOND.items():
        yield from ((f"beyond: {name}", draw, n, False) for n in SIZES)


def truth(pairs: int, seed: int, say: Callable[[str], None], cells: Iterable[Cell]) -> bool:
    """Print the rates of error as Markdown, row by row; whether every cell that must hold does."""
    say(f"{_day()}, {pairs:,} pairs a row, sd {SPREAD}, margin {MARGIN}, {DRAWS:,} draws, each bound at {ERROR:.1%}.\n")
    say("| differences | skew | n | worse by the margin | percentile | equal | percentile |")
    say("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    fine = True
    for name, draw, n, must in cells:
        found = rates(draw, n, pairs, seed)
        # Images of a group tell less than as many images alone: the power that is asked for is of the latter.
        held = found.worse <= _WORST and (n != max(SIZES) or bool(draw.sizes) or found.equal >= _POWER)
        fine = fine and (held or not must)
        mark = " ✗" if must and not held else ""
        worse = f"{_percent(found.worse, 2)}{mark} | {_percent(found.worse_percentile, 2)}"
        equal = f"{_percent(found.equal)} | {_percent(found.equal_percentile)}"
        say(f"| {name} | {round(skew(draw), 1) + 0.0:+.1f} | {n} | {worse} | {equal} |")
    wanted = f"must be ≤ {_WORST:.1%} where worse, and ≥ {_POWER:.0%} where equal, at n = {max(SIZES)} without groups"
    say(f"\n{wanted}: {'✓' if fine else '✗'}")
    return fine


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _day() -> str:
    return datetime.now(UTC).strftime("%d %B %Y").lstrip("0")


def power(pairs: int, seed: int, say: Callable[[str], None]) -> None:
    """Print, as Markdown, how many are let through by how much better or worse they are."""
    columns = [(n, spread) for n in SIZES for spread in POWER_SPREADS]
    draw = ALONE["losses skewed"]
    # One sample of spread 1 and mean 0 for each n: a mean moves its bound, and a spread stretches it.
    low = {n: lower_bounds(draw, n, 0.0, 1.0, pairs, seed)[0] for n in SIZES}
    say(f"{_day()}, {pairs:,} pairs a column, margin {MARGIN}, losses skewed (skew {skew(draw):+.1f}).\n")
    say("| true difference | " + " | ".join(f"n = {n}, sd {spread:g}" for n, spread in columns) + " |")
    say("| --- |" + " ---: |" * len(columns))
    for step in POWER_STEPS:
        mean = step * MARGIN
        shares = [float((mean + spread * low[n] >= -MARGIN).mean()) for n, spread in columns]
        name = "equal" if not step else f"{'better' if step > 0 else 'worse'} by {abs(step):g} × the margin"
        say(f"| {name} | " + " | ".join(_percent(share) for share in shares) + " |")


def call_ms(images: int = 300, calls: int = 7) -> float:
    """The slowest of some calls of the gate's test, each of another number of images, in milliseconds."""
    rng = np.random.default_rng(0)
    times = []
    for more in range(calls):
        values = rng.normal(0, SPREAD, images + more)
        started = time.perf_counter()
        noninferiority(values, MARGIN)
        times.append((time.perf_counter() - started) * 1000)
    return max(times)


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000, help="simulated pairs a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--power", action="store_true", help="the table of power, as Markdown")
    parser.add_argument("--smoke", action="store_true", help="few pairs; proves nothing")
    options = parser.parse_args(given)
    pairs = 100 if options.smoke else options.pairs
    if options.power or options.smoke:
        power(pairs, options.seed, _say)
    if options.power:
        return 0
    cells = list(_cells())
    if options.smoke:
        cells = cells[::7]  # some of each kind
    fine = truth(pairs, options.seed, _say, cells)
    _say(f"one call on 300 images: {call_ms():.0f} ms at most")
    return 0 if fine or options.smoke else 1


def _say(line: str) -> None:
    """At once: a whole run takes long."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

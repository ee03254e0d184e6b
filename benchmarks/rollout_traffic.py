"""Traffic for `benchmarks.rollout`, and tests of it that are looked at after every request.

    requests = draw(rng, 100_000, callers=5000, harm=Harm(latency=0.18))
    answered = requests.answered(candidates=1000)
    log_wealth(answered, "latency", 1000)           # (requests,)

Errors are of half a percent; latencies have a Pareto tail of no finite variance. Callers, where there are some, send
very unequally much (Zipf) and differ among themselves in all three metrics, more than versions do. On most requests
(`_COMMON`) two versions that are alike have the same latency and confidence; they fail on different ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.rollout.cells import CELLS, Floats, Metric, Sums
from serving.rollout.sequential import BETS

Ints = NDArray[np.int64]
Rng = np.random.Generator
Values = Mapping[Metric, Floats]

# From so many answers of each version on, somebody who looks at a z-test would.
_Z_FROM: Final = 100
_RECENTRED: Final = 1.1
_FIRST: Final = 50
_PARETO: Final = 1.1
# Share of the requests on which latency and confidence of two versions are alike.
_COMMON: Final = 0.7


@dataclass(frozen=True)
class Harm:
    """What the candidate adds: to the rate of errors, to log latency, and what it takes from confidence.

    Attributes:
        spread: times by which its latency and confidence vary more, about the same mean.
    """

    errors: float = 0.0
    latency: float = 0.0
    confidence: float = 0.0
    spread: float = 1.0


NONE: Final = Harm()


class Traffic(NamedTuple):
    """Requests in order: the cell of each, and what each metric is, more being worse; latency as a logarithm."""

    cells: Ints
    values: Values

    def part(self, start: int, end: int) -> "Traffic":
        """Some of them."""
        return Traffic(self.cells[start:end], {metric: values[start:end] for metric, values in self.values.items()})

    def sums(self, metric: Metric) -> Sums:
        """What `Cells.of` gives, but that a failed request has a latency and a confidence too."""
        n = np.bincount(self.cells, minlength=CELLS).astype(np.float64)
        return Sums(n, np.bincount(self.cells, self.values[metric], minlength=CELLS).astype(np.float64))


class Requests(NamedTuple):
    """What both versions would answer to each request."""

    cells: Ints
    champion: Values
    candidate: Values

    def answered(self, candidates: int, begins: int = 0) -> Traffic:
        """The first cells by the candidate, from request `begins` on; all others by the champion."""
        ours = (self.cells < candidates) & (np.arange(len(self.cells)) >= begins)
        values = {metric: np.where(ours, self.candidate[metric], of_champion) for metric, of_champion in _items(self)}
        return Traffic(self.cells, values)


def _items(requests: Requests) -> list[tuple[Metric, Floats]]:
    return list(requests.champion.items())


def draw(rng: Rng, requests: int, callers: int, harm: Harm = NONE) -> Requests:
    """Draw some traffic.

    Args:
        callers: 0: each request is a caller of its own.
    """
    if callers:
        weights = 1 / np.arange(1, callers + 1)
        who = rng.choice(callers, requests, p=weights / weights.sum())
        cells = rng.integers(0, CELLS, callers)[who]
        rate, slow = rng.beta(0.5, 100, callers)[who], rng.normal(0, 0.5, callers)[who]
        lost = rng.beta(2, 10, callers)[who]
    else:
        cells = rng.integers(0, CELLS, requests)
        rate, slow, lost = (np.full(requests, usual) for usual in (0.005, 0.0, 1 / 6))

    def noise() -> tuple[Floats, Floats]:
        """Of latency: the logarithm of 1 + Pareto of index 1.1, without finite variance. Of confidence: normal."""
        return np.log1p(rng.pareto(_PARETO, requests)) - 1 / _PARETO, rng.normal(0, 0.5, requests)

    def values(of: Harm, tail: Floats, doubt: Floats) -> Values:
        # The means stay, however much it varies.
        factor = np.exp(of.spread * doubt - (0.5 * of.spread) ** 2 / 2)
        latency = math.log(60) + slow + of.latency + of.spread * tail
        return {
            "errors": (rng.random(requests) < rate + of.errors).astype(np.float64),
            "latency": np.clip(latency, math.log(0.1), math.log(600_000)),
            "confidence": np.clip(lost * factor + of.confidence, 0.0, 1.0),
        }

    first, own = noise(), noise()
    same = rng.random(requests) < _COMMON
    second = [np.where(same, one, other) for one, other in zip(first, own, strict=True)]
    return Requests(cells, values(NONE, *first), values(harm, *second))


def log_wealth(drawn: Traffic, metric: Metric, candidates: int, habit: Floats | None = None) -> Floats:
    """`two_arms(…).log_evidence` after each request, (requests,).

    The common mean and what habits tell are computed anew whenever a tenth more has come in, not after each request.
    """
    cells, values = drawn.cells, drawn.values[metric]
    n, sums = np.zeros(CELLS), np.zeros(CELLS)
    found, at = np.empty(len(values)), 0
    while at < len(values):
        end = min(len(values), max(at + _FIRST, int(at * _RECENTRED)))
        piece = _Piece(cells[at:end], values[at:end], n, sums, candidates, habit)
        found[at:end] = piece.log_wealth(own_spread=metric != "errors")
        n += np.bincount(cells[at:end], minlength=CELLS)
        sums += np.bincount(cells[at:end], values[at:end], minlength=CELLS)
        at = end
    return found


class _Piece:
    """Requests during which the centre that values are counted from stays."""

    def __init__(
        self, cells: Ints, values: Floats, n: Floats, sums: Floats, candidates: int, habit: Floats | None
    ) -> None:
        """`n`, `sums`: of each cell before."""
        self._cells, self._candidates, self._share = cells, candidates, candidates / CELLS
        self._ours = cells < candidates
        centre = _centre(n, sums, habit) if n.any() else np.full(CELLS, values.mean())
        self._n, self._excess, self._x = n, sums - n * centre, values - centre[cells]
        self._order = np.argsort(cells, kind="stable")
        ordered = cells[self._order]
        first = np.r_[True, ordered[1:] != ordered[:-1]]
        self._first = first
        self._starts = np.maximum.accumulate(np.where(first, np.arange(len(cells)), 0))

    def log_wealth(self, own_spread: bool) -> Floats:
        """After each of the requests."""
        before, after = self._of_cell(self._x, self._excess)
        held = _expected(self._excess, self._share)
        expected = held.sum(axis=0) + np.cumsum(self._gained(_expected(after, self._share), held), axis=0)
        total = self._excess[: self._candidates].sum() + np.cumsum(np.where(self._ours, self._x, 0.0))
        log_e = total[:, None] * BETS - expected
        if own_spread:
            pooled = (self._excess**2).sum() + np.cumsum(after**2 - before**2)
            more = self._seen() - self._share * (1 - self._share) * pooled
            log_e -= BETS**2 / 2 * np.maximum(0.0, more)[:, None]
        wealth: Floats = np.logaddexp.reduce(log_e, axis=1) - math.log(len(BETS))
        return wealth

    def _gained(self, after: Floats, held: Floats) -> Floats:
        """What each request adds to what was expected: of its cell after it less the same before it.

        Args:
            after: (requests, bets).
            held: (CELLS, bets), before all of them.
        """
        ordered = after[self._order]
        before = np.roll(ordered, 1, axis=0)
        before[self._first] = held[self._cells[self._order][self._first]]
        gained = np.empty_like(after)
        gained[self._order] = ordered - before
        return gained

    def _of_cell(self, x: Floats, held: Floats) -> tuple[Floats, Floats]:
        """What the cell of each request holds before and after it."""
        ordered = x[self._order]
        running = np.cumsum(ordered)
        within = np.empty_like(x)
        within[self._order] = running - (running - ordered)[self._starts]
        after = held[self._cells] + within
        return after - x, after

    def _seen(self) -> Floats:
        """Variance of the candidate's sum as its own cells show it, after each request."""
        k, share, n, excess = self._candidates, self._share, self._n, self._excess
        ours, theirs = (excess[part].sum() / max(1.0, n[part].sum()) for part in (slice(k), slice(k, None)))
        rest = excess - n * np.where(np.arange(CELLS) < k, ours, theirs)
        before, after = self._of_cell(self._x - np.where(self._ours, ours, theirs), rest)
        weights = np.where(self._ours, (1 - share) ** 2, share**2)
        held = (1 - share) ** 2 * (rest[:k] ** 2).sum() + share**2 * (rest[k:] ** 2).sum()
        return np.asarray(held + np.cumsum(weights * (after**2 - before**2)), np.float64)


def _centre(n: Floats, sums: Floats, habit: Floats | None) -> Floats:
    """What a request of each cell is expected to be."""
    mean = sums.sum() / n.sum()
    if habit is None:
        return np.full(CELLS, mean)
    common = (n * habit).sum() / n.sum()
    usual = n * (habit - common)
    square = (usual**2).sum()
    told = min(1.0, max(0.0, ((sums - mean * n) * usual).sum() / square)) if square > 0 else 0.0
    return np.asarray(mean + told * (habit - common), np.float64)


def _expected(excess: Floats, share: float) -> Floats:
    return np.asarray(np.logaddexp(math.log1p(-share), math.log(share) + np.multiply.outer(excess, BETS)), np.float64)


def log_wealth_alone(drawn: Traffic, metric: Metric, candidates: int) -> Floats:
    """The same, but as if each request were a caller of its own."""
    values = drawn.values[metric]
    mean = (np.cumsum(values) - values) / np.maximum(1, np.arange(len(values)))
    mean[0] = values[:_FIRST].mean()
    x = values - mean
    total = np.cumsum(np.where(drawn.cells < candidates, x, 0.0))
    log_e = total[:, None] * BETS - np.cumsum(_expected(x, candidates / CELLS), axis=0)
    return np.asarray(np.logaddexp.reduce(log_e, axis=1) - math.log(len(BETS)), np.float64)


def z_scores(drawn: Traffic, metric: Metric, candidates: int) -> Floats:
    """Of Welch's test of the requests so far, after each request; 0 as long as there are few."""
    values, ours = drawn.values[metric], drawn.cells < candidates
    means, errors, counts = [], [], []
    for arm in (ours, ~ours):
        n = np.maximum(1, np.cumsum(arm))
        mean = np.cumsum(values * arm) / n
        means.append(mean)
        errors.append((np.cumsum(values**2 * arm) / n - mean**2) / n)
        counts.append(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (means[0] - means[1]) / np.sqrt(errors[0] + errors[1])
    return np.asarray(np.where(np.minimum(*counts) >= _Z_FROM, np.nan_to_num(z, posinf=0.0, neginf=0.0), 0.0))

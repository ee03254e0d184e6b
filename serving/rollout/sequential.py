"""Whether one version is worse than another, by tests that may be looked at after every request.

    found = two_arms(cells.of("errors"), candidate_cells(0.05), habits(before.of("errors")))
    found.log_evidence >= math.log(1 / alpha)       # harm: false in all but alpha of the cases, however often asked
    upper_bound(found, margin=0.01, reach=1.0, doubt=0.05) < 0.01       # no worse than that, likewise

The unit is the cell, a two-thousandth of the callers, and not the request: what one caller sends is alike (the same
microscope, the same image size), and a test that takes its requests for independent ones aborts good versions.

**Harm.** Were both versions alike, what a cell sent would have nothing to do with which version answers it: that is a
lot, drawn by the hash. With R the sum over a cell of what is above the common mean, p the share of the candidate, and Z
whether the candidate answers it, `E = Π exp(l Z R) / (1 - p + p exp(l R))` is then 1 on average, with any traffic: few
or heavy callers, rare errors and heavy tails included, because only the lot is drawn (Fisher, The Design of
Experiments, 1935). As requests come in, E is the wealth of somebody who bets on harm in a fair game, and by Ville's
inequality (1939) it ever reaches 1 / alpha with a chance of at most alpha. The average over several l (Robbins, Ann.
Math. Stat. 1970; Howard et al., Ann. Stat. 2021, section 3) needs no guess of how large the harm is. Exact is the
average of E at any one time, but for cells that are drawn without replacement, a matter of a two-thousandth; the bound
over all times is one in the limit of many requests (Waudby-Smith et al., Ann. Stat. 2024), where callers who come back
only make it safer, since what they send goes along with what they sent (Slepian, Bell Syst. Tech. J. 1962).
`benchmarks.rollout` measures it.

**No harm.** An upper bound of the difference of means, valid at any time in the same limit: the mixture boundary of
Howard et al. (section 3.2) with the variance of the cell-wise jackknife (Wolter, Introduction to Variance Estimation,
2007, ch. 4), Student's t for few cells, and room for a harm that lies in so few requests that none was seen yet.

**Habits.** What cells had sent before the canary began, answered by the champion alone, is taken off as far as it still
tells (Deng et al., WSDM 2013): callers differ more than versions do.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from serving.rollout.cells import CELLS, Floats, Sums

# From a harm that weighs nothing in single requests but in thousands of one caller's, to one that a few errors show.
BETS: Final[Floats] = 2.0 ** np.arange(-12.0, 3.0)
# A cell of as many earlier answers is believed half.
_HALF_BELIEVED: Final = 10.0
_FEWEST_FREEDOM: Final = 2.0


class Contrast(NamedTuple):
    """What two versions' answers show, candidate minus champion.

    Attributes:
        answers: of the candidate.
        callers: of its cells, how many sent something.
        difference: of the means; larger is worse.
        variance: of `difference`; infinite where there are too few cells to tell.
        freedom: degrees of freedom of `variance`.
        log_evidence: natural logarithm of E.
    """

    answers: int
    callers: int
    difference: float
    variance: float
    freedom: float
    log_evidence: float


_NOTHING: Final = Contrast(0, 0, 0.0, math.inf, _FEWEST_FREEDOM, 0.0)


def habits(before: Sums) -> Floats:
    """By how much each cell is above the common mean, judged by what it sent earlier; (CELLS,)."""
    n, sums = before
    mean = sums.sum() / max(1.0, n.sum())
    return np.asarray((sums - mean * n) / (n + _HALF_BELIEVED), np.float64)


def two_arms(data: Sums, candidates: int, habit: Floats | None = None, *, own_spread: bool = False) -> Contrast:
    """Compare the first cells, which the candidate answered, with the others.

    Args:
        data: what was answered while shares stayed as they are.
        candidates: how many cells are the candidate's; neither none nor all.
        habit: of `habits`.
        own_spread: what is asked about is the mean alone: a candidate that varies more is not taken for a worse one.
            False for errors, where more errors are more variance too.
    """
    n, excess = data[0], _excess(data, habit)
    of_candidate, of_champion = n[:candidates].sum(), n[candidates:].sum()
    if not of_candidate or not of_champion:
        return _NOTHING
    ours = _Arm(n[:candidates], excess[:candidates])
    theirs = _Arm(n[candidates:], excess[candidates:])
    share = candidates / CELLS
    log_e = BETS * ours.total - _expected(excess[n > 0], share)
    if own_spread:
        seen = (1 - share) ** 2 * ours.square + share**2 * theirs.square
        log_e = log_e - BETS**2 / 2 * max(0.0, seen - share * (1 - share) * float((excess**2).sum()))
    return Contrast(
        int(of_candidate),
        int(np.count_nonzero(n[:candidates])),
        ours.mean - theirs.mean,
        ours.variance + theirs.variance,
        _freedom((ours, theirs)),
        _average(log_e),
    )


def pairs(candidate: Sums, champion: Sums) -> Contrast:
    """Compare two versions that answered the same requests.

    Were they alike, either could have given either answer: the sign of each cell's difference is a lot then, and
    `E = Π exp(l D) / cosh(l D)` on average 1.
    """
    n, difference = candidate[0], candidate[1] - champion[1]
    if not n.sum():
        return _NOTHING
    arm = _Arm(n, difference)
    bets = np.multiply.outer(difference[n > 0], BETS)
    log_e = (bets - np.logaddexp(bets, -bets) + math.log(2)).sum(axis=0)
    return Contrast(int(n.sum()), arm.cells, arm.mean, arm.variance, _freedom((arm,)), _average(log_e))


def upper_bound(found: Contrast, margin: float, reach: float, doubt: float) -> float:
    """How much worse the candidate may be, at most; above the truth at all times together but for a chance of `doubt`.

    Args:
        margin: the bound is nearest when about as much as this is to be excluded.
        reach: what the most harmful request adds, in the unit of the metric.
        doubt: 0 to 1/2.
    """
    if not math.isfinite(found.variance):
        return math.inf
    # A harm of `margin` could lie in few requests, each of them as bad as can be. Such requests vary by at least this
    # much, even where none of them was seen yet.
    least = margin * reach / found.answers
    seen = _student(_boundary(found.variance, margin, doubt), found.freedom) * math.sqrt(found.variance)
    return found.difference + max(seen, _boundary(least, margin, doubt) * math.sqrt(least))


def _boundary(variance: float, margin: float, doubt: float) -> float:
    """How many standard errors a mean may ever be off, but for a chance of `doubt`."""
    if variance == 0:
        return 0.0
    information = margin**2 / variance
    return math.sqrt((1 + 1 / information) * 2 * math.log1p(math.sqrt(information + 1) / (2 * doubt)))


class _Arm:
    """The cells of one version.

    Attributes:
        total: sum over all requests.
        mean: of a request.
        variance: of the mean, by leaving out one cell after the other.
        square: sum of the squares of what the cells have above the mean.
        kurtosis: of what they add to `variance`.
    """

    def __init__(self, n: Floats, sums: Floats) -> None:
        n, sums = n[n > 0], sums[n > 0]
        self.cells = len(n)
        self.total = float(sums.sum())
        self.mean = self.total / float(n.sum())
        rest = sums - self.mean * n
        self.square = float((rest**2).sum())
        self.variance, self.kurtosis = math.inf, 1.0
        if self.cells > 1:
            left_out = rest / (1 - n / n.sum()) / n.sum()
            summed = float((left_out**2).sum())
            self.variance = summed * (self.cells - 1) / self.cells
            self.kurtosis = self.cells * float((left_out**4).sum()) / summed**2 if summed > 0 else 3.0

    @property
    def freedom(self) -> float:
        """Var(s²) ≈ s⁴ (kurtosis - 1) / n, and that of a multiple of chi² with f degrees of freedom is 2 s⁴ / f."""
        return min(max(2 * self.cells / max(self.kurtosis - 1, 1e-6), _FEWEST_FREEDOM), max(self.cells - 1.0, 1.0))


def _excess(data: Sums, habit: Floats | None) -> Floats:
    """What each cell has above the common mean, and above its own habit as far as habits still tell; (CELLS,)."""
    n, sums = data
    total = max(1.0, n.sum())
    excess: Floats = sums - sums.sum() / total * n
    if habit is None:
        return excess
    usual = n * (habit - (n * habit).sum() / total)
    square = (usual**2).sum()
    told = min(1.0, max(0.0, (excess * usual).sum() / square)) if square > 0 else 0.0
    return np.asarray(excess - told * usual, np.float64)


def _expected(excess: Floats, share: float) -> Floats:
    """The logarithm of what each bet gains on average, (bets,), were the cells drawn anew with that share."""
    bets = np.multiply.outer(excess, BETS)
    expected: Floats = np.logaddexp(math.log1p(-share), math.log(share) + bets).sum(axis=0)
    return expected


def _average(log_e: Floats) -> float:
    """Logarithm of the mean over the bets."""
    return float(np.logaddexp.reduce(log_e) - math.log(len(log_e)))


def _freedom(arms: tuple[_Arm, ...]) -> float:
    """Of a sum of variances (Satterthwaite, Biometrics 1946)."""
    total = sum(arm.variance for arm in arms)
    if not 0 < total < math.inf:
        return _FEWEST_FREEDOM if total else min(arm.freedom for arm in arms)
    return float(total**2 / sum(arm.variance**2 / arm.freedom for arm in arms))


def _student(z: float, freedom: float) -> float:
    """The quantile of Student's t that is as rare as z is of the normal; infinite where the series fails."""
    if freedom < _FEWEST_FREEDOM:
        return math.inf
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))

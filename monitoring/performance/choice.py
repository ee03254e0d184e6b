"""Which images to label: some at random, the others uncertain, far from the reference and unlike each other.

    chosen = choose(confidence, boundary, distance, points, n=50, random_share=0.3, seed=0)
    chosen[0].place, chosen[0].source, chosen[0].probability

Greedy choices of the most uncertain or of a k-center cover (Sener & Savarese 2018, arXiv 1708.00489) give every image a
probability of 0 or 1, and labels of such a choice say nothing of the others. Here each image has a known probability
that rises with its worth, and the local pivotal method (Grafström, Lundström & Schelin, Spatially balanced sampling
through the pivotal method, Biometrics 68, 2012) draws by it: neighbours in embedding space compete with each other, so
that those who win are spread as a cover is, and every probability holds exactly.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from records.picks import PickSource

Numbers = NDArray[np.float64]

# The worth of an image is a mean of ranks, 0 to 1; its probability goes with this power: at the top it is 64 times that
# in the middle, and the mean rank of what is chosen is 0.88 where it is 0.5 at random.
_POWER: Final = 6
_EPSILON: Final = 1e-9
_DRAWS: Final = 200


@dataclass(frozen=True)
class Chosen:
    """An image that was chosen.

    Attributes:
        place: among the candidates.
        source: audit if it was drawn uniformly at random, else picked.
        probability: of being chosen at all.
        why: in words.
    """

    place: int
    source: PickSource
    probability: float
    why: str


def choose(
    confidence: Numbers,
    boundary: Numbers,
    distance: Numbers,
    points: NDArray[np.float32],
    *,
    n: int,
    random_share: float,
    seed: int,
    fresh: NDArray[np.bool_] | None = None,
    radius: float = float("nan"),
) -> list[Chosen]:
    """Choose from N candidates; all of them where there are no more than `n`.

    Args:
        confidence: (N,) expected Dice, 0 to 1; nan where it is not known, as in what follows.
        boundary: (N,) boundary uncertainty.
        distance: (N,) to the nearest reference image.
        points: (N, d) embeddings to spread in.
        n: how many.
        random_share: of them, drawn uniformly at random from all candidates.
        seed: of the draws.
        fresh: (N,) whether an image may be chosen for its worth; None: all. Where such are fewer than `n`, all are
            drawn at random.
        radius: distance that 99 % of the reference keep, for the words.

    Returns:
        The random ones first, each part by its worth.
    """
    size = confidence.size
    if size <= n:
        return [Chosen(place, "audit", 1.0, "all that is kept") for place in range(size)]
    rng = np.random.default_rng(seed)
    eligible = np.ones(size, np.bool_) if fresh is None else fresh
    at_random = max(1, round(n * random_share)) if random_share > 0 else 0
    if eligible.sum() < n:
        at_random = n
    wanted = n - at_random
    unsure, far = worths(confidence, boundary, distance)
    sizes = np.where(np.isnan(far), unsure, (unsure + far) / 2) ** _POWER
    probability = probabilities(np.where(eligible, sizes, 0.0), at_random, wanted, np.random.default_rng([seed, 2]))
    audit = rng.choice(size, at_random, replace=False)
    pool = np.setdiff1d(np.flatnonzero(eligible), audit)
    picked = pool[spread_sample(inclusion(sizes[pool], wanted), points[pool], rng)]
    audit, picked = audit[np.argsort(-sizes[audit], kind="stable")], picked[np.argsort(-sizes[picked], kind="stable")]

    def why(place: int) -> str:
        if not np.isnan(far[place]) and far[place] > unsure[place]:
            times = distance[place] / radius
            return "far from the reference" + (f": {times:.2g} x its 99 % distance" if np.isfinite(times) else "")
        return f"uncertain: expected Dice {confidence[place]:.2f}"

    random = [Chosen(int(one), "audit", float(probability[one]), "drawn at random") for one in audit]
    return random + [Chosen(int(one), "picked", float(probability[one]), why(int(one))) for one in picked]


def probabilities(sizes: Numbers, at_random: int, wanted: int, rng: np.random.Generator) -> Numbers:
    """Of being chosen at all: drawn at random, or picked from those that are left.

    Who is drawn at random leaves its part to the others, so what an image is picked with depends on that draw a little:
    the mean over _DRAWS such draws is taken.

    Args:
        sizes: (N,), what probabilities of being picked are proportional to; 0: cannot be picked.
        at_random, wanted: how many are drawn in each way.
    """
    count = sizes.size
    sums, times = np.zeros(count), np.zeros(count)
    for _ in range(_DRAWS):
        left = np.ones(count, np.bool_)
        left[rng.choice(count, at_random, replace=False)] = False
        open_ = left & (sizes > 0)
        sums[open_] += inclusion(sizes[open_], wanted)
        times += left
    share = at_random / count
    return np.asarray(np.minimum(1.0, share + (1 - share) * sums / np.maximum(times, 1)))


def worths(confidence: Numbers, boundary: Numbers, distance: Numbers) -> tuple[Numbers, Numbers]:
    """Ranks among the candidates, above 0 and up to 1: of uncertainty, and of distance (nan where unknown)."""
    uncertain = np.nanmean([_ranks(-confidence), _ranks(boundary)], axis=0) if confidence.size else confidence
    return np.where(np.isnan(uncertain), 0.5, uncertain), _ranks(distance)


def _ranks(values: Numbers) -> Numbers:
    """Equal values have equal ranks; nan stays so."""
    from scipy.stats import rankdata

    known = np.isfinite(values)
    ranks = np.full(values.size, np.nan)
    if known.any():
        ranks[known] = rankdata(values[known]) / known.sum()
    return ranks


def inclusion(sizes: Numbers, n: int) -> Numbers:
    """Probabilities proportional to sizes that add up to n, none above 1 (Tillé, Sampling Algorithms, 2006, 2.10).

    Args:
        sizes: (N,), not negative, at least n of them above 0.
        n: how many are drawn.
    """
    chances = np.zeros(sizes.size)
    sure = np.zeros(sizes.size, np.bool_)
    while n > sure.sum():
        left = ~sure
        chances[left] = (n - sure.sum()) * sizes[left] / sizes[left].sum()
        more = left & (chances >= 1 - _EPSILON)
        if not more.any():
            break
        sure |= more
        chances[sure] = 1.0
    return chances


def spread_sample(chances: Numbers, points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw by probabilities so that neighbours are seldom drawn together: the local pivotal method 2.

    Args:
        chances: (N,), 0 to 1; their sum is how many are drawn.
        points: (N, d); nan counts as the middle.

    Returns:
        Places, rising.
    """
    left = chances.astype(np.float64).copy()
    undecided = np.flatnonzero((left > _EPSILON) & (left < 1 - _EPSILON))
    near = np.nan_to_num(points[undecided].astype(np.float32))
    count = undecided.size
    while count > 1:
        one = int(rng.integers(count))
        gaps = ((near[:count] - near[one]) ** 2).sum(axis=1)
        gaps[one] = np.inf
        ties = np.flatnonzero(gaps <= gaps.min())
        other = int(ties[rng.integers(ties.size)])
        here, there = undecided[one], undecided[other]
        left[here], left[there] = _duel(left[here], left[there], rng)
        # Who is decided makes room for the last one.
        for place in sorted((one, other), reverse=True):
            if not _EPSILON < left[undecided[place]] < 1 - _EPSILON:
                count -= 1
                undecided[place], near[place] = undecided[count], near[count]
    for last in undecided[:count]:
        left[last] = float(rng.random() < left[last])
    return np.flatnonzero(left > 0.5)


def _duel(one: float, other: float, rng: np.random.Generator) -> tuple[float, float]:
    """One of two is decided; both keep their probability on average."""
    both = one + other
    if both < 1:
        return (both, 0.0) if rng.random() * both < one else (0.0, both)
    return (1.0, both - 1) if rng.random() * (2 - both) < 1 - other else (both - 1, 1.0)

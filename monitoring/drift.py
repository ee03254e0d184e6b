"""What is compared to tell drift, the rule for an alarm, and what comes out.

    families = [Family("input", columns, train, live), Family("prediction", …, points=(held_out, live_embeddings))]
    drift = judge(families, Rule(alpha=0.01))           # monitoring.judge
    drift.verdict, drift.p_value, drift.columns[0].column

A *family* is what is compared with one reference: descriptors of images with the training images, those of predictions
with held-out ones, since a network remembers what it was trained on. In each, one permutation test
(`monitoring.statistics`) asks several questions at once:

- gaps: has any one descriptor another distribution?
- shift: have all together another mean?
- strangers: are there a few images like none of the reference?
- energy, of embeddings: have they another distribution?

A window has drifted when an answer is as unlikely as the *level* allows, and its effect is worth an alarm; or when its
images are at fault (`monitoring.quality`). The level is
alpha, shared between the families, and less in large windows (`monitoring.judge.level`). Effects are gaps between two
cumulative distributions, 0 to 1; of strangers, the share of images that are further from the reference than all but 1 %
of the reference itself.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from monitoring.quality import Finding
from monitoring.statistics.relabelling import Floats

Verdict = Literal["no drift", "drift", "too few rows"]
Side = Literal["input", "prediction"]
# (R,) and (L,): of one descriptor, reference and live.
Values = tuple[Floats, Floats]


# How a reason begins not to compare with a reference of too few groups.
FEW_GROUPS: Final = "the reference is of"


@dataclass(frozen=True)
class Family:
    """What is compared with one reference.

    Attributes:
        side: "input": descriptors of images; "prediction": of masks.
        columns: D descriptors.
        reference, live: (R, D) and (L, D), finite.
        points: embeddings (R, E) and (L, E) of the same images.
        clusters: (R,) and (L,), images of the same number belong together; None: each stands alone.
        names: (R,) and (L,), by which an image is found: the reference's files, the answers of the window.
    """

    side: Side
    columns: tuple[str, ...]
    reference: Floats
    live: Floats
    points: tuple[Floats, Floats] | None = None
    clusters: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    names: tuple[NDArray[np.str_], NDArray[np.str_]] | None = None

    @property
    def values(self) -> dict[str, Values]:
        """Each descriptor on both sides."""
        return {name: (self.reference[:, n], self.live[:, n]) for n, name in enumerate(self.columns)}


@dataclass(frozen=True)
class Rule:
    """What is worth an alarm.

    Attributes:
        alpha: share of windows without drift that may raise one.
        min_effect: smallest gap between two cumulative distributions, 0 to 1.
        min_share: smallest share of images unlike any of the reference.
        seed: of the permutations, and of the sample where there are many images.
    """

    alpha: float = 0.01
    min_effect: float = 0.1
    min_share: float = 0.02
    seed: int = 0


@dataclass(frozen=True)
class LeftOut:
    """A descriptor that could not be compared, and why."""

    column: str
    reason: str


@dataclass(frozen=True)
class ColumnDrift:
    """How far one descriptor has moved.

    Attributes:
        p_value: adjusted for all descriptors and tests of its family.
        effect: the largest gap between the cumulative distributions, 0 (the same) to 1 (no overlap).
        shift: (live mean − reference mean) / reference standard deviation; None for a constant reference.
        reference_mean, live_mean, reference_std: in the descriptor's own unit.
        reference_rows, live_rows: values compared.
    """

    column: str
    side: Side
    p_value: float
    effect: float
    shift: float | None
    reference_mean: float
    live_mean: float
    reference_std: float
    reference_rows: int
    live_rows: int
    moved: bool


@dataclass(frozen=True)
class TestResult:
    """One question's answer: `p_value` is adjusted within its family, `level` what it has to keep to."""

    __test__ = False  # no test of pytest's

    side: Side
    name: str
    p_value: float
    effect: float
    level: float
    alarm: bool


@dataclass(frozen=True)
class Drift:
    """The verdict on a window; `columns` is ranked, what moved most comes first."""

    verdict: Verdict
    rule: Rule
    columns: tuple[ColumnDrift, ...] = ()
    tests: tuple[TestResult, ...] = ()
    quality: tuple[Finding, ...] = ()

    @property
    def p_value(self) -> float | None:
        """Of the window as a whole: the chance of so unlikely an answer without drift, at most."""
        if not self.tests:
            return None
        return min(1.0, min(test.p_value * self.rule.alpha / test.level for test in self.tests))

    @property
    def moved(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.columns if column.moved)

    @property
    def alarms(self) -> tuple[TestResult, ...]:
        return tuple(test for test in self.tests if test.alarm)

    @property
    def faults(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.quality if finding.alarm)

    @property
    def share_drifted(self) -> float:
        return len(self.moved) / len(self.columns) if self.columns else 0.0

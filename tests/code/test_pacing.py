"""How long a run is, when it validates, and how it plans what is left of its time."""

from dataclasses import dataclass, field

import pytest

from pipelines.training.pacing import Pacer
from pipelines.training.settings import FitSettings

SPE = 48  # steps an epoch


def _pacer(**settings: object) -> Pacer:
    return Pacer(FitSettings.checked(**settings), SPE)


def _evaluated(pacer: Pacer) -> list[int]:
    return [step for step in range(1, pacer.schedule.total + 1) if pacer.evaluation_due(step)]


@dataclass
class Played:
    """A run of steps and validations that take as long as it is told."""

    seconds: float = 0.0
    steps: int = 0
    rates: list[float] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    knots: int = 0


def _play(
    minutes: float,
    *,
    step: float,
    evaluation: float = 0.0,
    first_steps: float = 1.0,
    estimate: float | None = None,
    **settings: object,
) -> Played:
    """Play a run in the order of `fit`; the first two steps take `first_steps` times as long as the rest."""
    pacer, run = _pacer(max_minutes=minutes, **settings), Played()
    pacer.estimated(evaluation if estimate is None else estimate)
    stopped = False
    while not stopped:
        run.rates.append(pacer.schedule.learning_rate(run.steps, 1.0))
        run.steps += 1
        took = step * (first_steps if run.steps <= 2 else 1)
        run.seconds += took
        pacer.stepped(took)
        stopped = pacer.finished(run.steps) or pacer.out_of_time(run.seconds)
        validated = stopped or pacer.evaluation_due(run.steps)
        if validated:
            run.evaluated.append(run.steps)
            run.seconds += evaluation
            pacer.evaluated(run.steps, evaluation)
        if not stopped and not pacer.plan(run.steps, run.seconds, validated):
            stopped = True
            if not validated:
                run.evaluated.append(run.steps)
                run.seconds += evaluation
    run.knots = len(pacer.schedule.knots)
    return run


@pytest.mark.parametrize(
    ("settings", "limit", "length"),
    [
        ({}, 100 * SPE, "100 epochs"),
        ({"epochs": 7}, 7 * SPE, "7 epochs"),
        ({"max_steps": 300}, 300, "300 steps"),
        ({"max_steps": 300, "epochs": 2}, 2 * SPE, "2 epochs or 300 steps, whichever is first"),
        ({"max_minutes": 45}, None, "45 minutes"),
        ({"max_minutes": 45, "epochs": 7}, 7 * SPE, "7 epochs or 45 minutes, whichever is first"),
        ({"schedule": "0:0,30:0.5*,60:1*", "max_steps": 40}, 40, "the 40 steps of a schedule"),
    ],
)
def test_a_run_is_as_long_as_it_was_told_and_says_so(
    settings: dict[str, object], limit: int | None, length: str
) -> None:
    told = FitSettings.checked(**settings)
    assert told.step_limit(SPE) == limit
    assert told.length == length


def test_epochs_that_nobody_asked_for_do_not_end_a_run_before_its_time() -> None:
    run = _play(120, step=0.1)
    assert run.steps > 60_000 and 0.98 * 7200 < run.seconds < 7200 + 1
    capped = _play(120, step=0.1, epochs=5)
    assert capped.steps == 5 * SPE
    assert max(capped.rates) > 0.95 and capped.rates[-1] < 0.05


def test_a_run_of_steps_validates_as_often_as_one_of_epochs() -> None:
    assert _evaluated(_pacer(max_steps=300)) == [25, 50, 75, 100, 125, 150, 175, 200, 225, 250, 275, 300]
    assert _evaluated(_pacer(epochs=4, evaluations=4)) == [48, 96, 144, 192]
    assert len(_evaluated(_pacer(epochs=100))) == 12


def test_a_short_run_does_not_spend_its_time_on_validation() -> None:
    assert _evaluated(_pacer(max_steps=45)) == [22, 45]
    assert _evaluated(_pacer(max_steps=1)) == [1]
    assert len(_evaluated(Pacer(FitSettings.checked(epochs=12), 5))) == 12


def test_a_replayed_schedule_validates_where_the_run_did() -> None:
    pacer = _pacer(max_steps=300)
    again = _pacer(schedule=str(pacer.schedule))
    assert again.schedule == pacer.schedule and _evaluated(again) == _evaluated(pacer)


@pytest.mark.parametrize(("seconds", "first_steps"), [(6, 1), (15, 1), (15, 3), (30, 1), (30, 5)])
def test_a_time_limit_of_few_steps_is_used_for_learning(seconds: float, first_steps: float) -> None:
    run = _play(seconds / 60, step=1.0, evaluation=0.5, first_steps=first_steps)
    assert run.steps >= seconds - 2 * (first_steps - 1) - 2
    assert max(run.rates) > 0.5 and run.rates[-1] < 0.3
    assert sum(rate > 0.1 for rate in run.rates) > 0.5 * run.steps - 2
    assert run.seconds <= seconds + 1.5


def test_validation_that_takes_most_of_the_time_leaves_some_for_steps() -> None:
    half = _play(1, step=0.2, evaluation=30)
    assert half.evaluated == [half.steps] and half.steps > 140 and half.seconds < 61
    more = _play(1, step=0.2, evaluation=90)
    assert more.steps >= 0.25 * 60 / 0.2 - 1 and more.evaluated == [more.steps]


def test_an_estimate_that_was_far_off_is_forgotten_after_the_first_validation() -> None:
    run = _play(10, step=0.2, evaluation=1.0, estimate=0.01)
    assert 10 <= len(run.evaluated) <= 13 and run.seconds < 602


@pytest.mark.parametrize("minutes", [2, 10, 45])
def test_a_run_limited_by_time_warms_up_slowly_and_ends_in_time(minutes: float) -> None:
    run = _play(minutes, step=0.15, evaluation=2.0, first_steps=4)
    assert 0.97 * 60 * minutes < run.seconds <= 60 * minutes + 1
    assert 2 <= len(run.evaluated) <= 13
    top = run.rates.index(max(run.rates))
    assert 0.02 < top / run.steps < 0.06 and run.rates[-1] < 0.03
    assert run.knots < 60


def test_what_does_not_touch_the_weights_does_not_part_a_run_from_its_checkpoint() -> None:
    deciding = FitSettings.checked().deciding()
    assert FitSettings.checked(memory_budget_mb=1, workers=7, epochs=100).deciding() == deciding
    for name, value in {"patience": 3, "crop": 32, "learning_rate": 1e-4, "epochs": 7, "max_minutes": 1}.items():
        assert FitSettings.checked(**{name: value}).deciding() != deciding, name

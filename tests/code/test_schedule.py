"""The plan of a training run: progress, learning rate, and repeating it from its knots."""

import pytest

from pipelines.training.schedule import Knot, Schedule
from resunet.errors import SettingsError


def test_progress_rises_from_zero_to_one() -> None:
    schedule = Schedule.of_steps(200)
    assert schedule.progress(0) == 0
    assert schedule.progress(100) == pytest.approx(0.5)
    assert schedule.progress(200) == 1


def test_learning_rate_warms_up_peaks_and_ends_near_zero() -> None:
    schedule = Schedule.of_steps(1000)
    rates = [schedule.learning_rate(step, 1.0) for step in range(1000)]
    assert 0 < rates[0] < rates[10] < rates[29]
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates.index(max(rates)) == pytest.approx(30, abs=1)
    assert rates[-1] < 0.02


def test_a_new_plan_keeps_the_past_and_reaches_one() -> None:
    schedule = Schedule.of_steps(1000)
    before = [schedule.progress(step) for step in range(101)]
    planned = schedule.replan(100, remaining=300)
    assert [planned.progress(step) for step in range(101)] == pytest.approx(before)
    assert planned.total == 400
    assert planned.progress(250) == pytest.approx(0.55)


def test_knots_read_back_exactly_as_written() -> None:
    schedule = Schedule((Knot(0, 0.0), Knot(7, 1 / 3, True), Knot(9, 2e-05 + 1 / 3), Knot(20, 1.0, True)))
    assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize("text", ["", "1:0,2:1", "0:0", "0:0,5:0.5", "0:0,5:x", "0:0,5:0.9,4:1", "0:0,5:1,9:0.5"])
def test_a_schedule_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="schedule"):
        Schedule.parse(text)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 30])
def test_a_short_run_never_exceeds_the_peak(steps: int) -> None:
    schedule = Schedule.of_steps(steps)
    assert all(schedule.learning_rate(step, 1.0) <= 1.0 for step in range(steps))

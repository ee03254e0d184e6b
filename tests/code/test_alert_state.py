"""The life of an alert, mark by mark."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts.state import Course, Episode, Lasting, Mark, Rule, damped, walk

T = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
TWO = Rule(Lasting(windows=2), Lasting(windows=2), timedelta(hours=100))
MINUTES = Rule(Lasting(time=timedelta(minutes=30)), Lasting(time=timedelta(minutes=15)))

SIGNS = {"-": False, "+": True, "?": None}


def marks(signs: str, every: timedelta = HOUR) -> list[Mark]:
    """One an hour: - bad, + good, ? nothing can be told."""
    return [Mark(T + number * every, SIGNS[sign], sign) for number, sign in enumerate(signs)]


def status(signs: str, rule: Rule = TWO, every: timedelta = HOUR) -> str:
    return walk(Course(), marks(signs, every), rule).end.status


def test_it_is_quiet_then_pending_then_firing_then_quiet() -> None:
    assert [status(signs) for signs in ("+", "-", "--", "--+", "--++")] == [
        "quiet", "pending", "firing", "firing", "quiet",
    ]  # fmt: skip


def test_one_good_mark_breaks_what_is_pending_and_one_bad_mark_what_recovers() -> None:
    assert status("-+-") == "pending"
    assert status("--+-+") == "firing"
    assert status("--+-++") == "quiet"


def test_what_cannot_be_told_neither_breaks_a_row_nor_lengthens_it() -> None:
    assert status("-?") == "pending" and status("-?-") == "firing"
    assert status("--+?") == "firing" and status("--+?+") == "quiet"


def test_time_counts_from_the_first_mark_of_a_row() -> None:
    ten = timedelta(minutes=10)
    assert status("---", MINUTES, ten) == "pending" and status("----", MINUTES, ten) == "firing"
    assert status("----++", MINUTES, ten) == "firing" and status("----+++", MINUTES, ten) == "quiet"


def test_an_episode_knows_when_it_began_fired_and_ended() -> None:
    assert walk(Course(), marks("+--++-"), TWO).episodes == (Episode(T + HOUR, T + 2 * HOUR, T + 4 * HOUR),)


def test_each_time_that_it_fired_of_late_doubles_the_way_back_up_to_eight_times() -> None:
    course, ways = Course(), list[int]()
    for number in range(6):
        begin = T + number * timedelta(hours=30)
        bad = [Mark(begin + hour * HOUR, False, "") for hour in (0, 1)]
        course = walk(course, bad, Rule(TWO.fire, TWO.recover, timedelta(days=30))).end
        ways.append(damped(course, TWO).windows)
        good = [Mark(begin + (2 + hour) * HOUR, True, "") for hour in range(ways[-1])]
        course = walk(course, good, TWO).end
        assert course.status == "quiet"
    assert ways == [2, 4, 8, 16, 16, 16]


def test_what_a_course_has_seen_does_not_count_again() -> None:
    once = walk(Course(), marks("-"), TWO).end
    assert walk(once, marks("-"), TWO).end == once


def test_a_course_is_read_as_it_was_written() -> None:
    course = walk(Course(), marks("+--+"), TWO).end
    assert course.fired is not None and course.good_from is not None
    assert Course.from_json(course.to_json()) == course
    assert Course.from_json(Course().to_json()) == Course()


@settings(deadline=None, max_examples=200)
@given(st.text("+-?", max_size=40), st.integers(0, 40), st.integers(0, 6))
def test_looking_often_comes_to_the_same_as_looking_once(signs: str, cut: int, kept_open: int) -> None:
    everything = marks(signs)
    first = walk(Course(), everything[:cut], TWO, kept_open)
    then = walk(first.settled, everything, TWO, kept_open)
    assert then.end == walk(Course(), everything, TWO, kept_open).end

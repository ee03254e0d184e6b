"""How lengths of time and moments are read."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from monitoring.cli import app
from monitoring.window import Window, parse_duration, parse_end, parse_moment
from resunet.errors import SettingsError

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        (" 24H ", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("3650d", timedelta(days=3650)),
    ],
)
def test_a_length_of_time_is_read(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "24", "h", "0h", "-1h", "1.5h", "1h30m", "24 h", "１h", "3651d", "9" * 40 + "d"])
def test_another_length_of_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match=r"30m, 24h or 7d|at most 3650d"):
        parse_duration(text)


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own clock is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    "text", ["2026-03-02T12:00:00Z", "2026-03-02T12:00", "2026-03-02T14:00+02:00", "2026-03-02 12:00:00"]
)
def test_a_moment_is_read_as_utc(text: str, far_east: None) -> None:
    assert parse_moment(text) == datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_another_moment_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="2026-03-01T12:00:00Z"):
        parse_moment(text)


def test_a_window_ends_where_it_is_told() -> None:
    window = Window.ending(parse_moment("2026-03-02T14:00+02:00"), parse_duration("24h"))
    assert str(window) == "2026-03-01 12:00 to 2026-03-02 12:00 UTC"


def test_a_window_before_the_calendar_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot end at"):
        Window.ending(parse_moment("0002-01-01"), parse_duration("3650d"))


@pytest.mark.parametrize("later", [timedelta(days=-400), timedelta(0), timedelta(seconds=60)])
def test_a_window_that_is_over_can_be_asked_for(later: timedelta) -> None:
    assert parse_end((NOW + later).isoformat(), NOW) == NOW + later


@pytest.mark.parametrize("text", ["2026-03-02T12:01:01Z", "2026-03-02T21:30", "2099-01-01T00:00:00+00:00"])
def test_an_end_in_the_future_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is in the future.*leave --until out"):
        parse_end(text, NOW)


@pytest.mark.parametrize("command", ["report", "trend"])
def test_no_command_looks_at_a_window_that_is_not_over(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.cli._stop_politely", lambda: None)
    done = CliRunner().invoke(app, [command, "--until", "2999-01-01"])
    assert isinstance(done.exception, SettingsError) and "is in the future" in str(done.exception)

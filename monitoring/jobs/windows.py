"""When a window of live rows is closed, reported, and reported again: what was, and a moment, in; what to do, out.

    rules = Rules.of(length=parse_duration("24h"))
    closed = newly_closed(cursor, now, rules)           # windows that are over now, and those nobody will report
    waiting(known, now, rules), to_count(known, now, rules), revised(window, count, rules)

Windows lie end to end on UTC: an hour's begin at the full hour, a day's at midnight, a week's on Monday. A row belongs
to the window of its event time, whenever it arrives. A window is closed a watermark after its end, because rows reach
the database some seconds late, and is then reported once. Rows that come after the close are counted by one more report
of their window, which replaces the first: once, when the window has grown by more than `grown`, and has stopped growing
(two looks in a row count the same), so that what comes in a trickle is not missed. A few rows among thousands change no
verdict, while each further test of a window may raise a false alarm: hence the share, and once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from monitoring.window import Window, last_end
from records.watch.windows import ClosedWindow
from resunet.errors import SettingsError

_DAY: Final = timedelta(days=1)
# After so many failures a window waits behind the others: it may be the one that cannot be reported.
_STUBBORN: Final = 3


@dataclass(frozen=True)
class Rules:
    """When windows are reported.

    Attributes:
        length: of a window.
        every: from one window's end to the next one's; shorter than `length`, they overlap.
        watermark: from a window's end to its close.
        back: windows that ended longer ago are not reported any more.
        grown: share of a window's rows that has to come late for it to be reported again.
    """

    length: timedelta
    every: timedelta
    watermark: timedelta = timedelta(minutes=10)
    back: timedelta = timedelta(days=7)
    grown: float = 0.05

    @classmethod
    def of(
        cls,
        length: timedelta,
        every: timedelta | None = None,
        watermark: timedelta = timedelta(minutes=10),
        back: timedelta = timedelta(days=7),
    ) -> "Rules":
        """Rules that make sense together.

        Raises:
            SettingsError: the windows would not lie on hours or days of UTC.
        """
        every = every or length
        if not _fits(every):
            raise SettingsError(
                f"windows of {every} do not lie on UTC hours or days: choose a length that divides a day, such as 1h, "
                "6h or 24h, or whole days"
            )
        if length % every:
            raise SettingsError(
                f"windows of {length} cannot end every {every}: --window has to be a multiple of --every"
            )
        return cls(length, every, watermark, max(back, length))


@dataclass(frozen=True)
class Closed:
    """What closed.

    Attributes:
        windows: that are to be reported, the oldest first.
        until: all windows that end here or before are closed.
        skipped: the stretch of those that ended too long ago to be reported; None: there are none.
    """

    windows: tuple[Window, ...]
    until: datetime
    skipped: Window | None = None


def newly_closed(cursor: datetime | None, now: datetime, rules: Rules) -> Closed:
    """Tell which windows closed since the last look.

    Args:
        cursor: end of the last closed window; None at the very first look, which takes the newest window alone.
    """
    last = last_end(now - rules.watermark, rules.every)
    if cursor is None or cursor > last:
        return Closed((_ending(last, rules),) if cursor is None else (), cursor or last)
    first = last_end(cursor, rules.every) + rules.every
    oldest = last_end(now - rules.back, rules.every) + rules.every
    kept = tuple(_ending(end, rules) for end in _ends(max(first, oldest), last, rules))
    lost = Window(first - rules.length, oldest - rules.every) if first < oldest else None
    return Closed(kept, last, lost)


def waiting(known: Sequence[ClosedWindow], now: datetime, rules: Rules) -> list[ClosedWindow]:
    """The windows that are to be reported, in order: the oldest first, those that fail again and again last."""
    found = [one for one in known if one.reported is None and not one.skipped and not _too_old(one, now, rules)]
    return sorted(found, key=_turn)


def given_up(known: Sequence[ClosedWindow], now: datetime, rules: Rules) -> list[ClosedWindow]:
    """The windows that could not be reported until they were too old."""
    return [one for one in known if one.reported is None and not one.skipped and _too_old(one, now, rules)]


def to_count(known: Sequence[ClosedWindow], now: datetime, rules: Rules) -> list[ClosedWindow]:
    """The reported windows whose rows are to be counted again, in the same order.

    The older a window, the more seldom: after a tenth of its age, so that the looks at a week of them cost little.
    """
    due = [one for one in known if (moment := _next_look(one, now, rules)) is not None and moment <= now]
    return sorted(due, key=_turn)


def revised(window: ClosedWindow, count: int, rules: Rules) -> bool:
    """Whether a window is to be reported again, now that so many rows were counted."""
    had = window.rows or 0
    return count - had > rules.grown * had and count == window.seen


def next_moment(known: Sequence[ClosedWindow], now: datetime, rules: Rules) -> datetime:
    """When the next window is to be reported that is known by now: at once, or when it closes."""
    if waiting(known, now, rules):
        return now
    return last_end(now - rules.watermark, rules.every) + rules.every + rules.watermark


def next_look(known: Sequence[ClosedWindow], now: datetime, rules: Rules) -> datetime | None:
    """When rows are to be counted again; None: never."""
    return min(filter(None, (_next_look(one, now, rules) for one in known)), default=None)


def _next_look(one: ClosedWindow, now: datetime, rules: Rules) -> datetime | None:
    if one.reported is None or one.revisions:
        return None
    looked = one.looked or one.reported
    moment = looked + max(rules.watermark, (looked - one.window_end) / 10)
    return None if _too_old(one, max(moment, now), rules) else moment


def _turn(one: ClosedWindow) -> tuple[int, datetime]:
    return one.attempts // _STUBBORN, one.window_end


def _too_old(one: ClosedWindow, now: datetime, rules: Rules) -> bool:
    return now - one.window_end >= rules.back


def _fits(every: timedelta) -> bool:
    return not _DAY % every or not every % _DAY


def _ending(end: datetime, rules: Rules) -> Window:
    return Window(end - rules.length, end)


def _ends(first: datetime, last: datetime, rules: Rules) -> list[datetime]:
    return (
        [first + number * rules.every for number in range((last - first) // rules.every + 1)] if first <= last else []
    )

"""How many alarms a schedule may raise in a month without any drift, in words.

alarms_a_month(Rules.of(parse_duration("24h")), alpha=0.01)
"""

from datetime import timedelta
from typing import Final

from monitoring.jobs.windows import Rules

MONTH: Final = timedelta(days=30)
# Of a trend over 28 windows, looked at once a day with the default of `python -m monitoring trend`: simulated, for days
# that are independent of each other.
TRENDS_A_MONTH: Final = 0.05


def alarms_a_month(rules: Rules, alpha: float) -> str:
    """The expected number, at most: of verdicts the sum of their rates, whether or not windows overlap."""
    windows = MONTH / rules.every
    overlap = ", in rows, since windows overlap" if rules.every < rules.length else ""
    alarms = _short(alpha * windows)
    return (
        f"without drift, on average at most {alarms} of a month's {windows:,.0f} windows are called drift "
        f"(--alpha {alpha:g}){overlap}, and {TRENDS_A_MONTH:g} trends"
    )


def _short(number: float) -> str:
    """Two digits behind the first that is not 0, and no exponent."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.3g}"

"""What clocks of several machines may disagree about."""

from datetime import timedelta
from typing import Final

# By which the clock of another machine may be ahead: what is further ahead is no mistake of a clock.
CLOCKS_DIFFER: Final = timedelta(minutes=1)

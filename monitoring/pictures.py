"""What the pictures that go out with alerts are called: an alert about a run has the one of its run."""

from typing import Final

DRIFT_PICTURE: Final = "drift.png"
TREND_PICTURE: Final = "trend.png"
# Of no run: drawn when an alert on measured Dice is sent.
DICE_PICTURE: Final = "dice.png"
PICTURES: Final = (DRIFT_PICTURE, TREND_PICTURE)

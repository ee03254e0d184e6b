"""What the pictures in monitoring's MLflow runs are called: an alert about a run goes out with the one that it has."""

from typing import Final

DRIFT_PICTURE: Final = "drift.png"
TREND_PICTURE: Final = "trend.png"
PICTURES: Final = (DRIFT_PICTURE, TREND_PICTURE)

"""The picture of an alert on measured Dice: no report has one, so it is drawn of the labels when it is sent.

    with Drawing(engine, policies) as drawing:
        drawing.of(message)     # a PNG that lasts as long as `drawing` is open; None: there is nothing to draw

It holds means and intervals, and no image.
"""

import logging
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from monitoring.alerts.policy import Policy
from monitoring.alerts.scratch import Scratch
from monitoring.pictures import DICE_PICTURE
from monitoring.window import Window, span
from records.watch.alerts import Alert, read_alerts
from records.watch.measured import read_dice
from records.watch.outbox import Waiting

_log = logging.getLogger(__name__)


class Drawing(Scratch):
    """Draws once for all who are told the same of an alert.

    Args:
        policies: those that hold; what was queued by another one goes out without a picture.
    """

    def __init__(self, engine: Engine, policies: Sequence[Policy]) -> None:
        super().__init__()
        self._engine = engine
        self._settings = {policy.name: policy.when.measured_dice for policy in policies}
        self._alerts: dict[int | None, Alert] | None = None
        self._drawn = dict[tuple[int, datetime], Path | None]()
        self._one_at_a_time = threading.Lock()

    def of(self, message: Waiting) -> Path | None:
        """The picture of the labels that a message was made from, as they are now; from any thread."""
        if not any(self._settings.values()):
            return None
        key = message.alert_id, message.made
        with self._one_at_a_time:
            if key not in self._drawn:
                try:
                    self._drawn[key] = self._draw(message)
                except Exception as error:
                    # The words are worth sending all the same.
                    _log.warning("the picture of %s could not be drawn: %s", message.subject, error)
                    self._drawn[key] = None
            return self._drawn[key]

    def _draw(self, message: Waiting) -> Path | None:
        if self._alerts is None:
            self._alerts = {alert.id: alert for alert in read_alerts(self._engine)}
        alert = self._alerts.get(message.alert_id)
        settings = self._settings.get(alert.policy) if alert is not None else None
        if alert is None or settings is None:
            return None
        window = Window.ending(message.made, settings.over)
        found = read_dice(self._engine, alert.model_name, window.start, window.end)
        if alert.model_version not in {one.version for one in found.course}:
            return None
        path = self._new_folder() / DICE_PICTURE
        # Matplotlib takes a second to import, and most messages need none of it.
        from monitoring.dice_figure import draw_dice

        draw_dice(found, alert.model_version, below=settings.below, title=_title(alert, window), path=path)
        return path


def _title(alert: Alert, window: Window) -> str:
    length, end = span(window.end - window.start), f"{window.end:%Y-%m-%d %H:%M}"
    return (
        f"{alert.model_name} version {alert.model_version}: Dice by labels of random audits, {length} until {end} UTC"
    )

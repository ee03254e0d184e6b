"""What an alert's messages say: plain text that reads well in a mail and in a chat.

subject(change.alert, "firing")     # [resunet] input-drift, resunet version 7: it began
body(change, number=12)
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from monitoring.alerts.decide import Change
from monitoring.alerts.state import Lasting
from monitoring.window import span
from records.texts import one_line as one_line
from records.watch.alerts import Alert
from records.watch.alerts import about as about
from records.watch.outbox import Event

_BEGINS: Final[dict[Event, str]] = {
    "firing": "ALERT",
    "repeat": "STILL",
    "recovered": "RECOVERED",
    "withdrawn": "WITHDRAWN",
    "passed": "PASSED",
    "ended": "CLOSED",
    "retrained": "RETRAINED",
}


def subject(alert: Alert, event: Event) -> str:
    """One line, the most important words first."""
    return f"[resunet] {_BEGINS[event]} {alert.policy}: {about(alert)}"


def body(change: Change, event: Event, number: int, now: datetime, more: Sequence[str] = ()) -> str:
    """What happened, since when, the figures, and what to do; the link to the report is added when it is sent.

    Args:
        number: of the alert, for `alerts acknowledge`.
        more: lines on what else is done about it.
    """
    alert = change.alert
    lines = [_happened(change, event), ""]
    if event in ("firing", "repeat", "passed") or (event == "ended" and alert.summary):
        lines += [one_line(line) for line in alert.details]
    elif alert.summary:
        lines.append(f"it was: {one_line(alert.summary)}")
    lines += [f"looked at: {one_line(alert.subject)}", _when(change, event, now)]
    if event in ("recovered", "withdrawn", "ended") and change.before.acknowledged_by:
        lines.append(_acknowledged(change.before))
    lines += ["", f"policy {alert.policy}, severity {alert.severity}, alert {number}"]
    if event in ("firing", "repeat"):
        lines.append(f"recovery is told after {_lasting(change.recovery)}{_damping(change)}")
        lines += more
        lines.append(f'seen to: python -m monitoring alerts acknowledge {number} --reason "…" stops the repetition')
    return "\n".join(lines)


def moment(at: datetime) -> str:
    """A time for people."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def lasted(length: timedelta) -> str:
    """A length of time for people, in its largest unit that says enough."""
    minutes = max(0, round(length.total_seconds() / 60))
    if minutes < 120:
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 60 / 24:.0f} days"


def _happened(change: Change, event: Event) -> str:
    said, was = one_line(change.said), one_line(change.alert.summary)
    if event == "firing":
        return was
    if event == "repeat":
        return f"{was} (told again: it has not recovered)"
    if event == "recovered":
        return f"it is good again: {said}" if said else "it is good again"
    if event == "withdrawn":
        return f"what this was told for has been reported on again since, and is good: {said}"
    if event == "passed":
        return f"while nobody looked it was bad, and is good again: {was}"
    return f"it is not looked at any more, and was bad to the last: {was}"


def _when(change: Change, event: Event, now: datetime) -> str:
    episode = change.episode
    since = change.alert.since or (episode.since if episode else None) or change.before.since or now
    if event in ("firing", "repeat"):
        return f"since {moment(since)} ({lasted(now - since)})"
    since = episode.since if episode is not None else change.before.since or since
    until = (episode.ended if episode else None) or now
    return f"from {moment(since)} to {moment(until)} ({lasted(until - since)})"


def _acknowledged(alert: Alert) -> str:
    return f"acknowledged by {one_line(alert.acknowledged_by or '')}: {one_line(alert.acknowledged_reason or '')}"


def _lasting(lasting: Lasting) -> str:
    if lasting.time:
        return f"{span(lasting.time)} without it"
    return f"{lasting.windows} good windows in a row" if lasting.windows > 1 else "one good window"


def _damping(change: Change) -> str:
    return f"; it has fired {change.fired_lately} times of late, so it takes longer" if change.fired_lately > 1 else ""

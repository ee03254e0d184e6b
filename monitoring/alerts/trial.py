"""`alerts test`: a message to everybody who would be told, and who of them took it.

told = trial(Recipients(os.environ), ["default", "oncall"], datetime.now(UTC))
told.all_took_it, told.lines
"""

import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from monitoring.alerts.recipients import Recipients, variable
from monitoring.alerts.words import moment
from records.notify import Message


@dataclass(frozen=True)
class Trial:
    """What came of it, in sentences."""

    all_took_it: bool
    lines: tuple[str, ...]


def trial(recipients: Recipients, names: Sequence[str], now: datetime) -> Trial:
    """Send to each address at the same time, and wait for all of them."""
    places = recipients.places(names)
    if not places:
        variables = ", ".join(dict.fromkeys(variable(name) for name in names))
        return Trial(False, (f"there is nobody to tell: set {variables} to Apprise addresses",))
    message = Message(
        "[resunet] TEST: alerts reach you",
        f"Somebody tried `python -m monitoring alerts test` on {platform.node()} at {moment(now)}.\n\n"
        "Alerts of the model's monitoring come this way. There is nothing to do.",
    )
    with ThreadPoolExecutor(max_workers=len(places)) as senders:
        took = list(senders.map(lambda place: recipients.tell(place, message), places))
    lines = [f"delivered to {sum(took)} of {len(places)} addresses"]
    for place, well in zip(places, took, strict=True):
        if not well:
            said = recipients.described(place)
            lines.append(said if said.endswith("not set") else f"{said} is away, or takes no message")
    return Trial(all(took), tuple(lines))

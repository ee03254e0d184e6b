"""Telling people of decisions: what is said, and how urgent it is; `records.notify` sends it.

    tell = notifier(RegistrySettings.load())
    tell(Told("promote", "resunet", "7", "Staging", "Production", "ada", "new stain"))     # returns at once

A message goes out after the decision is made and written down.
"""

from typing import Final

from records.notify import DEADLINE_SECONDS, Message, Messenger, NotifySettings
from registry.changes import Notify, Told
from registry.history import OVERRIDDEN, REFUSED

_TITLE_LETTERS: Final = 200


def notifier(settings: NotifySettings, deadline_s: float = DEADLINE_SECONDS) -> Notify:
    """What is told of each decision. It neither waits nor raises.

    Args:
        settings: names the addresses; without any nobody is told.
        deadline_s: seconds after which a message counts as lost.
    """
    messenger = Messenger(settings.notify.get_secret_value(), deadline_s)
    return lambda told: messenger.tell(_message(told))


def _message(told: Told) -> Message:
    kind: Final = "warning" if told.action == OVERRIDDEN else "failure" if told.action == REFUSED else "info"
    return Message(subject(told), body(told), kind, lost="The decision stands; it was")


def subject(told: Told) -> str:
    """One line on a decision; it begins with OVERRIDE where somebody went past gates that block."""
    line = f"{told.model} version {told.version}, {told.from_stage} → {told.to_stage}, by {told.actor}"
    begins = "OVERRIDE" if told.action == OVERRIDDEN else f"[resunet] {told.action}"
    return " ".join(f"{begins}: {line}".split())[:_TITLE_LETTERS]


def body(told: Told) -> str:
    """All that is known of a decision."""
    lines = [
        f"what:   {told.action}",
        f"model:  {told.model} version {told.version}",
        f"stage:  {told.from_stage} → {told.to_stage}",
        f"who:    {told.actor}",
        f"reason: {told.reason or 'none given'}",
    ]
    if told.action == OVERRIDDEN:
        lines.insert(0, "Gates blocked this version, and somebody let it past them.\n")
    return "\n".join(lines)

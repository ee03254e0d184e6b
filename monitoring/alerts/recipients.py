"""Who is told: a policy has names, the environment has the Apprise addresses, and neither shows the other's.

RESUNET_NOTIFY=mailto://…                 # the name `default`
RESUNET_NOTIFY_ONCALL=slack://…,json://…  # the name `oncall`

recipients = Recipients(os.environ)
recipients.places(["default", "oncall"])        # (("default", 1), ("oncall", 1), ("oncall", 2))
recipients.tell(("oncall", 2), message)         # waits; True: it took the message
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from monitoring.alerts.policy import DEFAULT_RECIPIENT
from records.environment import PREFIX, EnvironmentSettings
from records.notify import DEADLINE_SECONDS, Message, Messenger

Place = tuple[str, int]

_VARIABLE: Final = f"{PREFIX}NOTIFY"


class AlertSettings(EnvironmentSettings):
    """Settings of alerts, from `RESUNET_MONITORING_*` environment variables."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}MONITORING_")

    alerts: Path | None = Field(
        default=None, description="file of alert policies; unset: those that come with the platform"
    )


class Recipients:
    """The addresses that an environment has.

    Args:
        environment: variables by name.
        deadline_s: seconds after which an address counts as away.
    """

    def __init__(self, environment: Mapping[str, str], deadline_s: float = DEADLINE_SECONDS) -> None:
        self._environment = environment
        self._deadline_s = deadline_s
        self._messengers = dict[str, Messenger]()

    def places(self, names: Iterable[str]) -> tuple[Place, ...]:
        """Each address of some names. A name without any has a first one, that takes nothing; `default` has none."""
        found = list[Place]()
        for name in dict.fromkeys(names):
            count = self._messenger(name).count
            if count == 0 and name != DEFAULT_RECIPIENT:
                count = 1
            found += [(name, number) for number in range(1, count + 1)]
        return tuple(found)

    def tell(self, place: Place, message: Message) -> bool:
        """Send a message to one address and wait for what comes of it."""
        name, number = place
        return number in self._messenger(name).deliver(message, {number})

    def described(self, place: Place) -> str:
        """An address for people: which of which variable, never what it holds."""
        name, number = place
        count = self._messenger(name).count
        return f"{variable(name)} is not set" if count == 0 else f"address {number} of {count} in {variable(name)}"

    def _messenger(self, name: str) -> Messenger:
        if name not in self._messengers:
            addresses = self._environment.get(variable(name), "")
            self._messengers[name] = Messenger(addresses, self._deadline_s, variable(name))
        return self._messengers[name]


def variable(name: str) -> str:
    """The environment variable that has a name's addresses."""
    return _VARIABLE if name == DEFAULT_RECIPIENT else f"{_VARIABLE}_{name.upper()}"

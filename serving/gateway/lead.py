"""Who leads a gateway, however many processes answer: one follows the registry, one the rollout.

lead = Lead(settings, serving, json_log)
process = Process(settings, serving, lead, needs_keys)      # or Workers, which pass on what their processes ask
lead.over(process, ends)
lead.look(wait=False)                           # what it finds serves when it returns
lead.start()
"""

import logging
from contextlib import ExitStack
from typing import Any, Final, Protocol

from records.notify import Message, Messenger, NotifySettings, finish
from records.settings import RecordsSettings
from resunet.errors import StoreError
from serving.gateway.cache import VersionCache
from serving.gateway.owner import Health, Owner, OwnerSettings, Replicas, Verb
from serving.gateway.releases import Registry
from serving.gateway.rollouts.crew import Answering, Crew
from serving.gateway.rollouts.director import Director
from serving.gateway.rollouts.promotion import Promotion
from serving.gateway.rollouts.shadow import Shadow
from serving.gateway.rollouts.standing import Standing
from serving.gateway.settings import GatewaySettings
from serving.rollout.file import RolloutFile
from serving.rollout.policy import PolicyFile
from serving.settings import ServingSettings

_NOTHING: Final = Health("down", None, (), 0)
_log = logging.getLogger(__name__)


class Led(Answering, Replicas, Protocol):
    """The processes that answer, one or many."""


class Lead:
    """Of one gateway; what is asked before `over` is answered as by a gateway that has nothing yet.

    Args:
        settings: of the gateway.
        serving: of the versions that answer.
        json_log: the log is for machines.

    Raises:
        SettingsError: the place that is followed, the candidate's or the policy makes no sense.
    """

    def __init__(self, settings: GatewaySettings, serving: ServingSettings, json_log: bool) -> None:
        self._settings, self._serving, self._json_log = settings, serving, json_log
        self._place = Registry(settings.model)
        self._stage = self._place.staging(settings.candidate)
        self._policy = PolicyFile(settings.rollout_policy)
        self._owner: Owner | None = None
        self._director: Director | None = None

    def over(self, led: Led, ends: ExitStack) -> None:
        """Lead these processes, until the stack ends."""
        settings, home = self._settings, RecordsSettings.load().home.absolute() / "gateway"
        messenger = Messenger(NotifySettings.load().notify.get_secret_value())
        ends.callback(finish)

        def alert(subject: str, body: str) -> None:
            messenger.tell(Message(subject, body, "failure"))

        cache = VersionCache(home / "versions", self._serving.trust)
        how = OwnerSettings(settings.poll_seconds, settings.stop_when_archived, settings.keep_versions)
        owner = Owner(self._place, cache, led, how, alert)
        director = Director(
            Standing(self._stage, cache),
            Crew(led, Shadow(self._serving, settings.shadow_threads, self._json_log), Promotion(self._place.name)),
            lambda: owner.health().serving,
            RolloutFile(home / "rollout.json"),
            self._policy,
            alert,
            settings.poll_seconds,
        )
        self._owner, self._director = owner, director
        for end in (owner.stop, director.stop):
            ends.callback(end)

    def look(self, wait: bool) -> None:
        """See what is live, and have it answer.

        Args:
            wait: come up although nothing is live yet.

        Raises:
            StoreError: nothing is live, or the registry is away, and nothing served here before.
        """
        owner, _ = self._leaders()
        owner.look()
        health = owner.health()
        if health.serving is None and not wait:
            raise StoreError(
                f"nothing can be served: {'; '.join(health.troubles)}. Promote a version, mend the cause, or come up "
                "without one with --wait"
            )
        _log.info("%s answers", health.serving or "no version yet")

    def start(self) -> None:
        """From now on by itself."""
        for leader in self._leaders():
            leader.start()

    def health(self) -> Health:
        """How it stands; never waits."""
        if self._owner is None or self._director is None:
            return _NOTHING
        return self._owner.health().beside(self._director.brief, self._director.troubles)

    def announce(self) -> None:
        """Look at the registry at once."""
        self._leaders()[0].announce()

    def order(self, verb: Verb, who: str, reason: str) -> dict[str, Any]:
        """As of `Director.order`."""
        return self._leaders()[1].order(verb, who, reason)

    def _leaders(self) -> tuple[Owner, Director]:
        assert self._owner is not None and self._director is not None, "nothing answers yet"
        return self._owner, self._director

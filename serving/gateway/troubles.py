"""What is wrong with a gateway, in a sentence for each cause, and what somebody was told of.

troubles = Troubles(tell, time.monotonic)
troubles.say("release", "version 7 cannot be fetched", about=release, after=60)     # told when it lasts a minute
troubles.say("release", "version 7 must not serve", about=release)                  # told at once; again: nothing
troubles.over("release")
troubles.sentences
"""

import logging
from collections.abc import Callable, Hashable

_log = logging.getLogger(__name__)


class Troubles:
    """Sentences by their cause; said by one thread at a time, read by any.

    Args:
        tell: brings a sentence to somebody.
        clock: of seconds.
    """

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._tell, self._clock = tell, clock
        self._sentences: dict[str, str] = {}
        self._since: dict[str, tuple[Hashable, float]] = {}
        self._told: dict[str, Hashable] = {}

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that is wrong now."""
        return tuple(self._sentences.values())

    def say(self, cause: str, sentence: str, about: Hashable, after: float | None = 0.0) -> None:
        """Something is wrong; somebody is told of it once, until it is over or something else was told of its cause.

        Args:
            cause: of which there is one sentence at a time.
            sentence: may differ from time to time.
            about: what is the same as long as nobody has to be told again.
            after: how long it has to last until somebody is told, in seconds; None: nobody ever is.
        """
        if self._sentences.get(cause) != sentence:
            _log.warning("%s", sentence)
        self._sentences[cause] = sentence
        now = self._clock()
        said, since = self._since.get(cause, (None, now))
        if said != about:
            since = now
        self._since[cause] = about, since
        if after is not None and now - since >= after and self._told.get(cause) != about:
            self._told[cause] = about
            self._tell(sentence)

    def over(self, cause: str) -> None:
        """It is no longer wrong."""
        for kept in (self._sentences, self._since, self._told):
            kept.pop(cause, None)

"""What stands in the candidate's stage, looked up beside the rollout, so that a registry that hangs stops nothing.

standing = Standing(stage, shelf)
standing.look("8")                  # slow: asks the registry, fetches what is new
standing.known, standing.release    # of the last look that had an answer
standing.version_of(release)        # number and digest
"""

import logging
from pathlib import Path
from typing import Final

from resunet.errors import StoreError, VersionError
from serving.gateway.releases import Release
from serving.gateway.rollouts.crew import Shelf, Stage
from serving.identity import verified_identity
from serving.pyfunc import VERSION_ARTIFACT
from serving.rollout.state import Version

_PRODUCTION: Final = "Production"
_PURPOSE: Final = "candidate"
_log = logging.getLogger(__name__)


class Standing:
    """Of one stage. `look` is for one thread at a time; the rest may be read from any.

    Attributes:
        known: whether the last look had an answer.
        release: that stands there; None: none does.
        version: its number and digest.
    """

    def __init__(self, stage: Stage, shelf: Shelf) -> None:
        self._stage, self._shelf = stage, shelf
        self._versions: dict[Release, Version] = {}
        self.known = False
        self.release: Release | None = None
        self.version: Version | None = None

    @property
    def uri(self) -> str:
        """Of the stage."""
        return self._stage.uri

    @property
    def name(self) -> str:
        """Of the model."""
        return self._stage.name

    def look(self, candidate: str | None = None) -> None:
        """Ask the registry.

        Args:
            candidate: number of the version that is being rolled out: on its way to Production it stands in neither
                stage for a moment, which says nothing.
        """
        try:
            release = self._stage.live()
            if release is None and candidate and self._stage.stage_of(self.name, candidate) == _PRODUCTION:
                self.known = False
                return
            version = None if release is None else self._version_or_wreck(release)
        except StoreError as error:
            if self.known:
                _log.warning("what stands at %s is not known now: %s", self.uri, error)
            self.known = False
            return
        self.release, self.version, self.known = release, version, True

    def ask(self) -> Version | None:
        """The version that stands there now, for whoever can wait; None: none does.

        Raises:
            StoreError, VersionError: it cannot be found out, or its files are not what they were.
        """
        release = self._stage.live()
        version = None if release is None else self.version_of(release)
        self.release, self.version, self.known = release, version, True
        return version

    def version_of(self, release: Release) -> Version:
        """Number and digest of a release, whose files are fetched for that.

        Raises:
            StoreError, VersionError: they cannot be fetched, or are not what they were.
        """
        if release not in self._versions:
            root = self._shelf.fetch(release) / "artifacts" / VERSION_ARTIFACT
            self._versions[release] = Version(release.version, verified_identity(root).digest)
        return self._versions[release]

    def folder_of(self, version: Version) -> Path:
        """Where the files of the version are that stands there; they are kept until `let_go`.

        Raises:
            StoreError: another one does, or it is not known.
        """
        release = self.release
        if not self.known or release is None or self.version != version:
            raise StoreError(f"version {version.number} is not seen at {self.uri} now")
        self._shelf.pin(_PURPOSE, self._shelf.fetch(release))
        # Another gateway may have deleted it in between; from here on none does.
        return self._shelf.fetch(release)

    def let_go(self) -> None:
        """The files are needed no longer."""
        self._shelf.unpin(_PURPOSE)

    def _version_or_wreck(self, release: Release) -> Version:
        """Of files that are not what they were a version that is like no other."""
        try:
            return self.version_of(release)
        except VersionError as error:
            _log.warning("%s: %s", release, error)
            return Version(release.version, f"unusable since {release.registered_ms}")

"""What the registry says is live.

registry = Registry("models:/resunet/Production")
release = registry.live()           # None: nothing stands there
release.uri                         # models:/resunet/7: the version, whatever happens to the stage meanwhile
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.entities.model_registry.model_version_stages import ALL_STAGES, get_canonical_stage
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import _parse_model_uri

from records.tracking_file import why_not_opened
from resunet.errors import SettingsError, StoreError
from serving.fetch import fail_soon

# No such model or version; no such alias.
_NOT_THERE: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
# A poll that hangs is a poll that is missed: the next one comes in seconds.
_TIMEOUT_SECONDS: Final = "10"


@dataclass(frozen=True)
class Release:
    """A registered version; numbers start again when a model is made anew, so the time of registration counts too.

    Attributes:
        registered_ms: since 1970.
    """

    name: str
    version: str
    registered_ms: int

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    def __str__(self) -> str:
        return f"version {self.version} of {self.name}"


class Registry:
    """One place of MLflow's registry, at MLFLOW_TRACKING_URI (or MLFLOW_REGISTRY_URI).

    Args:
        uri: `models:/<name>/<stage or version>` or `models:/<name>@<alias>`.

    Raises:
        SettingsError: it is nothing of that kind.
    """

    def __init__(self, uri: str) -> None:
        fail_soon()
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_SECONDS)
        try:
            parsed = _parse_model_uri(uri)
        except MlflowException as error:
            raise _unusable(uri) from error
        stages = {stage.lower() for stage in ALL_STAGES}
        if not parsed.name or (parsed.stage is not None and parsed.stage.lower() not in stages):
            raise _unusable(uri)
        self.name: str = parsed.name
        self.stage: str | None = parsed.stage
        # However the stage is spelt, it is one place.
        self.uri = uri if parsed.stage is None else f"models:/{parsed.name}/{get_canonical_stage(parsed.stage)}"
        self._version, self._alias = parsed.version, parsed.alias

    @cached_property
    def _client(self) -> MlflowClient:
        return MlflowClient()

    def staging(self, candidate: str = "") -> "Registry":
        """Where a version stands that is to follow; candidate: where else, empty: Staging of the same model.

        Raises:
            SettingsError: it is nothing of that kind.
        """
        return Registry(candidate or f"models:/{self.name}/Staging")

    def live(self) -> Release | None:
        """The version that stands there now: with several in a stage the highest number, as for `mlflow models serve`.

        Raises:
            StoreError: the registry does not answer.
        """
        found = self._asked(self._found)
        return None if found is None else Release(self.name, str(found.version), int(found.creation_timestamp))

    def stage_of(self, name: str, version: str) -> str | None:
        """Where a version stands; None: there is no such version.

        Raises:
            StoreError: the registry does not answer.
        """
        found = self._asked(lambda: self._client.get_model_version(name, version))
        return None if found is None else str(found.current_stage)

    def _asked(self, question: Callable[[], ModelVersion | None]) -> ModelVersion | None:
        """What the registry says; None: there is no such thing."""
        if reason := why_not_opened(mlflow.get_registry_uri()):
            raise StoreError(f"the registry that MLFLOW_TRACKING_URI names cannot be read: {reason}")
        try:
            return question()
        except MlflowException as error:
            if error.error_code in _NOT_THERE:
                return None
            raise StoreError(f"the registry does not answer ({error.error_code})") from error
        except Exception as error:
            # Address, certificate, proxy: each has an exception of its own.
            raise StoreError(f"the registry does not answer ({type(error).__name__})") from error

    def _found(self) -> ModelVersion | None:
        if self._version is not None:
            return self._client.get_model_version(self.name, self._version)
        if self._alias is not None:
            return self._client.get_model_version_by_alias(self.name, self._alias)
        # Below the client: there it warns at every look that stages are deprecated, which is why it is looked here.
        registry = self._client._get_registry_client()
        found = registry.get_latest_versions(self.name, None if self.stage is None else [self.stage])
        return max(found, key=lambda version: int(version.version), default=None)


def _unusable(uri: str) -> SettingsError:
    return SettingsError(
        f"{uri!r} is no place in the registry: write models:/<name>/Production, models:/<name>@<alias> or "
        "models:/<name>/<version>"
    )

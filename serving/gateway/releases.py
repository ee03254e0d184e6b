"""What the registry says is live.

registry = Registry("models:/resunet/Production")
release = registry.live()           # None: nothing stands there
release.uri                         # models:/resunet/7: the version, whatever happens to the stage meanwhile
"""

import os
from dataclasses import dataclass
from typing import Final

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import _parse_model_uri, get_model_name_and_version

from resunet.errors import SettingsError, StoreError
from serving.fetch import fail_soon

_NOT_THERE: Final = "RESOURCE_DOES_NOT_EXIST"
_NOTHING_LIVE: Final = "INVALID_PARAMETER_VALUE"
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
        self.uri = uri
        try:
            parsed = _parse_model_uri(uri)
        except MlflowException as error:
            raise _unusable(uri) from error
        if not parsed.name:
            raise _unusable(uri)
        self.name: str = parsed.name
        self.stage: str | None = parsed.stage
        self._client = MlflowClient()

    def live(self) -> Release | None:
        """The version that stands there now: with several in a stage the highest number, as for `mlflow models serve`.

        Raises:
            StoreError: the registry does not answer.
        """
        try:
            name, number = get_model_name_and_version(self._client, self.uri)
            found = self._client.get_model_version(name, number)
        except MlflowException as error:
            if error.error_code in (_NOT_THERE, _NOTHING_LIVE):
                return None
            raise StoreError(f"the registry does not answer ({error.error_code})") from error
        except Exception as error:
            # Address, certificate, proxy: each has an exception of its own.
            raise StoreError(f"the registry does not answer ({type(error).__name__})") from error
        return Release(name, str(found.version), int(found.creation_timestamp))


def _unusable(uri: str) -> SettingsError:
    return SettingsError(
        f"{uri!r} is no place in the registry: write models:/<name>/Production, models:/<name>@<alias> or "
        "models:/<name>/<version>"
    )

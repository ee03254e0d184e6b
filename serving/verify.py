"""A registered version's files, fetched and believed before MLflow builds an environment out of them, and then served.

    with verified_copy("models:/resunet/Production", trust) as version:
        code = serve(version.root, ["--port", "5000"])

`mlflow models serve` installs what the version's requirements name, and imports the version's code, before that code
can look at itself. Here a program from outside looks first: every file against the version's list, and the list against
a signature that is trusted. MLflow then gets that very copy, which nobody else can write.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from records.digests import verify_digests
from records.signing import verify
from records.trust import Trust
from resunet.errors import SettingsError, StoreError, VersionError
from serving.identity import Identity, read_note

_REGISTERED: Final = re.compile(r"models:/[^/@]+(/[^/@]+|@[^/@]+)")
# What MLflow's registry says of a wrong name; what an artifact store says may hold a signed URL.
_WRONG_NAME: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


@dataclass(frozen=True)
class VerifiedVersion:
    """A version whose files are those that somebody who is trusted signed.

    Attributes:
        root: the model's folder, a private copy.
        signer: who signed.
    """

    root: Path
    identity: Identity
    signer: str


@contextmanager
def verified_copy(uri: str, trust: Trust | None) -> Iterator[VerifiedVersion]:
    """Fetch a version and check it; nothing of it is run. The copy is gone when the block ends.

    Args:
        uri: `models:/<name>/<stage or version>` or `models:/<name>@<alias>`, at MLFLOW_TRACKING_URI.
        trust: who has to have signed it.

    Raises:
        SettingsError: nobody is trusted, what is trusted cannot be read, or there is no such version.
        StoreError: the files cannot be fetched now, or Sigstore cannot be reached.
        VersionError: a file was changed, is missing or not listed, or nobody who is trusted signed; it is named.
    """
    if trust is None:
        raise SettingsError(
            "nobody is trusted, so nothing can be verified: set RESUNET_TRUSTED_KEY to the public key of who signs "
            "versions"
        )
    if not _REGISTERED.fullmatch(uri):
        raise SettingsError(f"{uri!r} is no registered version: write models:/<name>/<stage or version>")
    with tempfile.TemporaryDirectory(prefix="resunet-verified-") as folder:
        root = _fetch(uri, Path(folder))
        try:
            digest = verify_digests(root)
            signer = verify(root, trust)
        except VersionError as error:
            raise VersionError(f"{_named(uri, root)} is not served: {error}") from error
        note = read_note(root)
        yield VerifiedVersion(root, Identity(str(note["model_name"]), str(note["model_version"]), digest), signer)


def _fetch(uri: str, folder: Path) -> Path:
    # MLflow's own default waits minutes before it says that a server is not there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        root = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except MlflowException as error:
        if error.error_code in _WRONG_NAME:
            raise SettingsError(f"{uri} cannot be served: {error.message}") from error
        raise _away(uri, error) from error
    except Exception as error:
        # Each kind of artifact store has a library of its own, with errors of its own.
        raise _away(uri, error) from error
    if not read_note(root):
        raise VersionError(f"{uri} is not served: it holds no MLmodel at its root, so it is no model")
    return root


def _away(uri: str, error: Exception) -> StoreError:
    return StoreError(
        f"the files of {uri} cannot be fetched ({type(error).__name__}): see that MLFLOW_TRACKING_URI is right, that "
        "the tracking server and its artifact store answer, and that there is space for temporary files"
    )


def _named(uri: str, root: Path) -> str:
    note = read_note(root)
    return f"{uri} (version {note['model_version']} of {note['model_name']})"

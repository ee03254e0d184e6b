"""Fetching a version's files to look at them; what goes wrong on the way is no finding about the version.

with download(client, "resunet", "3") as root:
    facts = read_facts("3", root, settings.trust)      # what is wrong with them is a finding
with checked_download(client, "resunet", "3", settings.trust) as root:
    ...                                                 # an error
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from records.signing import verify_files
from records.trust import Trust
from resunet.errors import StoreError, VersionError

# MLflow gathers the failures of its threads in one text, so text is all there is to tell them apart by.
_CAUSES = (
    (
        r"Errno 28\b|No space left|Errno 122\b|[Qq]uota exceeded",
        "the disk of the folder for temporary files is full: free some space or set TMPDIR, and try again",
    ),
    (
        r"Errno 13\b|Errno 1\b|[Pp]ermission denied|\b40[13]\b|Forbidden|Unauthorized|AccessDenied",
        "access is denied: check the rights on the artifact store and on the folder for temporary files, and try again",
    ),
    (
        r"\b404\b|Not Found|Errno 2\b|No such file|No such artifact|does not exist|DOES_NOT_EXIST|NoSuchKey",
        "they are not in the artifact store: bring them back from a backup and try again, or take another version",
    ),
    (
        r"Connection|[Tt]imed? ?out|Max retries|\b50[0-4]\b|resolve",
        "the artifact store does not answer: see that it is up, and try again",
    ),
)
_UNKNOWN = "see that the artifact store is up and that there is space for temporary files, and try again"


@contextmanager
def download(client: MlflowClient, name: str, version: str) -> Iterator[Path]:
    """Download a version's model; the folder is gone when the block ends.

    Raises:
        StoreError: it could not be fetched or, later in the block, not be read.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="resunet-version-"))
            source = client.get_model_version_download_uri(name, version)
            root = Path(download_artifacts(source, dst_path=folder, tracking_uri=client.tracking_uri))
        except Exception as error:
            # Each kind of artifact store has a library of its own, with errors of its own.
            raise _store_error(name, version, error) from error
        try:
            yield root
        except OSError as error:
            raise _store_error(name, version, error) from error


@contextmanager
def checked_download(client: MlflowClient, name: str, version: str, trust: Trust | None) -> Iterator[Path]:
    """Download a version's model for who goes on from what it holds; the folder is gone when the block ends.

    Args:
        trust: whose signature it has to have; None asks for none.

    Raises:
        StoreError: as of `download`; or it is Sigstore, which cannot be reached.
        VersionError: a file was changed, is missing or not listed, or nobody who is trusted signed; it is named.
        SettingsError: what is trusted cannot be read.
    """
    with download(client, name, version) as root:
        try:
            verify_files(root, trust)
        except VersionError as error:
            raise VersionError(f"version {version} of {name}: {error}") from error
        yield root


def _store_error(name: str, version: str, error: Exception) -> StoreError:
    """What went wrong, without the error's own text: it may hold an artifact store's signed URL."""
    told = f"{error} {error.__cause__ or error.__context__ or ''}"
    reason = next((reason for pattern, reason in _CAUSES if re.search(pattern, told)), _UNKNOWN)
    return StoreError(f"the files of version {version} of {name} cannot be read ({type(error).__name__}): {reason}")

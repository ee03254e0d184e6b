"""A registered version's files, fetched and believed before MLflow builds an environment out of them, and then served.

    with verified_copy("models:/resunet/Production", trust) as version:
        code = serve(version.root, ["--port", "5000"])

`mlflow models serve` installs what the version's requirements name, and imports the version's code, before that code
can look at itself. Here a program from outside looks first: every file against the version's list, and the list against
a signature that is trusted. MLflow then gets that very copy, which nobody else can write.
"""

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
from resunet.errors import SettingsError, VersionError
from serving.fetch import fetch_model
from serving.identity import Identity, read_note

_REGISTERED: Final = re.compile(r"models:/[^/@]+(/[^/@]+|@[^/@]+)")


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
        root = fetch_model(uri, Path(folder))
        try:
            digest = verify_digests(root)
            signer = verify(root, trust)
        except VersionError as error:
            raise VersionError(f"{_named(uri, root)} is not served: {error}") from error
        note = read_note(root)
        yield VerifiedVersion(root, Identity(str(note["model_name"]), str(note["model_version"]), digest), signer)


def _named(uri: str, root: Path) -> str:
    note = read_note(root)
    return f"{uri} (version {note['model_version']} of {note['model_name']})"

"""Who a loaded version is, found out from its files, which have to be those that were made.

    identity = verified_identity(root, settings.trust)
    identity.name, identity.version, identity.digest

The check runs inside the version's own `code/`: it finds files that were damaged, exchanged, left out or added since
the version was made. Against somebody who may also change that code, the check from outside helps, which `registry`
makes before a version is promoted.
"""

import re
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from records.trust import Trust
from resunet.errors import VersionError

UNREGISTERED = "unregistered"
_NOTE = "registered_model_meta"
_CACHE = "__pycache__"
# While Python writes such a file it has a number at its end.
_COMPILED = re.compile(r"\w+\.[\w.-]+\.pyc(\.\d+)?")


@dataclass(frozen=True)
class Identity:
    """Registered name and number of a version, and the digest of its files."""

    name: str
    version: str
    digest: str


def verified_identity(root: Path, trust: Trust | Path | None = None) -> Identity:
    """Compare a version's files with their list, and the list with its signature where there is a key.

    Args:
        root: the version's folder, somewhere below the folder that holds `MLmodel`.
        trust: whose signature the model has to have; a path is that of a public key (PEM); None asks for none.

    Returns:
        Name and number as registered (`unregistered` where MLflow left no note), and the digest of the files. A
        folder outside a model has no list: it is unregistered, with an empty digest.

    Raises:
        VersionError: a file is missing, was changed or is not listed, or the signature does not hold.
        SettingsError: what is trusted cannot be read.
        StoreError: it is Sigstore, which cannot be reached.
    """
    model = next((folder for folder in root.resolve().parents if (folder / "MLmodel").is_file()), None)
    if model is None:
        if trust is not None:
            raise VersionError(
                "the version is a bare folder, which nobody signed: load the MLflow model that holds it, or unset "
                "RESUNET_TRUSTED_KEY and its like"
            )
        return Identity(UNREGISTERED, UNREGISTERED, "")
    from records.digests import read_digests, verify_digests

    listed = frozenset(read_digests(model))
    digest = verify_digests(model, skip=lambda path: is_compiled(path, listed))
    if trust is not None:
        from records.signing import verify

        verify(model, trust, ignore_unsigned=True)  # there are none by now, but for compiled ones
    note = read_note(model)
    return Identity(str(note.get("model_name", UNREGISTERED)), str(note.get("model_version", UNREGISTERED)), digest)


def is_compiled(path: str, listed: Set[str]) -> bool:
    """Whether a path is that of what Python makes of a listed `.py` file when it imports it.

    By the time a model is loaded, its own code has been imported, and Python has written beside it; with several
    workers it still does.

    Args:
        path: posix, relative to the model's root.
        listed: paths of the version's files.
    """
    cache = PurePosixPath(path)
    if cache.parent.name != _CACHE or not _COMPILED.fullmatch(cache.name):
        return False
    return (cache.parent.parent / f"{cache.name.partition('.')[0]}.py").as_posix() in listed


def read_note(model: Path) -> dict[str, Any]:
    """What MLflow wrote into the folder when it downloaded a registered model; empty where it is none."""
    if not (model / _NOTE).is_file():
        return {}
    note = yaml.safe_load((model / _NOTE).read_text(encoding="utf-8"))
    return note if isinstance(note, dict) else {}

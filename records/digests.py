"""The list of a version's files and their digests: any changed, missing or added byte is noticed.

    write_digests(root)
    verify_digests(root)   # "sha256:…", the digest of the version

Signing this list is `registry`'s part; a digest alone proves nothing against who can also rewrite the list.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from resunet.errors import VersionError

DIGESTS_FILE = "digests.json"
SIGNATURE_FILE = "model.sig"
# MLflow adds the last one when it downloads a registered model.
UNLISTED = frozenset({DIGESTS_FILE, SIGNATURE_FILE, "registered_model_meta"})
FORMAT_VERSION = 1
_NAMED = 5


def list_files(root: Path, skip: Callable[[str], bool] = lambda path: False) -> dict[str, str]:
    """Map each file's relative posix path to its sha256 (hex); without list, signature and MLflow's note.

    Args:
        root: of the version.
        skip: says of a relative posix path that it is not looked at: files that come and go meanwhile.

    Raises:
        VersionError: the folder is missing, or holds a link or something else that is not a plain file.
    """
    if not root.is_dir():
        raise VersionError(f"{root.name} is not a folder of a version: download it again")
    listing: dict[str, str] = {}
    for folder, folders, names in os.walk(root, followlinks=False):
        for name in (*folders, *names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if skip(relative):
                continue
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise VersionError(f"{relative!r} is a link or a special file: a version holds plain files only")
            if path.is_file() and relative not in UNLISTED:
                with path.open("rb") as file:
                    listing[relative] = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(sorted(listing.items()))


def version_digest(listing: dict[str, str]) -> str:
    """Digest a listing: `sha256:` and the hash of its canonical JSON."""
    canonical = json.dumps(listing, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def write_digests(root: Path) -> str:
    """Write `root/digests.json` and return the version's digest."""
    listing = list_files(root)
    content = {"format_version": FORMAT_VERSION, "files": listing}
    (root / DIGESTS_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return version_digest(listing)


def read_digests(root: Path) -> dict[str, str]:
    """Read the listing of `root/digests.json`.

    Raises:
        VersionError: it is missing, damaged or of a format this release does not know.
    """
    try:
        content = json.loads((root / DIGESTS_FILE).read_bytes())
    except FileNotFoundError:
        raise VersionError(f"{DIGESTS_FILE} is missing: this version was not made whole; train it anew") from None
    except (OSError, ValueError) as error:
        raise VersionError(f"{DIGESTS_FILE} cannot be read: download the version again") from error
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or content.get("format_version") != FORMAT_VERSION:
        raise VersionError(f"{DIGESTS_FILE} is not of format {FORMAT_VERSION}: upgrade this release")
    return {str(path): str(digest) for path, digest in files.items()}


def verify_digests(root: Path, skip: Callable[[str], bool] = lambda path: False) -> str:
    """Compare a version's files with its list and return the version's digest.

    Args:
        root: of the version.
        skip: as of `list_files`.

    Raises:
        VersionError: a file was changed, is missing or is not listed; the message names it.
    """
    listed = read_digests(root)
    found = list_files(root, skip)
    problems = {
        "changed": [path for path in listed if path in found and found[path] != listed[path]],
        "missing": [path for path in listed if path not in found],
        "not listed": [path for path in found if path not in listed],
    }
    told = [f"{what}: {_names(paths)}" for what, paths in problems.items() if paths]
    if told:
        raise VersionError(
            f"the version's files are not those that were made ({'; '.join(told)}): "
            "download it again, and if it stays so do not serve it"
        )
    return version_digest(found)


def _names(paths: list[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(repr(path) for path in paths[:_NAMED]) + more

"""What a version's files say of themselves once they were checked against their list and its signature.

with shelf.files("resunet", "3") as root:
    facts = read_facts("3", root, settings.trust)
"""

from pathlib import Path

from records import digests
from records.signing import verify
from records.trust import Trust
from registry.evidence import VERSION_FOLDER, Evaluation, VersionFacts
from resunet.errors import VersionError


def read_facts(version: str, root: Path, trust: Trust | Path | None) -> VersionFacts:
    """Check a version's files and read its own evaluation.

    What is not to be believed is a finding (`damage`, `unsigned`), not an exception.

    Args:
        version: its number.
        root: the model's folder, as downloaded.
        trust: who should have signed it; a path is that of a public key (PEM); None asks for no signature.

    Raises:
        SettingsError: what is trusted cannot be read.
        StoreError: it is Sigstore, which cannot be reached.
        OSError: the files cannot be read now, which says nothing of them.
    """
    listing: dict[str, str] = {}
    digest = ""
    try:
        listing = digests.read_digests(root)
        digest = digests.verify_digests(root)
    except VersionError as error:
        return VersionFacts(version, digest, listing, damage=str(error))
    signer, unsigned, damage = "", "", ""
    if trust is not None:
        try:
            signer = verify(root, trust)
        except VersionError as error:
            unsigned = str(error)
    try:
        evaluation, problem = Evaluation.read(root / VERSION_FOLDER), ""
    except VersionError as error:
        evaluation, problem = None, str(error)
    return VersionFacts(version, digest, listing, damage, signer, unsigned, evaluation, problem)

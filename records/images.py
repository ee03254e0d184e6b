"""Kept images: the encoded bytes as a client sent them, of a share of the answers; none unless asked for.

    policy = ImagePolicy(0.01)
    store = ImageStore(home / "images", keyring)
    policy.keeps(answer_id, "ok")           # the same for every retry, in every process
    store.get(answer_id)

An image goes through the spool with its row, as its mask does. One above IN_LINE_BYTES is written to the store before
its row is appended, as a file that is on its way, and moves to its day when the row is in the database; if the process
dies in between, the retention deletes it, and so does the next `python -m records forget`.
"""

import hashlib
from datetime import datetime
from pathlib import Path

from records.blobs import INCOMING, BlobStore, checked_file
from records.sealing import Keyring
from resunet.errors import RecordsError

# As large as a batch of the drain; in base64, a line of 11 MB.
IN_LINE_BYTES = 8 * 2**20
_HASH_BYTES = 8


class ImagePolicy:
    """Which images are kept.

    Args:
        share: of the answers, 0 … 1; 0 keeps none.

    Raises:
        RecordsError: the share is none.
    """

    def __init__(self, share: float = 0.0) -> None:
        if not 0.0 <= share <= 1.0:
            raise RecordsError(f"the share of images to keep is 0 … 1, not {share:g}: mend RESUNET_KEEP_IMAGES")
        self.share = share

    def keeps(self, answer_id: str, status: str) -> bool:
        """Whether an answer's image is kept; of what was refused none is, since it may be anything."""
        if not self.share or status != "ok":
            return False
        # A hash of its own: who else samples by the answer must not sample the same ones.
        hashed = hashlib.sha256(f"keep the image of {answer_id}".encode()).digest()[:_HASH_BYTES]
        return int.from_bytes(hashed) < self.share * 2.0 ** (8 * _HASH_BYTES)


class ImageStore(BlobStore):
    """Images as they were sent."""

    def __init__(self, root: Path, keyring: Keyring | None = None) -> None:
        super().__init__(root, "image", ".image", keyring)

    def put(self, answer_id: str, image: bytes, when: datetime) -> Path:
        """Keep an image; see `write`.

        Raises:
            RecordsError: the file cannot be written, or the name is no answer's.
        """
        return self.write(answer_id, image, when)

    def get(self, answer_id: str, when: datetime | None = None) -> bytes | None:
        """Return an image, or None when it was never kept or is already deleted; see `read`.

        Raises:
            SealError: it cannot be unsealed.
            RecordsError: it is there but cannot be read, or the name is no answer's.
        """
        return self.read(answer_id, when)

    def receive(self, answer_id: str, image: bytes) -> str:
        """Write an image before its row, and return the name that the row's line carries.

        Raises:
            RecordsError: the file cannot be written, or the name is no answer's.
        """
        return self.put_by(answer_id, image).name

    def settle(self, file: str, answer_id: str, when: datetime) -> bool:
        """Bring an image that was received to its day, and return whether it is there.

        Raises:
            RecordsError: the file cannot be moved, or its name or the answer's is none.
        """
        path, day = self._received(file), self._day(when)
        if path.exists():
            self._move(path, answer_id, day)
        return self.path(day, answer_id).exists()  # moved before, by a round that was cut off

    def discard(self, file: str) -> None:
        """Delete an image that was received and whose row is none.

        Raises:
            RecordsError: it cannot be deleted, or its name is none.
        """
        self._removed(self._received(file))

    def _received(self, file: str) -> Path:
        return self.root / INCOMING / checked_file(file)

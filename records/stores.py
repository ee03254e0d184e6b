"""The masks, images and truths of a home, together: what is kept of answers and is not for the database.

stores = Stores.of(home, keyring)
stores.keep(answer_id, attached, when)      # of a row that is new in the database
stores.discard(attached)                    # of one that is not
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from records.blobs import MaskStore
from records.images import ImageStore
from records.rows import Attached
from records.sealing import Keyring
from records.truths import TruthStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deleted:
    """How many blobs went; true masks count as masks."""

    masks: int = 0
    images: int = 0

    def __add__(self, other: "Deleted") -> "Deleted":
        return Deleted(self.masks + other.masks, self.images + other.images)


@dataclass(frozen=True)
class Stores:
    """The stores of a home."""

    masks: MaskStore
    images: ImageStore
    truths: TruthStore

    @classmethod
    def of(cls, home: Path, keyring: Keyring | None = None) -> "Stores":
        """Those below a home's folder."""
        masks, images = MaskStore(home / "masks", keyring), ImageStore(home / "images", keyring)
        return cls(masks, images, TruthStore(home / "truths", keyring))

    def keep(self, answer_id: str, attached: Attached, when: datetime) -> None:
        """Put what came with a row; what is sealed already stays as it is.

        Raises:
            RecordsError: a file cannot be written.
        """
        if attached.mask_rle is not None:
            self.masks.put(answer_id, attached.mask_rle, when)
        elif attached.mask_sealed is not None:
            self.masks.write(answer_id, attached.mask_sealed, when, sealed=True)
        if attached.image is not None:
            self.images.put(answer_id, attached.image, when)
        elif attached.image_sealed is not None:
            self.images.write(answer_id, attached.image_sealed, when, sealed=True)
        elif attached.image_file is not None and not self.images.settle(attached.image_file, answer_id, when):
            _log.warning("an image is gone before its row came: it is older than its retention, or was deleted")

    def discard(self, attached: Attached) -> None:
        """Delete the file that waits for a row which is none.

        Raises:
            RecordsError: it cannot be deleted.
        """
        if attached.image_file is not None:
            self.images.discard(attached.image_file)

    def delete(self, answer_ids: Collection[str]) -> Deleted:
        """Delete all that is kept of answers.

        Raises:
            RecordsError: a file is there and cannot be deleted.
        """
        masks = self.masks.delete(answer_ids) + self.truths.delete(answer_ids)
        return Deleted(masks, self.images.delete(answer_ids))

"""The masks, images and truths of a home, together: what is kept of answers and is not for the database.

stores = Stores.of(home, keyring)
waiting = stores.put_by(answer_id, attached)            # before there is a row: this is what takes time
stores.keep(answer_id, attached, when, waiting)         # of a row that is new in the database
stores.discard(attached)                                # of one that is not
stores.clear(waiting)                                   # in any case
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from records.blobs import MaskStore, packed
from records.images import ImageStore
from records.released import ReleasedStore
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
class Waiting:
    """Where blobs were put by; None where there is none."""

    mask: Path | None = None
    image: Path | None = None


@dataclass(frozen=True)
class Stores:
    """The stores of a home."""

    masks: MaskStore
    images: ImageStore
    truths: TruthStore
    released: ReleasedStore

    @classmethod
    def of(cls, home: Path, keyring: Keyring | None = None) -> "Stores":
        """Those below a home's folder."""
        masks, images = MaskStore(home / "masks", keyring), ImageStore(home / "images", keyring)
        return cls(masks, images, TruthStore(home / "truths", keyring), ReleasedStore(home, keyring))

    def put_by(self, answer_id: str, attached: Attached) -> Waiting:
        """Bring what came with a row to the disk; what is sealed already stays as it is. Thread-safe.

        Raises:
            RecordsError: a file cannot be written.
        """
        mask = image = None
        if attached.mask_rle is not None:
            mask = self.masks.put_by(answer_id, packed(attached.mask_rle))
        elif attached.mask_sealed is not None:
            mask = self.masks.put_by(answer_id, attached.mask_sealed, sealed=True)
        try:
            if attached.image is not None:
                image = self.images.put_by(answer_id, attached.image)
            elif attached.image_sealed is not None:
                image = self.images.put_by(answer_id, attached.image_sealed, sealed=True)
        except BaseException:
            self.clear(Waiting(mask))
            raise
        return Waiting(mask, image)

    def keep(self, answer_id: str, attached: Attached, when: datetime, waiting: Waiting | None = None) -> None:
        """Bring a row's blobs to their day; what was not put by, or is gone again, is written now.

        Raises:
            RecordsError: a file cannot be moved or written.
        """
        if waiting is None or not self._bring(answer_id, waiting, when):
            self._bring(answer_id, self.put_by(answer_id, attached), when)
        if attached.image_file is not None and not self.images.settle(attached.image_file, answer_id, when):
            _log.warning("an image is gone before its row came: it is older than its retention, or was deleted")

    def _bring(self, answer_id: str, waiting: Waiting, when: datetime) -> bool:
        mask = waiting.mask is None or self.masks.bring(waiting.mask, answer_id, when)
        return (waiting.image is None or self.images.bring(waiting.image, answer_id, when)) and mask

    def clear(self, waiting: Waiting) -> None:
        """Delete what was put by and is still there.

        Raises:
            RecordsError: it cannot be deleted.
        """
        if waiting.mask is not None:
            self.masks.drop(waiting.mask)
        if waiting.image is not None:
            self.images.drop(waiting.image)

    def discard(self, attached: Attached) -> None:
        """Delete the file that waits for a row which is none.

        Raises:
            RecordsError: it cannot be deleted.
        """
        if attached.image_file is not None:
            self.images.discard(attached.image_file)

    def delete(self, answer_ids: Collection[str]) -> Deleted:
        """Delete all that is kept of answers, also what was released for training.

        Raises:
            RecordsError: a file is there and cannot be deleted.
        """
        masks, images = self.released.delete(answer_ids)
        masks += self.masks.delete(answer_ids) + self.truths.delete(answer_ids)
        return Deleted(masks, images + self.images.delete(answer_ids))

"""Images and true masks that were released for training: copies that no retention deletes, and `forget` does.

    store = ReleasedStore(home, keyring)
    store.images(batch_id).put(answer_id, image, when)
    store.truths(batch_id).put(answer_id, "audit", mask_rle, when)
    store.delete(answer_ids)                # of every batch, and in folders where data sets are put together

They are sealed as the others are, in a folder a batch.
"""

import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from filelock import FileLock

from records.blob_files import is_older
from records.images import ImageStore
from records.sealing import Keyring
from records.truths import TruthStore
from records.workplace import delete_files
from resunet.errors import RecordsError

_BATCH: Final = re.compile(r"[0-9a-z-]{1,40}")


class ReleasedStore:
    """What was released in a home."""

    def __init__(self, home: Path, keyring: Keyring | None = None) -> None:
        self._home = home
        self._keyring = keyring
        self.root = home / "released"

    def images(self, batch_id: str) -> ImageStore:
        """A batch's images."""
        return ImageStore(self._folder(batch_id) / "images", self._keyring)

    def truths(self, batch_id: str) -> TruthStore:
        """A batch's true masks."""
        return TruthStore(self._folder(batch_id) / "truths", self._keyring)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """As long as the block lasts, nobody else in this home decides on a batch and moves its files.

        Raises:
            RecordsError: the home cannot be written.
        """
        with ExitStack() as held:
            try:
                self._home.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(self._home / "released.lock"))
            except OSError as error:
                raise RecordsError(f"RESUNET_HOME {self._home} cannot be written: {error.strerror}") from error
            yield

    def batches(self) -> list[str]:
        """Batches of which there is something here."""
        return sorted(path.name for path in self.root.glob("*") if _BATCH.fullmatch(path.name))

    def delete(self, answer_ids: Collection[str]) -> tuple[int, int]:
        """Delete answers' masks and images, and return how many of each went.

        Raises:
            UndeletedError: one is there and cannot be deleted.
        """
        masks = images = 0
        for batch_id in self.batches():
            masks += self.truths(batch_id).delete(answer_ids)
            images += self.images(batch_id).delete(answer_ids)
        delete_files(self._home, answer_ids)
        return masks, images

    def drop(self, batch_id: str) -> None:
        """Delete all that is here of a batch that was not released after all.

        Raises:
            RecordsError: it cannot be deleted.
        """
        folder = self._folder(batch_id)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise RecordsError(f"{folder} cannot be deleted: mend its rights and try again")

    def drop_unreleased(self, unreleased: Collection[str], before: datetime) -> None:
        """Delete what a release that was cut off has left, older than a moment.

        Args:
            unreleased: batches of which the database knows that nobody has released them; what it does not know stays.

        Raises:
            RecordsError: it cannot be deleted.
        """
        for batch_id in self.batches():
            if batch_id in unreleased and is_older(self._folder(batch_id), before):
                self.drop(batch_id)

    def _folder(self, batch_id: str) -> Path:
        if not _BATCH.fullmatch(batch_id):
            raise RecordsError(f"{batch_id!r} is no batch's name")
        return self.root / batch_id

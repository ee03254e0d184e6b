"""True masks that came as labels, kept beside kept images; none unless asked for (RESUNET_KEEP_LABELS).

    store = TruthStore(home / "truths", keyring)
    store.put(answer_id, "audit", mask_rle, when)
    store.get(answer_id, "audit")

They are what a later training on live images learns from, and what a sheet of the worst shows. Each source has a folder
of its own: what a client sends never takes the place of what an auditor drew.
"""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Final

from records.blobs import BlobStore, MaskStore
from records.schema import LABEL_SOURCES
from records.sealing import Keyring

KIND: Final = "truth"


class _OfOneSource(MaskStore):
    def __init__(self, root: Path, keyring: Keyring | None) -> None:
        BlobStore.__init__(self, root, KIND, ".json.gz", keyring)


class TruthStore:
    """True masks as RLE JSON, gzipped, and sealed where there is a key; named by the answer that they are of."""

    def __init__(self, root: Path, keyring: Keyring | None = None) -> None:
        self._stores = {source: _OfOneSource(root / source, keyring) for source in LABEL_SOURCES}

    @property
    def parts(self) -> tuple[BlobStore, ...]:
        """A store each source."""
        return tuple(self._stores.values())

    def put(self, answer_id: str, source: str, mask_rle: str, when: datetime) -> None:
        """Keep a truth, in place of the one before of the same source.

        Args:
            when: aware time of the prediction; its UTC day decides how long the truth is kept.

        Raises:
            RecordsError: the file cannot be written, or the name is no answer's.
        """
        self._stores[source].put(answer_id, mask_rle, when)

    def get(self, answer_id: str, source: str, when: datetime | None = None) -> str | None:
        """Return a truth's RLE JSON, or None when it was never kept or is already deleted.

        Raises:
            SealError: it cannot be unsealed.
            RecordsError: it is there but cannot be read, or the name is no answer's.
        """
        return self._stores[source].get(answer_id, when)

    def drop(self, answer_id: str, source: str, when: datetime) -> None:
        """Delete the truth of a label that another one without a mask replaces.

        Raises:
            UndeletedError: it is there and cannot be deleted.
        """
        if self._stores[source].holds(answer_id, when):
            self._stores[source].delete([answer_id])

    def delete(self, answer_ids: Collection[str]) -> int:
        """Delete the truths of answers, of every source and day, and return how many went.

        Raises:
            UndeletedError: one is there and cannot be deleted.
        """
        return sum(store.delete(answer_ids) for store in self._stores.values())

    def delete_lost(self, before: datetime) -> int:
        """Delete files whose process died while it wrote them; see `BlobStore.delete_lost`."""
        return sum(store.delete_lost((), before) for store in self._stores.values())

    def purge(self, before: datetime) -> int:
        """Delete the days that ended before the UTC day of `before`, and return how many went."""
        return sum(store.purge(before) for store in self._stores.values())

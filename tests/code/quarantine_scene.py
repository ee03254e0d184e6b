"""Answers with kept images and true masks, in a home and a database of either kind, and what is done with them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from records_rows import NOON, answer, prediction
from sqlalchemy import Engine

from monitoring.quarantine import custody
from monitoring.quarantine.custody import Collected, Person, Question
from monitoring.window import Window
from records.batch import Batch
from records.forget import Forgotten, forget
from records.inference import InferenceLog
from records.labels import Label, Source
from records.log_database import open_log
from records.sealing import Keyring
from records.stores import Stores
from records.subject import Subject
from resunet.masks import encode_png, to_rle

ADA = Person("ada", "looked at each of them")
WINDOW = Window(NOON - timedelta(days=30), NOON + timedelta(days=1))


def picture(seed: int, side: int = 32) -> NDArray[np.uint8]:
    """(side, side, 3) uint8: noise that no other seed gives, in large cells that a thumbnail keeps."""
    cells = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return np.asarray(cv2.resize(cells, (side, side), interpolation=cv2.INTER_NEAREST), np.uint8)


def truth(rows: int, side: int = 32) -> NDArray[np.uint8]:
    """(side, side) uint8, 255 in its upper rows."""
    mask = np.zeros((side, side), np.uint8)
    mask[:rows] = 255
    return mask


def png(rgb: NDArray[np.uint8]) -> bytes:
    done, encoded = cv2.imencode(".png", rgb[..., ::-1])
    assert done
    return encoded.tobytes()


@dataclass
class Scene:
    """A home."""

    url: str
    folder: Path
    keyring: Keyring = field(default_factory=Keyring)
    now: datetime = NOON + timedelta(hours=1)
    rows: dict[str, Any] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def engine(self) -> Engine:
        return open_log(self.url)

    @property
    def stores(self) -> Stores:
        return Stores.of(self.home, self.keyring)

    def log(self) -> InferenceLog:
        return InferenceLog.open(
            self.url, self.home, keep_images=1.0, keep_labels=True, keyring=self.keyring, clock=lambda: NOON
        )

    def answer(self, name: str, seed: int, **changes: Any) -> str:
        """One answer whose mask is the upper ten rows; its id comes back."""
        image = encode_png(picture(seed)[..., 0]) if changes.pop("grey", False) else png(picture(seed))
        fields = {"mask_rle": to_rle(truth(10)), "image": image, "image_digest": f"sha256:{seed}", "client": "lab-7"}
        row = prediction(name, **fields | {"width": 32, "height": 32} | changes)
        log = self.log()
        log.append([row])
        log.drain_now()
        assert log.close(deadline_s=20)
        self.rows[name] = row
        return answer(row)

    def label(self, name: str, source: Source, rows: int = 12) -> None:
        log = self.log()
        log.label(Label(name, "resunet", source, truth=truth(rows)))
        assert log.close(deadline_s=20)

    def labelled(self, *names: str, source: Source = "audit", rows: int = 12, **changes: Any) -> list[str]:
        """Answers with labels; the name's last number is the seed of the image."""
        ids = [self.answer(name, int(name.rpartition("-")[2]), **changes) for name in names]
        for name in names:
            self.label(name, source, rows)
        return ids

    def collect(self, *sources: Source, **more: Any) -> Collected:
        question = Question("resunet", WINDOW, sources or ("audit", "picked"), **more)
        return custody.collect(self.engine, self.stores, self.home, question, self.now)

    def batch(self, *sources: Source) -> Batch:
        """The one batch that is collected."""
        [made] = self.collect(*sources).batches
        return made

    def check(self, batch: Batch, *without: str, why: str = "") -> Batch:
        return custody.check(
            self.engine, self.stores, self.home, batch.batch_id, without=without, why=why, now=self.now
        )

    def release(self, batch: Batch, person: Person = ADA, **more: Any) -> Batch:
        return custody.release(self.engine, self.stores, batch.batch_id, person, self.now, **more)

    def reject(self, batch: Batch, person: Person = ADA) -> Batch:
        return custody.reject(self.engine, self.stores, batch.batch_id, person, self.now)

    def withdraw(self, batch: Batch, person: Person = ADA) -> Batch:
        return custody.withdraw(self.engine, self.stores, batch.batch_id, person, self.now)

    def forget(self, kind: Any, text: str) -> Forgotten:
        return forget(
            self.engine, self.home, Subject(kind, text), "ada", self.keyring, clock=lambda: NOON + timedelta(days=2)
        )

    def files(self, folder: str) -> list[Path]:
        """What lies below a folder of the home."""
        return sorted(path for path in (self.home / folder).rglob("*") if path.is_file())

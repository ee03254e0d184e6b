"""A home with answers that can be labelled, and the commands of monitoring typed in this process.

scene = Scene.of(tmp_path, database_url)
scene.answer("a", slice="lung")
scene.typed("label", "--csv", "labels.csv").code
"""

import csv
import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mlflow.tracking._model_registry import utils as registry_state
from mlflow.tracking._tracking_service import utils as tracking_state
from numpy.typing import NDArray
from records_rows import NOON, prediction
from sqlalchemy import Engine, select

from monitoring.cli import app
from monitoring.window import Window
from records.console import run
from records.inference import InferenceLog
from records.log_database import open_log
from records.schema import labels
from resunet.masks import to_rle

WEEK = Window(NOON - timedelta(days=7), NOON + timedelta(minutes=1))
SIDE = 20


def mask_of(rows: int) -> NDArray[np.uint8]:
    """(20, 20), its upper rows foreground."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:rows] = 255
    return mask


# What every answer found; against `mask_of(5)` its Dice is 2 * 5 / 15.
ANSWERED = mask_of(10)


@dataclass(frozen=True)
class Typed:
    """What a command printed and exited with."""

    code: int
    out: str
    err: str


@dataclass
class Scene:
    """A home, its log, where files are written, and an MLflow store that others share."""

    folder: Path
    url: str
    store: Path

    @classmethod
    def of(cls, folder: Path, url: str, store: Path) -> "Scene":
        (folder / "home").mkdir()
        open_log(url).dispose()
        return cls(folder, url, store)

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.store / 'mlflow.db'}"

    @property
    def experiment(self) -> str:
        """Of this scene alone."""
        return f"monitoring of {self.folder.name}"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def engine(self) -> Engine:
        return open_log(self.url)

    def answer(self, *requests: str, keep_images: float = 0.0, **changes: Any) -> None:
        """Log answers, as serving would."""
        self.log([prediction(name, **self.fields(name) | changes) for name in requests], keep_images)

    def fields(self, name: str) -> dict[str, Any]:
        return {"mask_rle": to_rle(ANSWERED), "width": SIDE, "height": SIDE, "image_digest": f"sha256:{name}"}

    def log(self, rows: Sequence[Any], keep_images: float = 0.0) -> None:
        opened = InferenceLog.open(self.url, self.home, keep_images=keep_images, clock=lambda: NOON)
        opened.append(rows)
        opened.drain_now()
        assert opened.close(deadline_s=20)

    def csv(self, rows: Sequence[Mapping[str, object]], name: str = "labels.csv") -> Path:
        """Write a file of labels; a number for a mask is so many rows of `mask_of`."""
        path = self.folder / name
        fields = list(dict.fromkeys(key for row in rows for key in row))
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fields)
            writer.writeheader()
            for row in rows:
                mask = row.get("mask")
                if isinstance(mask, int):
                    cv2.imwrite(str(self.folder / f"truth{mask}.png"), mask_of(mask))
                    row = {**row, "mask": f"truth{mask}.png"}
                writer.writerow(row)
        return path

    def stored(self) -> list[tuple[Any, ...]]:
        """Labels: request, version, source, Dice to four digits."""
        engine = self.engine
        names = ("request_id", "model_version", "source", "dice")
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(select(*(labels.c[name] for name in names)))]
        engine.dispose()
        return sorted((*row[:3], round(row[3], 4)) for row in found)

    def typed(self, *words: str, **environment: str) -> Typed:
        """Type `python -m monitoring …` in this process."""
        given = {
            "RESUNET_HOME": str(self.home),
            "RESUNET_INFERENCE_LOG": self.url,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "RESUNET_MONITORING_EXPERIMENT": self.experiment,
            "COLUMNS": "200",
        } | environment
        out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in given.items():
                patch.setenv(name, value)
            patch.setattr(tracking_state, "_tracking_uri", None)
            patch.setattr(registry_state, "_registry_uri", None)
            patch.setattr(sys, "argv", ["monitoring", *words])
            os.chdir(self.store)  # a local store puts artifacts below the working folder
            try:
                with pytest.raises(SystemExit) as ended:
                    run(app)
            finally:
                os.chdir(before)
        code = ended.value.code
        return Typed(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def at(days: float) -> datetime:
    """So many days before noon."""
    return NOON - timedelta(days=days)


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store: to make its tables takes seconds."""
    return tmp_path_factory.mktemp("watched_store")


@pytest.fixture
def watched(database_url: str, tmp_path: Path, mlflow_store: Path) -> Scene:
    """In a database of either kind."""
    return Scene.of(tmp_path, database_url, mlflow_store)


@pytest.fixture
def watched_lite(url: str, tmp_path: Path, mlflow_store: Path) -> Scene:
    """In SQLite."""
    return Scene.of(tmp_path, url, mlflow_store)

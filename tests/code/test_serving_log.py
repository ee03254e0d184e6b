"""Every answer is in the log, whatever ids clients choose."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModelContext
from sqlalchemy import RowMapping, select
from version_factory import draw, encode, write_version

from records.log_database import open_log
from records.schema import predictions
from serving.pyfunc import SegmentationModel


def test_each_answer_under_a_reused_id_is_logged_and_a_retry_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", url)
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    write_version(tmp_path / "version")
    model = SegmentationModel()
    model.load_context(PythonModelContext({"version": str(tmp_path / "version")}, None))
    one, two = encode(draw(64, 64)), encode(draw(64, 64, seed=2))
    default = model.predictor.spec.threshold
    masks: dict[tuple[str, float], str] = {}

    def ask(image: bytes, threshold: float | None = None) -> None:
        params: dict[str, Any] = {"mask_format": "rle"} | ({} if threshold is None else {"threshold": threshold})
        frame = pd.DataFrame({"image": [image], "request_id": ["mine"]})
        answer = model.predict(PythonModelContext({}, None), frame, params)
        digest = f"sha256:{hashlib.sha256(image).hexdigest()}"
        masks[digest, default if threshold is None else threshold] = answer["mask"][0]

    for image, threshold in ((one, None), (two, None), (one, None), (one, default), (one, 0.9)):
        ask(image, threshold)
    assert model.logbook is not None
    log = model.logbook._log
    log.drain_now()
    with open_log(url).connect() as connection:
        rows: list[RowMapping] = list(connection.execute(select(predictions)).mappings())
    assert {row["request_id"] for row in rows} == {"mine"}
    assert len(rows) == len(masks) == 3
    assert {(row["image_digest"], row["threshold"]) for row in rows} == set(masks)
    for row in rows:
        assert log.masks.get(row["answer_id"]) == masks[row["image_digest"], row["threshold"]]
    log.close()

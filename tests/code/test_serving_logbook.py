"""What the log keeps of answers and of refusals, and what a client is told when it cannot be written."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModelContext
from sqlalchemy import RowMapping, select
from version_factory import draw, encode, make_spec, write_version

from records.digests import verify_digests, write_digests
from records.log_database import open_log
from records.schema import DESCRIPTORS, predictions
from serving.pyfunc import SegmentationModel
from serving.scoring import RequestError

GOOD = encode(draw(32, 32))
CUT = GOOD[: len(GOOD) // 2]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SegmentationModel]:
    """A registered version with its log on."""
    root = tmp_path / "model"
    write_version(root / "artifacts/version")
    (root / "MLmodel").write_text("flavors: {}\n")
    write_digests(root)
    (root / "registered_model_meta").write_text("model_name: resunet\nmodel_version: 7\n")
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", f"sqlite:///{tmp_path / 'log.db'}")
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    loaded = SegmentationModel()
    loaded.load_context(PythonModelContext({"version": str(root / "artifacts/version")}, None))
    yield loaded
    assert loaded.logbook is not None
    loaded.logbook._log.close()


def ask(model: SegmentationModel, images: list[Any], params: dict[str, Any] | None = None, **columns: Any) -> Any:
    return model.predict(PythonModelContext({}, None), pd.DataFrame({"image": images} | columns), params)


def logged(model: SegmentationModel, tmp_path: Path) -> list[RowMapping]:
    assert model.logbook is not None
    model.logbook._log.drain_now()
    with open_log(f"sqlite:///{tmp_path / 'log.db'}").connect() as connection:
        return list(connection.execute(select(predictions).order_by(predictions.c.request_id)).mappings())


def test_an_answer_is_in_the_log_with_the_identity_of_its_version(model: SegmentationModel, tmp_path: Path) -> None:
    answer = ask(model, [GOOD, GOOD], request_id=["a", None], slice=["fluorescence", None], client=["me", None])
    assert list(answer["model_version"]) == ["7", "7"]
    rows = {row["request_id"]: row for row in logged(model, tmp_path)}
    assert set(rows) == {"a", answer["request_id"][1]}
    for row in rows.values():
        assert (row["model_name"], row["model_version"], row["route"], row["status"]) == (
            "resunet",
            "7",
            "production",
            "ok",
        )
        assert row["model_digest"] == model.identity.digest == verify_digests(tmp_path / "model")
        assert row["confidence"] == answer["confidence"][0]
    assert (rows["a"]["client"], rows["a"]["slice"]) == ("me", "fluorescence")


def test_a_client_s_threshold_moves_its_answer_and_not_what_drift_is_measured_by(
    model: SegmentationModel, tmp_path: Path
) -> None:
    ask(model, [GOOD], request_id=["own"])
    answers = {str(cut): ask(model, [GOOD], {"threshold": cut}, request_id=[str(cut)]) for cut in (0.02, 0.98)}
    assert answers["0.02"]["foreground_fraction"][0] > answers["0.98"]["foreground_fraction"][0]
    assert answers["0.02"]["confidence"][0] == answers["0.98"]["confidence"][0]
    rows = logged(model, tmp_path)
    assert sorted(row["threshold"] for row in rows) == [0.02, 0.5, 0.98]
    assert len({tuple(row[name] for name in DESCRIPTORS) for row in rows}) == 1


def test_a_refused_image_is_a_row_of_its_own_without_anything_of_the_image(
    model: SegmentationModel, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="row 1"):
        ask(model, [GOOD, CUT], request_id=["good", "bad"], client=["me", "me"], slice=["x", "y"])
    model.predictor.spec = make_spec(tileable=False, whole_side=16)
    with pytest.raises(RequestError, match="row 0: the image is 32 x 32"):
        ask(model, [GOOD], request_id=["too large"])
    rows = logged(model, tmp_path)
    assert [(row["request_id"], row["status"]) for row in rows] == [("bad", "refused"), ("too large", "refused")]
    assert (rows[0]["client"], rows[0]["slice"], rows[0]["model_version"]) == ("me", "y", "7")
    assert rows[0]["image_digest"] == f"sha256:{hashlib.sha256(CUT).hexdigest()}"
    assert all(row[name] is None for row in rows for name in (*DESCRIPTORS, "embedding", "engine", "latency_ms"))


def test_an_answer_after_a_refusal_under_the_same_id_is_logged_too(model: SegmentationModel, tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        ask(model, [CUT], request_id=["mine"])
    ask(model, [GOOD], request_id=["mine"])
    assert sorted(row["status"] for row in logged(model, tmp_path)) == ["ok", "refused"]


def test_what_is_not_a_refused_image_is_not_logged(model: SegmentationModel, tmp_path: Path) -> None:
    for images, params in (([None], None), (["text"], None), ([GOOD], {"threshold": 2.0}), ([], None)):
        with pytest.raises(RequestError):
            ask(model, images, params)
    assert logged(model, tmp_path) == []


def test_what_cannot_be_logged_is_not_answered_and_the_client_sees_no_path(
    model: SegmentationModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(model, [GOOD])
    assert model.logbook is not None
    spool = model.logbook._log._spool
    spool._max_bytes = 1
    with pytest.raises(RequestError, match="could not be logged") as failure:
        ask(model, [GOOD])
    assert failure.value.get_http_status_code() == 503
    assert str(tmp_path) not in failure.value.serialize_as_json()
    assert str(tmp_path / "home") in caplog.text
    # A bad image is refused as ever: there is nothing to be answered that should have been logged.
    with pytest.raises(RequestError, match="truncated") as refusal:
        ask(model, [CUT])
    assert refusal.value.get_http_status_code() == 400
    spool._max_bytes = 1 << 30


def test_without_a_log_nothing_of_it_is_needed(
    model: SegmentationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESUNET_INFERENCE_LOG")
    shutil.copytree(tmp_path / "model", tmp_path / "other")
    silent = SegmentationModel()
    silent.load_context(PythonModelContext({"version": str(tmp_path / "other/artifacts/version")}, None))
    with pytest.raises(RequestError, match="truncated"):
        ask(silent, [CUT])
    assert silent.logbook is None and len(ask(silent, [GOOD])) == 1

"""The pyfunc model: a request is answered or refused whole, in words without data."""

import base64
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModelContext
from mlflow.types import DataType
from version_factory import draw, encode, make_spec, write_graph, write_version

from resunet.errors import VersionError
from resunet.images import decode_mask
from resunet.masks import decode_classes_rle, from_rle
from serving.pyfunc import SegmentationModel, signature
from serving.scoring import RequestError


def load(root: Path) -> SegmentationModel:
    model = SegmentationModel()
    model.load_context(PythonModelContext({"version": str(root)}, None))
    return model


def ask(model: SegmentationModel, images: list[Any], params: dict[str, Any] | None = None, **columns: Any) -> Any:
    frame = pd.DataFrame({"image": images} | columns)
    return model.predict(PythonModelContext({}, None), frame, params)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("version")
    write_version(root)
    return root


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RESUNET_"):
            monkeypatch.delenv(name)


def test_a_row_an_image_with_the_contract_s_columns(version: Path) -> None:
    model = load(version)
    images = [draw(64, 90), draw(31, 47, seed=2)]
    answer = ask(model, [encode(image) for image in images], request_id=["mine", None])
    assert list(answer.columns) == [column.name for column in signature(model.predictor.spec).outputs]
    for (_, row), image in zip(answer.iterrows(), images, strict=True):
        expected = model.predictor.predict(image)
        assert "\n" not in row["mask"]
        assert (decode_mask(base64.b64decode(row["mask"])) == expected.mask).all()
        assert (row["height"], row["width"]) == image.shape[:2]
        assert row["foreground_fraction"] == expected.foreground_fractions[0]
        assert row["confidence"] == expected.confidence
        assert row["model_version"] == "unregistered"
    assert answer["request_id"][0] == "mine" and len(answer["request_id"][1]) == 32


def test_run_lengths_hold_the_same_mask(version: Path) -> None:
    model, image = load(version), draw(40, 60)
    answer = ask(model, [encode(image)], {"mask_format": "rle", "threshold": 0.3})
    assert (from_rle(answer["mask"][0]) == (model.predictor.predict(image, 0.3).mask > 0)).all()


def test_more_classes_give_index_masks_and_a_fraction_for_each(tmp_path: Path) -> None:
    write_version(tmp_path, classes=3)
    model, image = load(tmp_path), draw(60, 60)
    expected = model.predictor.predict(image)
    png = ask(model, [encode(image)], {"threshold": None, "mask_format": "png"})
    assert (decode_mask(base64.b64decode(png["mask"][0])) == expected.mask).all()
    assert json.loads(png["foreground_fraction"][0]) == dict(
        zip(["dim", "bright"], expected.foreground_fractions, strict=True)
    )
    rle = ask(model, [encode(image)], {"mask_format": "rle"})
    assert (decode_classes_rle(json.loads(rle["mask"][0])) == expected.mask).all()
    with pytest.raises(RequestError, match="one class"):
        ask(model, [encode(image)], {"threshold": 0.5})
    contract = signature(model.predictor.spec)
    assert contract.outputs.input_dict()["foreground_fraction"].type == DataType.string
    assert {param.name: param.default for param in contract.params} == {
        "threshold": None,
        "mask_format": "png",
    }


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds nothing."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


GOOD = encode(draw(32, 32))
BAD_IMAGES = {
    "missing": (None, "missing"),
    "nan": (float("nan"), "missing"),
    "a number": (5, "int, not bytes"),
    "text": (base64.b64encode(GOOD).decode(), "str, not bytes"),
    "empty": (b"", "empty"),
    "not an image": (b"GIF89a nothing of the sort", "PNG, JPEG, TIFF"),
    "truncated": (GOOD[: len(GOOD) // 2], "truncated"),
    "too small": (encode(draw(8, 40)), "40 x 8"),
    "a bomb": (png_header(100_000, 100_000), "too large"),
    "na": (pd.NA, "missing"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD_IMAGES.values(), ids=list(BAD_IMAGES))
def test_one_bad_image_refuses_the_request_and_names_the_row(version: Path, bad: object, reason: str) -> None:
    model = load(version)
    with pytest.raises(RequestError, match=f"^row 2: .*{reason}") as refusal:
        ask(model, [GOOD, GOOD, bad, GOOD])
    assert refusal.value.get_http_status_code() == 400
    assert repr(GOOD[:12])[2:-1] not in str(refusal.value) and refusal.value.__suppress_context__


def short_png() -> bytes:
    """Its pixels unpack to half of its rows, and it ends as it should."""
    start, end = GOOD.index(b"IDAT") - 4, GOOD.index(b"IEND") - 4
    (length,) = struct.unpack_from(">I", GOOD, start)
    body = zlib.compress(zlib.decompress(GOOD[start + 8 : start + 8 + length])[: 16 * (1 + 32 * 3)])
    chunk = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    return GOOD[:start] + chunk + GOOD[end:]


@pytest.mark.parametrize("small_pixels", [1 << 22, 1], ids=["decoded together", "decoded one by one"])
def test_nothing_is_predicted_when_a_later_row_is_bad(
    version: Path, monkeypatch: pytest.MonkeyPatch, small_pixels: int
) -> None:
    model = load(version)
    asked: list[int] = []
    monkeypatch.setattr(model.predictor, "predict", lambda *given, **options: asked.append(1))
    for module in ("serving.service", "serving.budget"):
        monkeypatch.setattr(f"{module}.SMALL_PIXELS", small_pixels)
    with pytest.raises(RequestError, match=r"row 2: .*truncated inside"):
        ask(model, [GOOD, GOOD, short_png()])
    assert not asked


def test_rows_of_a_large_request_are_answered_as_those_of_a_small_one(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(version)
    images = [encode(draw(40, 40, seed=seed)) for seed in range(3)]
    together = ask(model, images, request_id=["a", "b", "c"])
    for module in ("serving.service", "serving.budget"):
        monkeypatch.setattr(f"{module}.SMALL_PIXELS", 1)
    assert ask(model, images, request_id=["a", "b", "c"]).equals(together)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"request_id": ["a", "a"]}, "row 1: request_id is the same as in row 0"),
        ({"request_id": ["a", 7]}, "row 1: request_id must be text, not int"),
        ({"client": ["c" * 201, None]}, "row 0: client must be at most 200"),
        ({"slice": [None, "nul\0"]}, "row 1: slice must be at most 200 printable"),
        ({"slice": [None, "\ud800"]}, "row 1: slice must be at most 200 printable"),
    ],
)
def test_bad_words_are_refused_by_row(version: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ask(load(version), [GOOD, GOOD], **columns)


@pytest.mark.parametrize(
    "params", [{"threshold": 0.0}, {"threshold": 1.0}, {"threshold": True}, {"mask_format": "gif"}]
)
def test_bad_parameters_are_refused(version: Path, params: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="must be") as refusal:
        ask(load(version), [GOOD], params)
    assert refusal.value.get_http_status_code() == 400


def test_no_rows_no_column_and_twice_the_column_are_refused(version: Path) -> None:
    model, context = load(version), PythonModelContext({}, None)
    for frame in (
        pd.DataFrame({"image": []}),
        pd.DataFrame({"picture": [GOOD]}),
        pd.DataFrame([[GOOD, "a", "b"]], columns=["image", "slice", "slice"]),
    ):
        with pytest.raises(RequestError, match="dataframe_split"):
            model.predict(context, frame, None)


def test_what_is_too_large_is_a_413(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_MAX_IMAGE_MB", "1")
    model = load(version)
    with pytest.raises(RequestError, match=r"row 0: .* limit of 1 MB") as refusal:
        ask(model, [GOOD + bytes(1_000_001)])
    assert refusal.value.get_http_status_code() == 413
    half = encode(draw(32, 32)) + bytes(600_000)
    with pytest.raises(RequestError, match=r"image files have 1\.2 MB together, .*fewer at a time") as refusal:
        ask(model, [half, half])
    assert refusal.value.get_http_status_code() == 413
    model.predictor.spec = make_spec(tileable=False, whole_side=16)
    with pytest.raises(RequestError, match="row 0: the image is 32 x 32 pixels") as refusal:
        ask(model, [GOOD])
    assert refusal.value.get_http_status_code() == 413


def test_more_rows_or_pixels_than_a_request_may_have_are_a_413(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(version)
    assert len(ask(model, [GOOD] * 256)) == 256
    with pytest.raises(RequestError, match=r"has 257 rows, above the limit of 256 \(RESUNET_MAX_ROWS\)") as refusal:
        ask(model, [GOOD] * 257)
    assert refusal.value.get_http_status_code() == 413
    monkeypatch.setattr("serving.request.MAX_PIXELS", 2 * 32 * 32)
    assert len(ask(model, [GOOD, GOOD])) == 2
    with pytest.raises(RequestError, match=r"3 images have .* pixels together") as refusal:
        ask(model, [GOOD] * 3)
    assert refusal.value.get_http_status_code() == 413


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_what_pandas_writes_for_nothing_is_nothing(version: Path, missing: object) -> None:
    texts = pd.Series(["mine", missing], dtype="object" if missing is None else "string")
    answer = ask(load(version), [GOOD, GOOD], request_id=texts, slice=pd.Series([missing] * 2, dtype="object"))
    assert answer["request_id"][0] == "mine" and len(answer["request_id"][1]) == 32


def test_a_defect_is_a_500_that_tells_nothing(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(version)

    def broken(*given: object, **options: object) -> None:
        raise RuntimeError(f"secret {GOOD!r}")

    monkeypatch.setattr(model.predictor, "predict", broken)
    with pytest.raises(RequestError) as failure:
        ask(model, [GOOD])
    assert failure.value.get_http_status_code() == 500
    assert "secret" not in failure.value.serialize_as_json()


def test_a_version_that_does_not_reproduce_its_golden_output_does_not_load(tmp_path: Path) -> None:
    write_version(tmp_path)
    write_graph(tmp_path / "model.onnx", seed=1)
    with pytest.raises(VersionError, match="golden mask"):
        load(tmp_path)

"""Bodies of answers: what a client reads back from each form is the prediction."""

import base64
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from version_factory import draw as draw_image
from version_factory import write_version

from resunet.images import decode_mask
from resunet.masks import encode_png, from_rle
from serving.errors import NotAcceptableError
from serving.pictures import descriptions
from serving.pictures.accept import OFFERS, Wanted
from serving.pictures.answers import Body, Shown, draw, gather
from serving.pictures.overlay import encode_overlay
from serving.predictor import Predictor

FACTS = ("width", "height", "confidence", "foreground_fraction", "classes", "model_version", "request_id")
Scene = tuple[Predictor, NDArray[np.uint8]]


@pytest.fixture(scope="module", params=[1, 3], ids=["binary", "classes"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("version")
    write_version(folder, request.param)
    return Predictor.load(folder, "onnxruntime", threads=1), draw_image(300, 420, seed=3)


def answered(scene: Scene, wanted: Wanted) -> tuple[Shown, Body]:
    predictor, rgb = scene
    gathered = gather(wanted, *rgb.shape[:2], predictor.spec.class_names)
    prediction = predictor.predict(rgb, **({"on_tile": gathered.add} if gathered else {}))
    shown = Shown(rgb, prediction, predictor.spec.class_names, "3", "a1")
    return shown, draw(wanted, shown, gathered)


def read(scene: Scene, wanted: Wanted) -> tuple[Shown, dict[str, Any]]:
    shown, body = answered(scene, wanted)
    assert body.media_type == "application/json" and len(body.join()) == body.size
    found: dict[str, Any] = json.loads(body.join())
    return shown, found


def values(shown: Shown) -> dict[int, tuple[int, str]]:
    return {255: (1, "spot")} if shown.binary else {1: (1, "dim"), 2: (2, "bright")}


@pytest.mark.parametrize("wanted", OFFERS, ids=lambda wanted: f"{wanted.form}-{wanted.view}")
def test_the_same_image_always_gives_the_same_bytes(scene: Scene, wanted: Wanted) -> None:
    first, second = answered(scene, wanted)[1], answered(scene, wanted)[1]
    assert first.join() == second.join() and first.media_type == wanted.media_type


def test_a_picture_in_json_is_the_picture_itself(scene: Scene) -> None:
    for view in ("mask", "overlay", "probability"):
        _, found = read(scene, Wanted("json", view))
        assert tuple(found) == (view, *FACTS)
        assert base64.b64decode(found[view], validate=True) == answered(scene, Wanted("png", view))[1].join()


def test_the_facts_are_those_of_the_prediction(scene: Scene) -> None:
    shown, found = read(scene, Wanted("json"))
    fractions = shown.prediction.foreground_fractions
    assert {name: found[name] for name in FACTS} == {
        "width": 420,
        "height": 300,
        "confidence": shown.prediction.confidence,
        "foreground_fraction": fractions[0] if shown.binary else {"dim": fractions[0], "bright": fractions[1]},
        "classes": ["spot"] if shown.binary else ["background", "dim", "bright"],
        "model_version": "3",
        "request_id": "a1",
    }
    mask = shown.prediction.mask
    np.testing.assert_array_equal(decode_mask(base64.b64decode(found["mask"])), mask)
    assert 0 < np.count_nonzero(mask) < mask.size and base64.b64decode(found["mask"]) == encode_png(mask)


def test_an_overlay_is_of_the_image_and_its_mask(scene: Scene) -> None:
    shown, body = answered(scene, Wanted("png", "overlay"))
    assert body.join() == b"".join(encode_overlay(shown.rgb, shown.prediction.mask, binary=shown.binary))


def test_a_probability_cut_at_a_half_is_the_mask(scene: Scene) -> None:
    shown, body = answered(scene, Wanted("png", "probability", 16, "spot" if scene[0].spec.binary else "bright"))
    levels = cv2.imdecode(np.frombuffer(body.join(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert levels.dtype == np.uint16
    if shown.binary:
        np.testing.assert_array_equal(levels >= 32768, shown.prediction.mask > 0)
    else:
        expected = scene[0].probabilities(shown.rgb)[2]
        assert np.abs(levels / 65535 - expected).max() < 1e-5


def test_run_lengths_are_of_each_class_and_give_its_pixels(scene: Scene) -> None:
    shown, found = read(scene, Wanted("rle"))
    assert [(entry["category_id"], entry["category"]) for entry in found["rle"]] == list(values(shown).values())
    for entry, value in zip(found["rle"], values(shown), strict=True):
        np.testing.assert_array_equal(from_rle(entry, 300, 420), shown.prediction.mask == value)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_coco_results_are_read_by_coco_s_own_tool(scene: Scene) -> None:
    shown, found = read(scene, Wanted("coco"))
    truth = COCO()
    truth.dataset = {
        "images": [{"id": "a1", "width": 420, "height": 300}],
        "categories": [{"id": number, "name": name} for number, name in values(shown).values()],
        "annotations": [],
    }
    truth.createIndex()
    # Where there is a box, `loadRes` takes its area for the result's.
    without = [{name: value for name, value in result.items() if name != "bbox"} for result in found["coco"]]
    loaded, measured = truth.loadRes([dict(result) for result in found["coco"]]), truth.loadRes(without)
    assert len(loaded.anns) == len(measured.anns) == len(values(shown))
    for result, value in zip(found["coco"], values(shown), strict=True):
        inside = shown.prediction.mask == value
        (annotation,) = loaded.loadAnns(loaded.getAnnIds(catIds=[result["category_id"]]))
        (sized,) = measured.loadAnns(measured.getAnnIds(catIds=[result["category_id"]]))
        np.testing.assert_array_equal(loaded.annToMask(annotation), inside)
        y, x = np.nonzero(inside)
        assert result["area"] == sized["area"] == inside.sum()
        box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
        assert result["bbox"] == annotation["bbox"] == sized["bbox"].tolist() == box
        assert result["score"] == shown.prediction.confidence and result["image_id"] == "a1"


def test_contours_are_closed_rings_of_each_piece_with_its_class(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, found = read(scene, Wanted("contours"))
    covered = dict.fromkeys([name for _, name in values(shown).values()], 0)
    for piece in found["contours"]:
        assert all(ring[0] == ring[-1] and len(ring) > 4 for ring in piece["coordinates"])
        left, top, width, height = piece["bbox"]
        xs, ys = zip(*piece["coordinates"][0], strict=True)
        assert (min(xs), min(ys), max(xs), max(ys)) == (left, top, left + width, top + height)
        covered[piece["category"]] += piece["area"]
    assert covered == {name: int((shown.prediction.mask == v).sum()) for v, (_, name) in values(shown).items()}
    monkeypatch.setattr(descriptions, "_CORNERS_A_PIECE", 3)  # a large polygon is written in parts
    assert read(scene, Wanted("contours"))[1] == found
    corners = sum(len(ring) - 1 for piece in found["contours"] for ring in piece["coordinates"])
    monkeypatch.setattr(descriptions, "MOST_CORNERS", int(0.9 * corners))  # of all classes together
    with pytest.raises(NotAcceptableError):
        read(scene, Wanted("contours"))


def test_where_nothing_is_found_every_form_says_so(scene: Scene) -> None:
    predictor, _ = scene
    dark = np.zeros((40, 50, 3), np.uint8)
    shown, rle = read((predictor, dark), Wanted("rle"))
    assert not shown.prediction.mask.any()
    assert [entry["counts"] for entry in rle["rle"]] == [[2000]] * len(values(shown))
    assert read((predictor, dark), Wanted("coco"))[1]["coco"] == []
    assert read((predictor, dark), Wanted("contours"))[1]["contours"] == []


def test_names_of_any_letters_are_json(scene: Scene) -> None:
    shown, _ = answered(scene, Wanted("json"))
    names = ['"Zelle"\\ é 核', "b", "c"][: len(shown.class_names)]
    named = Shown(shown.rgb, shown.prediction, names, "3", 'a"1')
    for form in ("json", "rle", "coco", "contours"):
        found = json.loads(draw(Wanted(form), named).join())  # type: ignore[arg-type]
        assert (found["classes"], found["request_id"]) == (names, 'a"1')


MEASURE = """
    import sys
    import numpy as np
    from peak_memory import peak_bytes
    from serving.pictures.accept import Wanted
    from serving.pictures.answers import Shown, draw, gather
    from serving.predictor import Prediction

    side, form, view = 5000, *sys.argv[1:]
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[:, ::3] = 255                                  # 8 million runs
    if form == "contours":
        mask[:, 1000:] = 0
        mask[::16, :1000] = 0                           # 420,000 corners
    prediction = Prediction(mask, side, side, [0.3], 0.9, 0.9, {}, {}, np.zeros(64, np.float32), "onnxruntime")
    wanted = Wanted(form, view, 16)
    gathered = gather(wanted, side, side, ["spot"])
    warm = Prediction(mask[:64, :64].copy(), 64, 64, *[getattr(prediction, n) for n in list(Prediction.__slots__)[3:]])
    draw(wanted, Shown(rgb[:64, :64], warm, ["spot"], "1", "a"), gather(wanted, 64, 64, ["spot"]))
    if gathered is not None:
        gathered.levels[:] = 7
    before = peak_bytes()
    body = draw(wanted, Shown(rgb, prediction, ["spot"], "1", "a"), gathered)
    print(peak_bytes() - before - body.size)
"""


@pytest.mark.parametrize(
    ("form", "view"),
    [
        ("png", "overlay"),
        ("json", "overlay"),
        ("png", "probability"),
        ("rle", "mask"),
        ("coco", "mask"),
        ("contours", "mask"),
    ],
)
def test_a_large_image_needs_no_second_one_beside_it(form: str, view: str, tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(textwrap.dedent(MEASURE))
    done = subprocess.run(
        [sys.executable, str(script), form, view],
        env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The image has 75 MB, a copy of it in any other form as much or more; its mask 25.
    assert int(done.stdout) < 45e6

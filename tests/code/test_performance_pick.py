"""From a pick to figures: images are chosen, their drafts corrected, sent as labels, and measured."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drift_scene import reference_frame, register
from mlflow import MlflowClient
from performance_scene import WEEK, Scene, Typed, mask_of
from records_rows import prediction
from sqlalchemy import select

from monitoring.performance import candidates, version_files
from monitoring.performance.distance import ReferenceSpace
from monitoring.performance.estimated import image_intervals
from monitoring.performance.version_files import HeldOutScores
from monitoring.performance.window import measured
from pipelines.data.dataset import load, read_dataset
from records.picks import audit_draws, picks

UNTIL = ("--until", WEEK.end.isoformat())


class Watched:
    """A scene with a registered version, whose answers are kept with their images."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.model = f"model of {scene.folder.name}"
        client = MlflowClient(tracking_uri=scene.tracking_uri, registry_uri=scene.tracking_uri)
        rng = np.random.default_rng(0)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(scene.store)
            self.version = register(client, self.model, reference_frame(rng, 60))

    def answer(self, count: int, keep_images: float = 1.0, start: int = 0, away: float = 0.0) -> None:
        rng = np.random.default_rng(start)
        rows = []
        for place in range(start, start + count):
            name = f"r{place:03}"
            png = cv2.imencode(".png", rng.integers(0, 255, (20, 20, 3), dtype=np.uint8))[1]
            guess = {"foreground_fraction": 0.5, "component_count": 1, "boundary_uncertainty": rng.random()}
            fields: dict[str, Any] = self.scene.fields(name) | {
                "model_name": self.model,
                "model_version": self.version,
                "model_digest": "",
                "slice": "lung" if place % 2 else None,
                "image": bytes(png),
                "embedding": rng.normal(away, size=64).astype("<f4").tobytes(),
                "prediction_descriptors": guess | {"confidence": rng.uniform(0.3, 1)},
            }
            rows.append(prediction(name, **fields))
        self.scene.log(rows, keep_images)

    def typed(self, *words: str) -> Typed:
        return self.scene.typed(*words, "--model", self.model)

    def pick(self, out: Path, *words: str) -> Typed:
        return self.typed("pick", "--out", str(out), *UNTIL, *words)


@pytest.fixture
def watching(watched_lite: Scene) -> Watched:
    return Watched(watched_lite)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_picked_images_are_corrected_labelled_and_measured(watching: Watched) -> None:
    watching.answer(60)
    out = watching.scene.folder / "to label"
    done = watching.pick(out, "--n", "20", "--random", "0.4")
    assert done.code == 0, done.err
    assert "drawn at random" in done.out and f"label --csv {out / 'labels.csv'}" in done.out

    # A data set as training reads it.
    samples = read_dataset(out).samples
    assert len(samples) == 20 and all(sample.mask is not None for sample in samples)
    assert np.array_equal(load(samples[0])[1] > 0, mask_of(10) > 0)
    told = {row["request_id"]: row for row in table(out / "metadata.csv")}
    assert sum(row["source"] == "audit" for row in told.values()) == 8
    assert all(0 < float(row["probability"]) <= 1 and float(row["distance"]) > 0 for row in told.values())
    assert {row["model_version"] for row in told.values()} == {watching.version}
    assert {(row["dice_low"], row["dice_high"]) for row in told.values()} == {("", "")}  # it was not evaluated

    # Nobody has touched the drafts: none of them counts.
    labels = str(out / "labels.csv")
    untouched = watching.typed("label", "--csv", labels)
    assert untouched.code == 2 and "20 of 20 rows were refused" in untouched.err

    for mask in (out / "masks").iterdir():
        cv2.imwrite(str(mask), mask_of(5))
    assert watching.typed("label", "--csv", labels).code == 0
    engine = watching.scene.engine
    (audits,) = measured(engine, watching.model, WEEK)
    (every,) = measured(engine, watching.model, WEEK, picked=True)
    engine.dispose()
    assert (audits.images, every.images, every.weighted) == (8, 20, True)
    assert audits.dice.mean == pytest.approx(2 / 3) == every.dice.mean
    shown = watching.typed("performance", *UNTIL, "--picked")
    assert shown.code == 0 and "0.667" in shown.out


def test_between_what_the_dice_of_a_picked_image_lies_is_told(
    watching: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.answer(20)
    tested = HeldOutScores(np.linspace(0.5, 0.9, 30), np.linspace(0.4, 0.8, 30), (None,) * 30)
    monkeypatch.setattr(version_files, "held_out_scores", lambda *_: tested)
    out = watching.scene.folder / "out"
    assert watching.pick(out, "--n", "10").code == 0
    near = [row for row in table(out / "metadata.csv") if "outside" not in row["why"]]
    assert len(near) > 4
    for row in near:
        low, high = image_intervals([float(row["confidence"])], tested)
        assert (float(row["dice_low"]), float(row["dice_high"])) == pytest.approx((low[0], high[0]), rel=1e-3)
        assert low[0] < float(row["confidence"]) < high[0]


def test_of_an_image_far_from_the_reference_no_dice_is_told(watching: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watching.answer(20)
    watching.answer(10, start=20, away=9.0)
    tested = HeldOutScores(np.linspace(0.5, 0.9, 30), np.linspace(0.4, 0.8, 30), (None,) * 30)
    monkeypatch.setattr(version_files, "held_out_scores", lambda *_: tested)
    out = watching.scene.folder / "out"
    space = ReferenceSpace(np.random.default_rng(3).normal(size=(200, 64)).astype(np.float32))
    monkeypatch.setattr(version_files, "reference_space", lambda *_: space)
    assert watching.pick(out, "--n", "20", "--random", "0.5", "--seed", "0").code == 0
    rows = table(out / "metadata.csv")
    far = [row for row in rows if float(row["distance"]) > space.radius]
    assert {row["request_id"] >= "r020" for row in far} == {True} and {row["source"] for row in far} == {
        "audit",
        "picked",
    }
    assert all((row["dice_low"], row["dice_high"]) == ("", "") for row in far)
    assert all(row["why"].endswith("outside what can be estimated") for row in far)
    others = [row for row in rows if row not in far]
    assert others and all(0 <= float(row["dice_low"]) < float(row["dice_high"]) <= 1 for row in others)
    assert not any("outside" in row["why"] for row in others)


def test_how_probably_audits_were_drawn_is_noted(watching: Watched) -> None:
    watching.answer(60)
    assert watching.pick(watching.scene.folder / "some", "--n", "20", "--random", "0.3").code == 0
    assert watching.pick(watching.scene.folder / "none", "--n", "20", "--random", "0").code == 0
    assert watching.pick(watching.scene.folder / "rest", "--n", "100").code == 0
    engine = watching.scene.engine
    with engine.connect() as connection:
        noted = connection.execute(select(audit_draws)).mappings().all()
    engine.dispose()
    # The second has drawn none, and left none of the first's audits out of the third.
    assert sorted(one["rate"] for one in noted) == [pytest.approx(6 / 60), 1.0]
    assert {one["model_version"] for one in noted} == {watching.version}
    assert {one["routes"] for one in noted} == {"production,canary,shadow"}


def test_probabilities_are_noted_without_the_request(watching: Watched) -> None:
    watching.answer(40)
    out = watching.scene.folder / "out"
    assert watching.pick(out, "--n", "10").code == 0
    engine = watching.scene.engine
    with engine.connect() as connection:
        noted = connection.execute(select(picks)).mappings().all()
    engine.dispose()
    told = {row["file"].partition(".")[0]: row for row in table(out / "metadata.csv")}
    assert {row["answer_id"][:16] for row in noted} == set(told)
    for row in noted:
        assert row["probability"] == pytest.approx(float(told[row["answer_id"][:16]]["probability"]), rel=1e-4)
        assert not any("r0" in str(row[name]) for name in ("why", "pick_id", "source"))


def test_a_second_pick_brings_other_images(watching: Watched) -> None:
    watching.answer(60)
    seen: list[set[str]] = []
    for place in range(3):
        out = watching.scene.folder / f"out{place}"
        assert watching.pick(out, "--n", "15", "--random", "0").code == 0
        seen.append({row["request_id"] for row in table(out / "labels.csv")})
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_without_kept_images_it_says_what_to_set(watching: Watched) -> None:
    empty = watching.pick(watching.scene.folder / "out")
    assert empty.code == 2 and "holds no answers" in empty.err
    watching.answer(5, keep_images=0.0)
    none = watching.pick(watching.scene.folder / "out")
    assert none.code == 2 and "RESUNET_KEEP_IMAGES" in none.err and "of 5 answers" in none.err
    watching.answer(3, start=100)
    few = watching.pick(watching.scene.folder / "out")
    assert few.code == 0 and "3 of 8 answers" in few.out and "fewer than the 50" in few.out


def test_of_many_a_sample_is_looked_at_and_probabilities_say_so(
    watching: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "MOST", 20)
    watching.answer(40)
    out = watching.scene.folder / "out"
    done = watching.pick(out, "--n", "10", "--random", "1")
    assert done.code == 0 and "40 of 40 answers" in done.out and "A random sample" in done.out
    engine = watching.scene.engine
    with engine.connect() as connection:
        assert list(connection.scalars(select(picks.c.probability))) == [pytest.approx(10 / 40)] * 10
    engine.dispose()


def test_an_image_whose_mask_is_gone_is_not_picked(watching: Watched) -> None:
    watching.answer(3)
    next((watching.scene.home / "masks").rglob("*.json.gz")).unlink()
    done = watching.pick(watching.scene.folder / "out")
    assert done.code == 0 and "2 of 3 answers" in done.out


def test_a_folder_that_holds_something_is_left_alone(watching: Watched) -> None:
    out = watching.scene.folder / "out"
    out.mkdir()
    (out / "mask.png").write_bytes(b"mine")
    watching.answer(5)
    done = watching.pick(out)
    assert done.code == 2 and "holds something already" in done.err
    assert [path.name for path in out.iterdir()] == ["mask.png"]

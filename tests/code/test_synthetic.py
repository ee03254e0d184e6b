import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock

from pipelines.data.dataset import load, read_dataset
from pipelines.data.prepare import prepare
from pipelines.data.synthetic import Drawing, Knobs, draw, draw_described, generate
from resunet.errors import DataError, SettingsError

SMALL = Knobs(size=(64, 96))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.*"))}


def test_a_generated_folder_is_a_sound_data_set_with_slices(tmp_path: Path) -> None:
    generate(tmp_path / "set", 80, knobs=SMALL)
    report = prepare(tmp_path / "set")
    assert not report.refused
    assert report.near_duplicate_pairs == 0
    assert report.class_names == ("foreground",)
    assert {name.partition("=")[0] for name in report.slices} == {"stain", "density"}
    assert 0.5 < sum(report.slices["stain=fluorescence"].values()) / 80 < 0.8
    rgb, mask = load(read_dataset(tmp_path / "set").samples[0])
    assert rgb.shape[:2] == mask.shape and set(np.unique(mask)) == {0, 1}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    generate(tmp_path / "a", 6, seed=3, knobs=SMALL)
    generate(tmp_path / "b", 6, seed=3, knobs=SMALL)
    generate(tmp_path / "c", 6, seed=4, knobs=SMALL)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not set(files(tmp_path / "a").values()) & set(files(tmp_path / "c").values())


def test_asking_for_more_images_keeps_those_that_were_there(tmp_path: Path) -> None:
    generate(tmp_path / "few", 5, knobs=SMALL)
    generate(tmp_path / "many", 9, knobs=SMALL)
    few, many = files(tmp_path / "few"), files(tmp_path / "many")
    images = [name for name in few if name.startswith(("images", "masks"))]
    assert len(images) == 10
    assert all(few[name] == many[name] for name in images)


def test_generating_again_replaces_what_was_generated_and_keeps_its_groups(tmp_path: Path) -> None:
    root = tmp_path / "set"
    generate(root, 9, knobs=SMALL)
    (root / "groups.csv").write_text("file,group\nimages/000000.png,g\n")
    generate(root, 4, seed=1, knobs=SMALL)
    assert len(list((root / "images").iterdir())) == len(list((root / "masks").iterdir())) == 4
    assert (root / "groups.csv").exists()
    assert json.loads((root / "synthetic.json").read_text())["seed"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"set", ".set.lock"}


def test_asking_again_for_what_is_there_leaves_it_to_those_who_read_it(tmp_path: Path) -> None:
    root = tmp_path / "set"
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(generate, root, 6, knobs=SMALL) for _ in range(4)]:
            done.result()
    first = root.stat().st_ino
    generate(root, 6, knobs=SMALL)
    assert root.stat().st_ino == first
    (root / "images/000003.png").unlink()
    generate(root, 6, knobs=SMALL)
    assert (root / "images/000003.png").is_file()


def test_a_folder_of_something_else_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="choose another folder"):
        generate(tmp_path, 2, knobs=SMALL)
    assert files(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that even root cannot write to")
@pytest.mark.parametrize("words", [["synthesize"], ["download", "--url", "http://127.0.0.1:9/x.zip"]])
def test_a_folder_that_cannot_be_written_is_told_at_once(words: list[str]) -> None:
    command = [sys.executable, "-m", "pipelines", *words, "/proc/x"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2 and "cannot be written (No such file or directory)" in " ".join(ran.stderr.split())


def test_a_folder_that_another_process_draws_is_waited_for(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with FileLock(tmp_path / ".set.lock"):
            drawing = pool.submit(generate, tmp_path / "set", 1, knobs=SMALL)
            with pytest.raises(TimeoutError):
                drawing.result(timeout=0.3)
            assert not (tmp_path / "set").exists()
        drawing.result(timeout=60)
    assert (tmp_path / "set").is_dir()


def test_files_that_were_added_or_changed_are_named_and_never_lost(tmp_path: Path) -> None:
    root = tmp_path / "set"

    def refused(name: str, content: bytes, words: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        before = files(root)
        for seed in (0, 1):
            with pytest.raises(DataError, match=rf"{name} was {words}.*; move it, or choose another folder"):
                generate(root, 3, seed, SMALL)
        assert files(root) == before

    generate(root, 3, knobs=SMALL)
    drawn = files(root)
    for name in ("images/mine.png", "masks/mine.png", "thesis.txt", "notes/thesis.txt"):
        refused(name, b"mine", "not drawn here")
        (root / name).unlink()
    (root / "notes").rmdir()
    for name in ("metadata.csv", "images/000001.png", "synthetic.json"):
        refused(name, drawn[name] + b"mine", "changed since")
        (root / name).write_bytes(drawn[name])
    generate(root, 3, knobs=SMALL)
    assert files(root) == drawn


def test_what_is_put_into_the_folder_while_it_is_drawn_anew_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    generate(root, 2, knobs=SMALL)

    def draw_slowly(rng: np.random.Generator, knobs: Knobs) -> Drawing:
        (root / "images/mine.png").write_bytes(b"mine")
        return draw_described(rng, knobs)

    monkeypatch.setattr("pipelines.data.synthetic.draw_described", draw_slowly)
    with pytest.raises(DataError, match=r"mine\.png was not drawn here"):
        generate(root, 2, 1, SMALL)
    assert (root / "images/mine.png").read_bytes() == b"mine"


def test_a_folder_of_an_earlier_release_is_used_as_it_is_and_not_replaced(tmp_path: Path) -> None:
    root = tmp_path / "set"
    generate(root, 3, knobs=SMALL)
    (root / "synthetic.sha256").unlink()
    before = files(root)
    generate(root, 3, knobs=SMALL)
    for count in (2, 4):
        with pytest.raises(DataError, match=r"has no synthetic\.sha256, .* choose another folder"):
            generate(root, count, knobs=SMALL)
    assert files(root) == before


@pytest.mark.parametrize("stain", ["fluorescence", "histology"])
def test_knobs_change_what_they_are_named_after(stain: str) -> None:
    def drawn(**knobs: float) -> np.ndarray:
        settings = {"stain": stain, "size": (96, 96), "noise": 0.0, **knobs}
        return np.stack([draw(np.random.default_rng((0, i)), Knobs(**settings))[0] for i in range(6)])

    def sharpness(images: np.ndarray) -> float:
        return float(np.mean([cv2.Laplacian(image[..., 1].astype(float), cv2.CV_64F).var() for image in images]))

    plain = drawn()
    assert drawn(brightness=0.5).mean() == pytest.approx(plain.mean() / 2, rel=0.1)
    assert sharpness(drawn(blur=2.0)) < sharpness(plain) / 3
    assert np.std(drawn(noise=12.0).astype(float) - plain) == pytest.approx(12, rel=0.35)
    counts = [
        sum(
            draw(np.random.default_rng((0, i)), Knobs(stain=stain, size=(96, 96), density=density))[1].mean()
            for i in range(6)
        )
        for density in (0.5, 1.0, 2.0)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_knobs_other_than_density_leave_the_nuclei_where_they_are() -> None:
    for number in range(4):
        plain = draw(np.random.default_rng(number), SMALL)[1]
        for knobs in (Knobs(size=(64, 96), brightness=0.5), Knobs(size=(64, 96), blur=3, noise=20)):
            assert np.array_equal(draw(np.random.default_rng(number), knobs)[1], plain)


def test_the_stains_look_like_what_they_are() -> None:
    for number in range(5):
        bright = draw_described(np.random.default_rng(number), Knobs(stain="fluorescence"))
        dark = draw_described(np.random.default_rng(number), Knobs(stain="histology"))
        assert np.median(bright.rgb) < 60 and np.array_equal(bright.rgb[..., 0], bright.rgb[..., 2])
        assert np.median(dark.rgb) > 130
        inside, outside = dark.rgb[dark.mask == 1].mean(axis=0), dark.rgb[dark.mask == 0].mean(axis=0)
        assert (inside < outside - 25).all()
        assert inside[2] > inside[0] > inside[1]


def test_the_task_is_neither_trivial_nor_hopeless_for_a_threshold() -> None:
    scores = []
    for number in range(30):
        rgb, mask = draw(np.random.default_rng((2, number)), Knobs(stain="fluorescence"))
        found = cv2.threshold(rgb[..., 0], 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1]
        scores.append(2 * (found & mask).sum() / (found.sum() + mask.sum()))
    assert 0.5 < np.mean(scores) < 0.93


def test_drawn_sizes_stay_within_the_bounds_and_the_smallest_size_works() -> None:
    shapes = {draw(np.random.default_rng(n), Knobs(size=(100, 140)))[1].shape for n in range(20)}
    assert {side for shape in shapes for side in shape} == {100, 128, 140}
    rgb, mask = draw(np.random.default_rng(0), Knobs(size=(16, 16)))
    assert rgb.shape == (16, 16, 3) and mask.shape == (16, 16)


@pytest.mark.parametrize(
    "wrong",
    [
        {"stain": "gram"},
        {"size": (8, 64)},
        {"size": (96, 64)},
        {"blur": -1.0},
        {"brightness": 0.0},
        {"noise": float("nan")},
    ],
)
def test_knobs_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        Knobs(**wrong)  # type: ignore[arg-type]


def test_no_image_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="count"):
        generate(tmp_path / "set", 0)


def test_a_negative_seed_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="seed must be 0 or more, not -1"):
        generate(tmp_path / "set", 1, seed=-1)
    assert not list(tmp_path.iterdir())


def test_metadata_describes_each_image(tmp_path: Path) -> None:
    generate(tmp_path / "set", 5, knobs=SMALL)
    with (tmp_path / "set/metadata.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == [f"{n:06d}.png" for n in range(5)]
    assert {row["density"] for row in rows} <= {"sparse", "normal", "dense"}

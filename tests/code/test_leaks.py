"""No test image was trained on: not the same, not a changed copy, not another of its group."""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataset_factory import add, group_in, make, picture, write
from PIL import Image
from rich.console import Console
from version_factory import write_version

from pipelines.data.data_step import PreparedData
from pipelines.data.leaks import Leaks, find_leaks, refuse_leaks, trained_rows
from pipelines.data.manifest import write_manifest
from pipelines.data.prepare import prepare
from pipelines.runs.evaluate_version import evaluate_version
from resunet.errors import DataError
from serving.version import MANIFEST_FILE


def prepared(root: Path, where: str | None = None) -> PreparedData:
    report = prepare(root, where=where)
    assert not report.refused, report.problems
    return PreparedData(root, report.dataset, report.manifest, report, where or "")


def rows_of_test(data: PreparedData) -> pd.DataFrame:
    return data.manifest[data.manifest["split"] == "test"]


def test_a_data_set_leaks_nothing_into_its_own_test_split(tmp_path: Path) -> None:
    data = prepared(make(tmp_path, 60))
    assert find_leaks(rows_of_test(data), trained_rows([data.manifest]), data) == Leaks()
    assert find_leaks(rows_of_test(data), trained_rows([data.manifest])) == Leaks()


def test_validation_images_count_as_trained_on_and_test_images_do_not(tmp_path: Path) -> None:
    data = prepared(make(tmp_path))
    assert set(trained_rows([data.manifest, data.manifest])["split"]) == {"train", "validation"}


def changed_copies(rgb: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "darker": np.asarray(rgb * 0.7, np.uint8),
        "half size": np.asarray(Image.fromarray(rgb).resize((48, 48), Image.Resampling.BOX)),
        "turned": np.ascontiguousarray(np.rot90(rgb)),
    }


def version_and_next(root: Path, kind: str) -> tuple[pd.DataFrame, PreparedData, str]:
    """What a version was trained on, and the same images all changed, one of which is now in the test split."""
    pictures = {f"p{number:03d}": picture(number, 96, 96) for number in range(40)}
    for stem, rgb in pictures.items():
        add(root / "then", stem, rgb)
        add(root / "now", stem, changed_copies(rgb)[kind])
    then, now = prepared(root / "then"), prepared(root / "now")
    trained = trained_rows([then.manifest])
    moved = set(rows_of_test(now)["path"]) & set(trained["path"])
    assert moved
    return trained, now, min(moved)


@pytest.mark.parametrize("kind", ["darker", "half size", "turned"])
def test_a_file_that_was_saved_anew_is_the_copy_it_is(tmp_path: Path, kind: str) -> None:
    trained, now, moved = version_and_next(tmp_path, kind)
    leaks = find_leaks(rows_of_test(now), trained, now)
    assert not leaks.same and (moved, moved) in leaks.changed
    assert {path for path, _ in leaks.changed} == set(rows_of_test(now)["path"]) & set(trained["path"])
    assert leaks.doubtful == ()
    # Without the data set a manifest's hash is all there is, and that is of one orientation.
    assert bool(find_leaks(rows_of_test(now), trained).changed) == (kind != "turned")


def test_a_copy_under_another_name_is_said_but_proves_nothing(tmp_path: Path) -> None:
    trained, now, moved = version_and_next(tmp_path, "darker")
    trained = trained.assign(path="images/other-" + trained["path"].str.removeprefix("images/"))
    leaks = find_leaks(rows_of_test(now), trained, now)
    assert leaks.changed == () and (moved, moved.replace("images/", "images/other-")) in leaks.doubtful
    shown = io.StringIO()
    refuse_leaks(leaks, "version 3", Console(file=shown, width=60), "Do better")
    assert f"{moved} = images/other-" in shown.getvalue() and "by a hash alone" in shown.getvalue()
    refuse_leaks(leaks, "version 3", None, "Do better")


def test_where_both_files_are_at_hand_they_are_compared_whatever_they_are_called(tmp_path: Path) -> None:
    # Trained on one slice, tested on the other: `prepare` has compared no image of one with any of the other.
    rows = ["file,stain"]
    for number in range(80):
        rgb = picture(number % 40, 96, 96)
        name = f"{'ab'[number >= 40]}{number:03d}"
        add(tmp_path, name, rgb if number < 40 else changed_copies(rgb)["turned"])
        rows.append(f"{name}.png,{'ab'[number >= 40]}")
    write(tmp_path / "metadata.csv", "\n".join(rows) + "\n")
    then, now = prepared(tmp_path, "stain=a"), prepared(tmp_path, "stain=b")
    trained = trained_rows([then.manifest])
    expected = {
        (f"images/b{number:03d}.png", f"images/a{number - 40:03d}.png")
        for number in range(40, 80)
        if f"images/b{number:03d}.png" in set(rows_of_test(now)["path"])
        and f"images/a{number - 40:03d}.png" in set(trained["path"])
    }
    assert expected and set(find_leaks(rows_of_test(now), trained, now).changed) == expected
    # A hash that is close by chance is not held against an image whose look says otherwise.
    close = trained.assign(phash=rows_of_test(now)["phash"].iloc[0])
    assert len(find_leaks(rows_of_test(now), close, now).changed) <= 1
    assert find_leaks(rows_of_test(now), close, now).doubtful == ()


def test_images_with_nothing_in_them_are_not_held_against_each_other(tmp_path: Path) -> None:
    data = prepared(make(tmp_path))
    blank = trained_rows([data.manifest]).assign(phash="8000000000000000", pixels="x", sha256="x")
    test = rows_of_test(data).assign(phash="8000000000000000")
    assert find_leaks(test, blank) == Leaks()


def test_a_group_that_was_trained_on_is_refused_also_without_the_image(tmp_path: Path) -> None:
    data = prepared(make(tmp_path))
    test = rows_of_test(data).assign(group="patient 7")
    trained = trained_rows([data.manifest]).assign(group="patient 7")
    assert find_leaks(test, trained).grouped == tuple(test["path"])
    anchor = "pixels:" + trained["pixels"].iloc[0]
    assert find_leaks(test.assign(group=anchor), trained).grouped == tuple(test["path"])
    assert find_leaks(test.assign(group=None), trained.assign(group=None)) == Leaks()


def test_an_image_that_is_gone_still_stands_for_its_group_in_the_tables(tmp_path: Path) -> None:
    then = prepared(make(tmp_path, 40))
    first = trained_rows([then.manifest])["path"].iloc[0].removeprefix("images/")
    add(tmp_path, "new", picture(99))
    group = group_in("test")
    write(tmp_path / "metadata.csv", f"file,group\n{first},{group}\nnew.png,{group}\n")
    (tmp_path / "images" / first).unlink()
    (tmp_path / "masks" / first).unlink()
    now = prepared(tmp_path)
    trained = trained_rows([then.manifest])
    assert find_leaks(rows_of_test(now), trained, now).grouped == ("images/new.png",)
    # In another data set a name means nothing.
    elsewhere = trained.assign(pixels=[f"{n:064x}" for n in range(len(trained))], phash="0" * 16, group=None)
    assert find_leaks(rows_of_test(now), elsewhere, now) == Leaks()


def test_a_name_is_the_same_in_both_of_its_normal_forms(tmp_path: Path) -> None:
    trained, now, moved = version_and_next(tmp_path, "darker")
    composed = rows_of_test(now).assign(path=rows_of_test(now)["path"].str.replace("p", "\u00e9", n=1))
    leaks = find_leaks(composed, trained.assign(path=trained["path"].str.replace("p", "e\u0301", n=1)))
    assert (moved.replace("p", "\u00e9", 1), moved.replace("p", "e\u0301", 1)) in leaks.changed

    root = make(tmp_path / "gone", 40)
    then = prepared(root).manifest
    first = trained_rows([then])["path"].iloc[0].removeprefix("images/")
    add(root, "new", picture(99))
    group = group_in("test")
    write(root / "metadata.csv", f"file,group\ne\u0301{first},{group}\nnew.png,{group}\n")
    (root / "images" / first).unlink()
    (root / "masks" / first).unlink()
    now = prepared(root)
    trained = trained_rows([then]).replace({"path": {f"images/{first}": f"images/e\u0301{first}"}})
    assert find_leaks(rows_of_test(now), trained, now).grouped == ("images/new.png",)


def test_what_was_trained_on_is_refused_with_each_reason_and_what_to_do(tmp_path: Path) -> None:
    leaks = Leaks(("a.png",), ("b.png", "c.png"), (("d.png", "e.png"),), ())
    with pytest.raises(DataError) as refused:
        refuse_leaks(leaks, "version 3", None, "Train without a parent")
    for words in ("1 test images", "first: a.png", "2 test images are of a group", "d.png = e.png", "Train without"):
        assert words in str(refused.value)


def test_the_pixels_themselves_are_refused_whatever_the_file_is_called(tmp_path: Path) -> None:
    then = prepared(make(tmp_path / "then", 40))
    (tmp_path / "now/images").mkdir(parents=True)
    shutil.copytree(tmp_path / "then/masks", tmp_path / "now/masks")
    for mask in (tmp_path / "now/masks").iterdir():
        mask.rename(mask.with_name(f"renamed-{mask.name}"))
    for image in (tmp_path / "then/images").iterdir():
        shutil.copy(image, tmp_path / "now/images" / f"renamed-{image.name}")
    now = prepared(tmp_path / "now")
    leaks = find_leaks(rows_of_test(now), trained_rows([then.manifest.assign(split="train")]), now)
    assert leaks.same == tuple(rows_of_test(now)["path"])


def test_evaluate_refuses_what_it_finds_says_its_doubts_and_takes_slices(tmp_path: Path) -> None:
    trained, now, moved = version_and_next(tmp_path, "darker")
    write(tmp_path / "now/metadata.csv", "file,serial\n" + "".join(f"p{n:03d}.png,{n}\n" for n in range(40)))
    version, data = tmp_path / "version", str(tmp_path / "now")
    write_version(version)
    write_manifest(trained, version / MANIFEST_FILE)
    with pytest.raises(DataError, match=rf"changed copies .*this version.*{moved}"):
        evaluate_version(str(version), data)
    other = trained.assign(path="images/other-" + trained["path"].str.removeprefix("images/"))
    write_manifest(other, version / MANIFEST_FILE)
    shown = io.StringIO()
    evaluation = evaluate_version(str(version), data, console=Console(file=shown, width=200), slices="serial")
    assert "by a hash alone" in shown.getvalue()
    assert set(evaluation.slices) == {f"serial={int(path[-7:-4])}" for path in rows_of_test(now)["path"]}

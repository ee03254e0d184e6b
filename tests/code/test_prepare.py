import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_factory import add, blob, changed, group_in, make, picture, save, write
from PIL import Image
from rich.console import Console

from pipelines.data.dataset import read_dataset
from pipelines.data.manifest import examine
from pipelines.data.prepare import prepare
from pipelines.data.problems import Problem
from resunet.errors import DataError

PROJECT = Path(__file__).resolve().parents[2]
NUCLEI = PROJECT.parent / "shared/data/nuclei"


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sound"))


def no_mask(root: Path) -> None:
    (root / "masks/p003.png").unlink()


def no_image(root: Path) -> None:
    (root / "images/p003.png").unlink()


def two_of_a_stem(root: Path) -> None:
    Image.fromarray(picture(77)).save(root / "images/p003.jpg")


def unreadable_image(root: Path) -> None:
    whole = (root / "images/p003.png").read_bytes()
    (root / "images/p003.png").write_bytes(whole[: len(whole) // 2])


def unreadable_mask(root: Path) -> None:
    (root / "masks/p003.png").write_bytes(b"no image")


def other_size(root: Path) -> None:
    save(root / "masks/p003.png", blob(48, 50))


def smoothed_mask(root: Path) -> None:
    save(root / "masks/p003.png", np.tile(np.arange(48, dtype=np.uint8) * 5, (48, 1)))


def class_out_of_range(root: Path) -> None:
    write(root / "classes.txt", "background\nnucleus\nmembrane\n")
    for mask in (root / "masks").iterdir():
        save(mask, blob(value=2))
    save(root / "masks/p003.png", blob(value=3))


def contradictory_masks(root: Path) -> None:
    add(root, "copy", picture(3), blob(value=0))


def copies_across_splits(root: Path) -> None:
    add(root, "copy", picture(3))
    write(root / "groups.csv", f"file,group\np003.png,{group_in('train')}\ncopy.png,{group_in('test')}\n")


def near_copies_across_splits(root: Path) -> None:
    add(root, "copy", changed(picture(3)))
    write(root / "groups.csv", f"file,group\np003.png,{group_in('train')}\ncopy.png,{group_in('test')}\n")


def group_taken_apart(root: Path) -> None:
    write(root / "metadata.csv", "file,group\np003.png,slide\np004.png,slide\n")
    write(root / "groups.csv", f"file,group\np003.png,{group_in('train')}\np004.png,{group_in('test')}\n")


def one_group(root: Path) -> None:
    names = sorted(path.name for path in (root / "images").iterdir())
    write(root / "metadata.csv", "file,group\n" + "".join(f"{n},{group_in('train')}\n" for n in names))


def empty_mask(root: Path) -> None:
    save(root / "masks/p003.png", blob(value=0))


def class_in_one_image(root: Path) -> None:
    for mask in (root / "masks").iterdir():
        save(mask, blob(value=2 if mask.stem == "p003" else 1))


def one_mask_of_indices_among_0_and_255(root: Path) -> None:
    mask = blob(value=1)
    mask[0, 0] = 2
    save(root / "masks/p003.png", mask)


def one_mask_of_0_and_255_among_indices(root: Path) -> None:
    for mask in (root / "masks").iterdir():
        save(mask, blob(value=1 + int(mask.stem[1:]) % 2))
    save(root / "masks/p003.png", blob())


def stray_class_index(root: Path) -> None:
    for mask in (root / "masks").iterdir():
        save(mask, blob(value=1))
    stray = blob(value=1)
    stray[0, 0] = 2
    save(root / "masks/p003.png", stray)


def slice_in_one_image(root: Path) -> None:
    write(root / "metadata.csv", "file,stain\np003.png,rare\n")


def column_of_many_values(root: Path) -> None:
    write(root / "metadata.csv", "file,serial\n" + "".join(f"p{i:03d}.png,s{i}\n" for i in range(24)))


def copies(root: Path) -> None:
    add(root, "copy", picture(3))


def near_copies_in_one_split(root: Path) -> None:
    add(root, "copy", changed(picture(3)))
    write(
        root / "groups.csv",
        f"file,group\np003.png,{group_in('train')}\ncopy.png,{group_in('train', but=group_in('train'))}\n",
    )


def stray_file(root: Path) -> None:
    write(root / "images/notes.txt", "")


def row_without_image(root: Path) -> None:
    write(root / "metadata.csv", "file,note\ngone.png,x\n")


BROKEN: list[tuple[Callable[[Path], None], str, str, str]] = [
    (no_mask, "image without mask", "refuse", "images/p003.png"),
    (no_image, "mask without image", "refuse", "masks/p003.png"),
    (two_of_a_stem, "stem clash", "refuse", "images/p003.jpg"),
    (unreadable_image, "unreadable", "refuse", "images/p003.png"),
    (unreadable_mask, "unreadable", "refuse", "images/p003.png"),
    (other_size, "size mismatch", "refuse", "images/p003.png"),
    (smoothed_mask, "mask values", "refuse", "images/p003.png"),
    (class_out_of_range, "mask values", "refuse", "images/p003.png"),
    (one_mask_of_indices_among_0_and_255, "mask values", "refuse", "images/p003.png"),
    (one_mask_of_0_and_255_among_indices, "mask values", "refuse", "images/p003.png"),
    (stray_class_index, "rare class", "warn", "images/p003.png"),
    (contradictory_masks, "contradictory masks", "refuse", "images/copy.png = images/p003.png"),
    (copies_across_splits, "exact duplicates across splits", "refuse", "images/copy.png = images/p003.png"),
    (near_copies_across_splits, "near-duplicates across splits", "refuse", "images/copy.png = images/p003.png"),
    (group_taken_apart, "group across splits", "refuse", "images/p004.png"),
    (one_group, "empty validation split", "refuse", ""),
    (one_group, "empty test split", "refuse", ""),
    (empty_mask, "empty mask", "warn", "images/p003.png"),
    (class_in_one_image, "class missing from split", "warn", ""),
    (slice_in_one_image, "slice missing from split", "warn", ""),
    (column_of_many_values, "slice column ignored", "warn", ""),
    (copies, "exact duplicates", "warn", "images/copy.png = images/p003.png"),
    (near_copies_in_one_split, "near-duplicates", "warn", "images/copy.png = images/p003.png"),
    (stray_file, "ignored files", "warn", "images/notes.txt"),
    (row_without_image, "metadata without image", "warn", "gone.png"),
]


def test_a_sound_data_set_has_no_problems(sound: Path) -> None:
    report = prepare(sound)
    assert report.problems == ()
    assert not report.refused
    report.raise_if_refused()
    assert sum(report.splits.values()) == report.images == 24
    assert report.classes == {"class foreground": report.splits}
    assert report.fingerprint is not None


@pytest.mark.parametrize(
    ("spoil", "check", "severity", "file"), BROKEN, ids=[f"{case[0].__name__}: {case[1]}" for case in BROKEN]
)
def test_each_problem_is_named_with_its_file_and_what_to_do(
    tmp_path: Path, spoil: Callable[[Path], None], check: str, severity: str, file: str
) -> None:
    spoil(make(tmp_path))
    report = prepare(tmp_path)
    found = {problem.check: problem for problem in report.problems}
    assert check in found, found
    assert found[check].severity == severity
    assert file in found[check].files or (file == "" and found[check].files == ())
    assert len(found[check].what_to_do) > 20
    assert report.refused == any(problem.severity == "refuse" for problem in report.problems)
    if severity == "refuse":
        with pytest.raises(DataError, match="cannot be trained on"):
            report.raise_if_refused()
    else:
        assert not report.refused


def test_smoothed_masks_are_explained_by_smoothing(tmp_path: Path) -> None:
    smoothed_mask(make(tmp_path))
    (problem,) = [p for p in prepare(tmp_path).problems if p.check == "mask values"]
    assert "threshold the mask" in problem.what_to_do


@pytest.mark.parametrize(
    ("spoil", "held", "fits", "classes"),
    [
        (one_mask_of_indices_among_0_and_255, "0, 1, 2", "0 and 1, or 0 and 255", "background\na\n"),
        (one_mask_of_0_and_255_among_indices, "0, 255", "class indices 0 to 2", "background\na\nb\n"),
    ],
)
def test_the_masks_that_differ_from_most_or_from_what_is_listed_are_named_and_no_others(
    tmp_path: Path, spoil: Callable[[Path], None], held: str, fits: str, classes: str
) -> None:
    spoil(make(tmp_path))
    for whose in ("23 of 24 masks hold", "classes.txt asks for"):
        (told,) = [p for p in prepare(tmp_path).problems if p.severity == "refuse"]
        assert told.files == ("images/p003.png",)
        assert f"its mask holds {held}; {whose} {fits}; correct the mask" in told.what_to_do
        write(tmp_path / "classes.txt", classes)


def test_a_stray_pixel_of_another_class_is_named_with_its_file_and_what_to_do(tmp_path: Path) -> None:
    stray_class_index(make(tmp_path))
    (told,) = [p for p in prepare(tmp_path).problems if p.check == "rare class"]
    assert told.files == ("images/p003.png",)
    assert "class index 2 has 1 of 3,457 foreground pixels, in 1 of 24 masks" in told.what_to_do
    assert "list all classes in classes.txt" in told.what_to_do
    assert not any(p.check == "rare class" for p in prepare(tmp_path, part=True).problems)
    write(tmp_path / "classes.txt", "background\nnucleus\nmitosis\n")
    assert not any(p.check == "rare class" for p in prepare(tmp_path).problems)


@pytest.mark.parametrize(("masks", "rows", "told"), [(2, 40, False), (1, 48, True), (2, 20, True)])
def test_a_class_that_few_masks_or_pixels_show_is_accepted_and_asked_about(
    tmp_path: Path, masks: int, rows: int, told: bool
) -> None:
    make(tmp_path)
    for index in range(24):
        mask = np.ones((48, 48), np.uint8)
        if index < masks:
            mask[:rows, :1] = 2
        save(tmp_path / f"masks/p{index:03d}.png", mask)
    report = prepare(tmp_path)
    assert not report.refused and report.class_names == ("background", "class 1", "class 2")
    assert any(p.check == "rare class" for p in report.problems) == told


def with_16_bit_grey(root: Path, most: int) -> Path:
    """24 images of which every other is 16-bit grey with values up to `most`, in two formats."""
    make(root)
    for index in range(0, 24, 2):
        grey = (picture(index)[..., 0] / 255 * most).astype(np.uint16)
        grey[0, 0] = most
        (root / f"images/p{index:03d}.png").unlink()
        save(root / f"images/p{index:03d}{'.png' if index % 4 else '.tif'}", grey)
    return root


@pytest.mark.parametrize(
    ("most", "says", "factor"),
    [
        (4095, "above 4,095, and the upper 8 bits count: at most 16 of 256 grey levels are left", 16),
        (1023, "above 1,023, and the upper 8 bits count: at most 4 of 256", 64),
        (5000, "above 5,119, and the upper 8 bits count: at most 20 of 256", 8),
    ],
)
def test_16_bit_grey_of_a_camera_with_fewer_bits_is_told_with_what_mends_it(
    tmp_path: Path, most: int, says: str, factor: int
) -> None:
    root = with_16_bit_grey(tmp_path / "set", most)
    report = prepare(root)
    (told,) = [one for one in report.problems if one.check == "few grey levels"]
    assert told.severity == "warn" and not report.refused and len(told.files) == 12
    assert f"none of the 12 images of 16-bit grey holds a value {says}" in told.what_to_do
    assert f"multiplied by {factor}, and send such to the model" in told.what_to_do
    (line,) = re.findall(r"Image\.fromarray.*\.save\(new\)", told.what_to_do)
    (of_a_folder,) = re.findall(r"^mkdir rescaled .*$", (PROJECT / "docs/data.md").read_text("utf-8"), re.MULTILINE)
    assert f"* {factor})" in line
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = of_a_folder.replace("* 16)", f"* {factor})")
    subprocess.run(command, shell=True, cwd=root, check=True, env={**os.environ, "PATH": path})
    written = sorted((root / "rescaled").iterdir())
    assert [f"images/{file.name}" for file in written] == sorted(told.files)
    for file in written:
        before, after = (cv2.imread(str(folder / file.name), -1) for folder in (root / "images", root / "rescaled"))
        names = {"old": root / "images" / file.name, "new": tmp_path / f"one{file.suffix}"}
        exec(line, {"Image": Image, "np": np, **names})
        assert np.array_equal(cv2.imread(str(names["new"]), -1), after)
        assert after.dtype == np.uint16 and np.array_equal(after, before.astype(np.int64) * factor)
        shutil.move(file, root / "images" / file.name)
    assert not any(one.check == "few grey levels" for one in prepare(root).problems)


def test_16_bit_grey_is_not_asked_about_where_one_image_is_bright_or_it_is_to_be_added_to_others(
    tmp_path: Path,
) -> None:
    root = with_16_bit_grey(tmp_path, 4095)
    assert prepare(root, part=True).problems == ()
    save(root / "images/p002.png", np.full((48, 48), 8192, np.uint16))
    assert not any(one.check == "few grey levels" for one in prepare(root).problems)


def test_every_file_may_be_unreadable_and_there_is_still_a_report(tmp_path: Path) -> None:
    for image in (make(tmp_path, 3) / "images").iterdir():
        image.write_bytes(b"no image")
    report = prepare(tmp_path)
    assert report.refused and report.fingerprint is None
    assert sum(p.check == "unreadable" for p in report.problems) == 3
    Console(file=io.StringIO()).print(report.table())


def test_the_report_is_a_table_for_people_and_json_for_programs(tmp_path: Path) -> None:
    make(tmp_path / "set")
    no_mask(tmp_path / "set")
    write(tmp_path / "set/metadata.csv", "file,stain\n" + "".join(f"p{i:03d}.png,[x]\n" for i in range(24)))
    report = prepare(tmp_path / "set")
    report.write(tmp_path / "out/prepare.json")
    fields = json.loads((tmp_path / "out/prepare.json").read_text("utf-8"))
    assert fields["refused"] is True
    assert fields["fingerprint"] == report.fingerprint
    assert fields["splits"] == report.splits
    assert sum(fields["slices"]["stain=[x]"].values()) == 24
    assert set(fields["problems"][0]) == {"check", "severity", "files", "what_to_do"}
    console = Console(record=True, width=140, file=io.StringIO())
    console.print(report.table())
    text = console.export_text()
    assert "stain=[x]" in text and "image without mask" in text and "images/p003.png" in text


def test_where_checks_only_what_it_keeps(tmp_path: Path) -> None:
    make(tmp_path)
    no_mask(tmp_path)
    rows = "".join(f"p{i:03d}.png,{'bad' if i == 3 else 'good'}\n" for i in range(24))
    write(tmp_path / "metadata.csv", f"file,quality\n{rows}")
    assert prepare(tmp_path).refused
    report = prepare(tmp_path, where="quality=good")
    assert not report.refused and report.images == len(report.manifest) == 23


def test_workers_do_not_change_what_is_found(sound: Path) -> None:
    dataset = read_dataset(sound)
    one, many = examine(dataset, workers=1), examine(dataset, workers=5)
    assert [fact.pixels for fact in one] == [fact.pixels for fact in many]
    assert [fact.file for fact in many] == [sample.file for sample in dataset.samples]


def test_an_image_10000_pixels_wide_and_one_of_16_pixels_are_prepared(tmp_path: Path) -> None:
    make(tmp_path)
    add(tmp_path, "wide", picture(500, 16, 10_000))
    add(tmp_path, "small", picture(501, 16, 16))
    assert prepare(tmp_path).problems == ()


@pytest.mark.nuclei
def test_the_real_nuclei_are_sound_and_hold_no_near_duplicates() -> None:
    if not NUCLEI.is_dir():
        assert not os.environ.get("RESUNET_REQUIRE_NUCLEI"), "the nuclei data set is missing"
        pytest.skip("needs ../shared/data/nuclei")
    report = prepare(NUCLEI)
    assert report.images == 569 and report.near_duplicate_pairs == 0
    assert report.problems == ()
    assert report.splits == {"train": 406, "validation": 77, "test": 86}


def test_problems_are_listed_with_refusals_first(tmp_path: Path) -> None:
    make(tmp_path)
    stray_file(tmp_path)
    empty_mask(tmp_path)
    no_image(tmp_path)
    severities = [problem.severity for problem in prepare(tmp_path).problems]
    assert severities == sorted(severities, key=lambda s: s != "refuse")
    assert all(isinstance(problem, Problem) for problem in prepare(tmp_path).problems)

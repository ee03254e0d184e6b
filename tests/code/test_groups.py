"""Groups keep together what belongs together, or the data set is refused: never ignored without a word."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from dataset_factory import add, changed, group_in, make, picture, problem, save, splits_of, write

from pipelines.data.data_step import PreparedData
from pipelines.data.dataset import read_dataset
from pipelines.data.groups import foreign_rows, joined_keys, read_groups
from pipelines.data.manifest import pixel_digest
from pipelines.data.names import Names
from pipelines.data.prepare import prepare
from pipelines.data.splits import key_of, split_of
from pipelines.runs.cross_validation import cut_folds
from resunet.errors import SettingsError


def apart(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and a near-copy of it that by themselves fall into different splits."""
    rgb = picture(seed)
    for column in range(48):
        near = changed(rgb)
        near[0, column] ^= 1
        if split_of(key_of(None, pixel_digest(near))) != split_of(key_of(None, pixel_digest(rgb))):
            return rgb, near
    raise AssertionError("no near-copy falls into another split")


def near_in(split: str, rgb: np.ndarray) -> np.ndarray:
    """A near-copy of a picture that by itself falls into a split."""
    for column in range(48):
        for row in (0, 1):
            near = changed(rgb)
            near[row, column] ^= 1
            if split_of(key_of(None, pixel_digest(near))) == split:
                return near
    raise AssertionError(f"no near-copy falls into {split}")


@pytest.mark.parametrize(("safe", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
@pytest.mark.parametrize("new", ["a", "z"])
def test_the_first_mending_never_tests_on_what_was_trained_on_whatever_files_are_called(
    tmp_path: Path, safe: str, other: str, new: str
) -> None:
    root = make(tmp_path / "set")
    rgb = picture(900)
    old = add(root, "p", near_in(safe, rgb))
    before = splits_of(prepare(root))
    added = add(root, new, near_in(other, rgb))
    assert prepare(root).refused
    mended = prepare(root, mend=True)
    assert before.items() <= splits_of(mended).items() and splits_of(mended)[added] == splits_of(mended)[old] == safe
    moved = problem(mended, "moved to another split")
    assert (moved.files, moved.severity) == ((f"{added}: {other} → {safe}",), "warn")
    again = prepare(root, mend=True)
    assert splits_of(again) == splits_of(mended) and again.problems == ()


def test_the_first_mending_moves_a_group_rather_than_an_image_from_train_to_test(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    old = add(root, "p", near_in("train", picture(900)))
    slide = [add(root, "a", picture(900)), add(root, "b", picture(901))]
    rows = [f"{file.removeprefix('images/')},{group_in('test')}\n" for file in slide]
    write(root / "metadata.csv", "file,group\n" + "".join(rows))
    mended = prepare(root, mend=True)
    assert {splits_of(mended)[file] for file in [old, *slide]} == {"train"}
    assert problem(mended, "moved to another split").files == tuple(f"{file}: test → train" for file in slide)
    later = add(root, "c", picture(902))
    write(root / "metadata.csv", "file,group\n" + "".join([*rows, f"c.png,{group_in('test')}\n"]))
    assert splits_of(prepare(root))[later] == "train"


def test_an_image_that_a_written_group_takes_into_the_test_split_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    add(root, "tested", near_in("test", picture(900)))
    prepare(root, mend=True)
    taken = add(root, "taken", near_in("train", picture(900)))
    told = problem(prepare(root, mend=True), "moved into the test split")
    assert told.files == (f"{taken}: train → test",)
    assert "trained on" in told.what_to_do


def test_a_groups_file_that_is_not_there_is_refused_unless_mending_is_to_write_it(tmp_path: Path) -> None:
    root, missing = make(tmp_path / "set"), tmp_path / "elsewhere/groups.csv"
    for place in (missing, tmp_path):
        with pytest.raises(SettingsError, match=r"no file .*--mend"):
            prepare(root, groups_file=place)
    with pytest.raises(SettingsError, match="no file"):
        prepare(root, groups_file=tmp_path, mend=True)
    assert not prepare(root, groups_file=missing, mend=True).refused
    assert len(read_groups(missing, Names())) == 24
    assert prepare(root, groups_file=missing).problems == ()


def test_mending_writes_the_file_that_was_asked_for_even_where_no_row_is_new(tmp_path: Path) -> None:
    root, second = make(tmp_path / "set"), tmp_path / "second.csv"
    prepare(root, mend=True)
    prepare(root, groups_file=second, mend=True)
    assert read_groups(second, Names()) == {}
    assert not prepare(root, groups_file=second).refused


@pytest.mark.parametrize(
    ("table", "check"), [("groups.csv", "groups without image"), ("metadata.csv", "metadata without image")]
)
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("p{:03d}", r"with the extension: p000\.png, not p000"),
        ("train/p{:03d}.png", r"without other folders than images/: p000\.png, not train/p000\.png"),
        ("P{:03d}.PNG", r"upper and lower case count: p000\.png, not P000\.PNG"),
        ("scan {:03d}.png", "correct their names or remove the rows$"),
    ],
)
def test_groups_of_which_none_fits_an_image_are_refused_with_what_is_wrong_with_the_names(
    tmp_path: Path, table: str, check: str, name: str, hint: str
) -> None:
    make(tmp_path)
    write(tmp_path / table, "file,group\n" + "".join(f"{name.format(i)},patient {i // 4}\n" for i in range(24)))
    for mend in (False, True):
        found = problem(prepare(tmp_path, mend=mend), check)
        assert found.severity == "refuse" and len(found.files) == 24
        assert re.search(hint, found.what_to_do), found.what_to_do
    # Rows beside them would make the groups look as if they fitted.
    assert table == "groups.csv" or not (tmp_path / "groups.csv").exists()
    assert table == "metadata.csv" or len(read_groups(tmp_path / "groups.csv", Names())) == 24


def test_rows_of_images_that_were_removed_are_reported_and_do_no_harm(tmp_path: Path) -> None:
    make(tmp_path)
    write(tmp_path / "metadata.csv", "file,group,stain\np001.png,slide,x\ngone.png,slide,x\n")
    write(tmp_path / "groups.csv", f"file,group\np002.png,{group_in('train')}\ngone too.png,{group_in('test')}\n")
    report = prepare(tmp_path)
    assert not report.refused
    assert (problem(report, "metadata without image").files, problem(report, "groups without image").files) == (
        ("gone.png",),
        ("gone too.png",),
    )
    dataset = read_dataset(tmp_path)
    assert dataset.absent_groups == {"gone.png": "slide", "gone too.png": group_in("test")}


def test_metadata_groups_are_missed_also_where_other_rows_of_the_table_fit(tmp_path: Path) -> None:
    make(tmp_path)
    fitting = "".join(f"p{i:03d}.png,,x\n" for i in range(20))
    write(tmp_path / "metadata.csv", f"file,group,stain\n{fitting}p020,patient,x\np021,patient,x\n")
    assert problem(prepare(tmp_path), "metadata without image").severity == "refuse"


def test_each_file_of_groups_is_judged_for_itself(tmp_path: Path) -> None:
    root, elsewhere = make(tmp_path / "set"), tmp_path / "elsewhere.csv"
    write(root / "groups.csv", "file,group\np001.png,slide\n")
    write(elsewhere, "file,group\np002,slide\n")
    found = problem(prepare(root, groups_file=elsewhere), "groups without image")
    assert found.severity == "refuse" and str(elsewhere) in found.what_to_do
    same = prepare(root, groups_file=root / "groups.csv")
    assert same.problems == ()


def test_a_file_that_mending_wrote_for_another_folder_is_refused_and_mending_adds_to_it(tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    prepare(make(tmp_path / "a"), groups_file=groups, mend=True)
    other = tmp_path / "b"
    for index in range(100, 124):
        add(other, f"q{index}", picture(index))
    found = problem(prepare(other, groups_file=groups), "groups without image")
    assert found.severity == "refuse" and "--mend" in found.what_to_do
    assert not prepare(other, groups_file=groups, mend=True).refused
    assert not prepare(other, groups_file=groups).refused
    assert not prepare(tmp_path / "a", groups_file=groups).refused


def with_near_copies(root: Path, first_seed: int) -> Path:
    """24 images and two near-copies in different splits, under names that any other such folder has too."""
    for index in range(24):
        add(root, f"p{index:03d}", picture(first_seed + index))
    one, other = apart(first_seed + 100)
    add(root, "x-first", one)
    add(root, "x-second", other)
    return root


def test_rows_for_other_images_of_the_same_names_that_keep_copies_apart_are_refused_and_stay(tmp_path: Path) -> None:
    groups, root = tmp_path / "groups.csv", tmp_path / "b"
    # As mending another folder left it, in which the two have nothing in common.
    rows = {path.name: f"pixels:{index}" for index, path in enumerate(_images(with_near_copies(root, 500)))}
    test = next(n for n in range(999) if split_of(f"pixels:{n}") == "test")
    train = next(n for n in range(999) if split_of(f"pixels:{n}") == "train")
    rows |= {"x-first.png": f"pixels:{test}", "x-second.png": f"pixels:{train}"}
    write(groups, "file,group\n" + "".join(f"{file},{group}\n" for file, group in rows.items()))
    add(root, "later", picture(700))
    add(root, "copy", picture(500))
    before = groups.read_bytes()
    report = prepare(root, groups_file=groups, mend=True)
    assert report.refused and report.new_group_rows == 0 and groups.read_bytes() == before
    told = problem(report, "near-duplicates across splits")
    assert told.files == ("images/x-first.png = images/x-second.png",)
    assert f"saved anew since, remove one of each, or give both rows one group there. If {groups}" in told.what_to_do
    # As the refusal says for a file that came from another data set.
    groups.unlink()
    assert not prepare(root, groups_file=groups, mend=True).refused
    after = read_groups(groups, Names())
    assert after["x-first.png"] == after["x-second.png"] == "pixels:" + pixel_digest(apart(600)[0])
    assert not prepare(root, groups_file=groups).refused


def saved_anew(tmp_path: Path, mended_as: str = "groups.csv") -> tuple[Path, list[str]]:
    """24 images that were mended and then all saved anew, and one of train and one of test among them."""
    make(tmp_path)
    report = prepare(tmp_path, groups_file=tmp_path / mended_as, mend=True)
    for index in range(24):
        add(tmp_path, f"p{index:03d}", changed(picture(index)))
    by_split = {split: file for file, split in splits_of(report).items()}
    return tmp_path, [by_split["train"], by_split["test"]]


def test_an_addition_never_moves_images_that_were_saved_anew_after_mending(tmp_path: Path) -> None:
    root, near = saved_anew(tmp_path)
    before = splits_of(prepare(root))
    table = (root / "groups.csv").read_bytes()
    for name, file in zip("ab", near, strict=True):
        add(root, name, np.ascontiguousarray(picture(int(file[8:11]))[:, ::-1]))
    write(root / "metadata.csv", "file,group\na.png,patient\nb.png,patient\n")
    report = prepare(root, mend=True)
    told = problem(report, "bridges two groups")
    assert (told.severity, told.files) == ("refuse", ("images/a.png", "images/b.png"))
    assert "saved anew since, remove the ones named, or give each a group of its own in metadata.csv" in told.what_to_do
    assert "If groups.csv came from another data set, move it away" in told.what_to_do
    assert (root / "groups.csv").read_bytes() == table and report.new_group_rows == 0
    assert "moved" not in " ".join(one.check for one in report.problems)
    assert before.items() <= splits_of(report).items()
    # As the refusal says for images that were saved anew.
    write(root / "metadata.csv", "file,group\na.png,patient 1\nb.png,patient 2\n")
    mended = prepare(root, mend=True)
    assert not mended.refused
    assert before.items() <= splits_of(mended).items()
    rows = read_groups(root / "groups.csv", Names())
    assert [rows[f"{name}.png"] for name in "ab"] == [rows[file.removeprefix("images/")] for file in near]


def test_exact_copies_that_rows_of_unknown_images_keep_apart_are_refused_with_both_cures(tmp_path: Path) -> None:
    root, near = saved_anew(tmp_path, "own.csv")
    seed = int(near[0][8:11])
    save(root / near[1], changed(picture(seed)))
    report = prepare(root, groups_file=root / "own.csv", mend=True)
    told = problem(report, "exact duplicates across splits")
    assert told.severity == "refuse" and all(file in told.files[0] for file in near)
    assert "saved anew since, remove the copies. If" in told.what_to_do and "own.csv came from" in told.what_to_do


def _images(root: Path) -> list[Path]:
    return sorted((root / "images").iterdir())


def test_images_that_were_all_saved_anew_keep_their_splits(tmp_path: Path) -> None:
    before = prepare(with_near_copies(tmp_path, 500), mend=True)
    for index in range(24):
        add(tmp_path, f"p{index:03d}", changed(picture(500 + index)))
    for stem, rgb in zip(("x-first", "x-second"), apart(600), strict=True):
        add(tmp_path, stem, changed(rgb))
    after = prepare(tmp_path, mend=True)
    assert not after.refused and after.new_group_rows == 0
    assert list(after.manifest["split"]) == list(before.manifest["split"])


def test_rows_named_after_an_image_that_was_removed_keep_the_others_where_they_are(tmp_path: Path) -> None:
    prepare(with_near_copies(tmp_path, 500), mend=True)
    rows = read_groups(tmp_path / "groups.csv", Names())
    (tmp_path / "images/x-first.png").unlink()
    (tmp_path / "masks/x-first.png").unlink()
    prepare(tmp_path, mend=True)
    assert read_groups(tmp_path / "groups.csv", Names()) == rows


def test_rows_are_of_other_images_only_if_none_names_one_that_is_there() -> None:
    pixels = {"a": "1", "b": "2"}
    assert foreign_rows({"a": "pixels:8", "b": "pixels:9", "c": "pixels:8"}, pixels) == {"a", "b"}
    assert foreign_rows({"a": "pixels:8", "b": "slide"}, pixels) == {"a"}
    assert foreign_rows({"a": "pixels:2", "b": "pixels:9"}, pixels) == set()
    assert foreign_rows({"a": "slide"}, pixels) == set()


def near_copies_without_a_group(root: Path) -> PreparedData:
    """Each of ten images three times, once changed and once as it is, every file in a group of its own."""
    make(root, 60, first_seed=300)
    names = iter(n for n in range(10_000) if split_of(key_of(f"g{n}", "")) == "train")
    rows = []
    for index in range(10):
        for stem, rgb in (("as it is", picture(300 + index)), ("changed", changed(picture(300 + index)))):
            add(root, f"{stem} {index}", rgb)
            rows.append(f"{stem} {index}.png,g{next(names)}")
        rows.append(f"p{300 + index}.png,g{next(names)}")
    write(root / "groups.csv", "file,group\n" + "\n".join(rows) + "\n")
    report = prepare(root)
    assert not report.refused and report.near_duplicate_pairs == 20
    return PreparedData(root, report.dataset, report.manifest, report, "")


def test_copies_and_near_copies_in_one_split_are_never_in_two_folds(tmp_path: Path) -> None:
    data = near_copies_without_a_group(tmp_path)
    usable = data.manifest[data.manifest["split"] != "test"]
    keys = joined_keys(usable, data.report.pairs)
    assert set(keys) == set(usable["path"])
    for index in range(10):
        names = (f"p{300 + index}", f"as it is {index}", f"changed {index}")
        assert len({keys[f"images/{name}.png"] for name in names}) == 1
    alone = set(usable["path"]) - {path for pair in data.report.pairs for path in pair}
    assert len({keys[path] for path in alone}) == len(alone)
    parts = [{sample.file for sample in part} for part in cut_folds(data, 4)]
    for a, b in data.report.pairs:
        assert len([part for part in parts if part & {a, b}]) == 1


def test_the_key_of_what_nothing_joins_is_its_own_whatever_else_there_is(tmp_path: Path) -> None:
    make(tmp_path, 6)
    write(tmp_path / "metadata.csv", "file,group\np001.png,slide\np002.png,slide\n")
    manifest = prepare(tmp_path).manifest
    keys = joined_keys(manifest, [("images/p000.png", "images/absent.png")])
    rows = manifest.to_dict("records")
    assert keys == {row["path"]: key_of(row["group"], row["pixels"]) for row in rows}
    assert keys["images/p001.png"] == "group:slide"


def test_the_report_names_every_stray_row(tmp_path: Path) -> None:
    make(tmp_path)
    write(tmp_path / "groups.csv", "file,group\np001,slide\n")
    fields = json.loads(prepare(tmp_path).to_json())
    assert fields["refused"] and fields["problems"][0]["files"] == ["p001"]


def test_a_group_of_a_misspelt_image_is_not_lost_although_other_rows_fit(tmp_path: Path) -> None:
    make(tmp_path)
    write(tmp_path / "groups.csv", "file,group\np000.png,a\np001.PNG,a\n")
    report = prepare(tmp_path)
    (problem,) = [one for one in report.problems if one.check == "groups without image"]
    assert problem.severity == "refuse" and "p001.png, not p001.PNG" in problem.what_to_do

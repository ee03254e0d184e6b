"""Mending puts what resembles into one split, once and for all."""

import re
from pathlib import Path

import numpy as np
import pytest
import typer
from dataset_factory import add, changed, group_in, make, picture, write

from pipelines.cli import app
from pipelines.data.groups import read_groups
from pipelines.data.manifest import pixel_digest
from pipelines.data.names import Names
from pipelines.data.prepare import prepare
from pipelines.data.splits import Split, key_of, split_of
from resunet.errors import DataError


def seed_in(split: Split, after: int = 1000) -> int:
    """Seed of a picture that, ungrouped, falls into that split."""
    return next(n for n in range(after, after + 1000) if split_of(key_of(None, pixels_of(n))) == split)


def pixels_of(seed: int) -> str:
    return pixel_digest(picture(seed))


def straddling(root: Path) -> Path:
    """A data set with two near-duplicates that fall into different splits by themselves."""
    make(root)
    seed = seed_in("test")
    for column in range(48):
        near = changed(picture(seed))
        near[0, column] ^= 1
        if split_of(key_of(None, pixel_digest(near))) == "train":
            break
    add(root, "x-first", picture(seed))
    add(root, "x-second", near)
    return root


def split_by_file(root: Path, **options: Path) -> dict[str, str]:
    manifest = prepare(root, **options).manifest
    return dict(zip(manifest["path"], manifest["split"], strict=True))


def test_mend_puts_near_duplicates_into_one_split_and_the_data_set_is_accepted(tmp_path: Path) -> None:
    before = split_by_file(straddling(tmp_path))
    assert before["images/x-first.png"] != before["images/x-second.png"]
    assert prepare(tmp_path).refused
    mended = prepare(tmp_path, mend=True)
    assert not mended.refused
    assert mended.groups == 1 and mended.near_duplicate_pairs == 1 and mended.new_group_rows == 26
    after = split_by_file(tmp_path)
    assert after["images/x-first.png"] == after["images/x-second.png"] == before["images/x-second.png"] == "train"
    unmoved = set(before) - {"images/x-first.png"}
    assert {file: after[file] for file in unmoved} == {file: before[file] for file in unmoved}
    assert prepare(tmp_path).fingerprint == mended.fingerprint


def test_mending_again_changes_nothing_and_a_new_near_duplicate_joins_the_group(tmp_path: Path) -> None:
    prepare(straddling(tmp_path), mend=True)
    first = (tmp_path / "groups.csv").read_bytes()
    assert prepare(tmp_path, mend=True).new_group_rows == 0
    assert (tmp_path / "groups.csv").read_bytes() == first
    before = split_by_file(tmp_path)
    # Its name sorts before all others: what was there first still decides.
    add(tmp_path, "a-third", np.ascontiguousarray(picture(seed_in("test"))[:, ::-1]))
    assert prepare(tmp_path, mend=True).new_group_rows == 1
    rows = read_groups(tmp_path / "groups.csv", Names())
    assert rows["a-third.png"] == rows["x-first.png"] == rows["x-second.png"]
    after = split_by_file(tmp_path)
    assert before.items() <= after.items()
    assert not prepare(tmp_path).refused


def test_an_old_image_stays_where_it_was_when_a_near_duplicate_of_it_is_added_later(tmp_path: Path) -> None:
    make(tmp_path)
    before = split_by_file(tmp_path)
    prepare(tmp_path, mend=True)
    for number in range(8):
        add(tmp_path, f"a{number}", changed(picture(number)))
    prepare(tmp_path, mend=True)
    after = split_by_file(tmp_path)
    assert before.items() <= after.items()
    assert all(after[f"images/a{n}.png"] == before[f"images/p{n:03d}.png"] for n in range(8))


def test_mend_keeps_a_metadata_group_whole(tmp_path: Path) -> None:
    straddling(tmp_path)
    write(
        tmp_path / "metadata.csv",
        "file,group\nx-first.png,slide 9\np001.png,slide 9\np002.png,slide 9\np004.png,other\n",
    )
    report = prepare(tmp_path, mend=True)
    assert not report.refused
    group = dict(zip(report.manifest["path"], report.manifest["group"], strict=True))
    together = ["x-first", "x-second", "p001", "p002"]
    assert {group[f"images/{stem}.png"] for stem in together} == {"slide 9"}
    assert group["images/p004.png"] == "other"


def test_an_image_that_bridges_two_groups_of_different_splits_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path)
    add(tmp_path, "bridge", changed(picture(3)))
    add(tmp_path, "far", picture(900))
    write(
        tmp_path / "metadata.csv",
        f"file,group\nbridge.png,{group_in('test')}\nfar.png,{group_in('test')}\n",
    )
    write(tmp_path / "groups.csv", f"file,group\np003.png,{group_in('train')}\nfar.png,{group_in('test')}\n")
    report = prepare(tmp_path, mend=True)
    (problem,) = [p for p in report.problems if p.severity == "refuse"]
    assert (problem.check, problem.files) == ("bridges two groups", ("images/bridge.png",))
    assert "remove it" in problem.what_to_do
    assert "bridge.png" not in read_groups(tmp_path / "groups.csv", Names())
    (tmp_path / "images/bridge.png").unlink()
    (tmp_path / "masks/bridge.png").unlink()
    assert not prepare(tmp_path, mend=True).refused


def test_mend_can_write_beside_a_data_set_that_is_read_only(tmp_path: Path) -> None:
    straddling(tmp_path / "set")
    listing = sorted(path.name for path in (tmp_path / "set").iterdir())
    groups = tmp_path / "elsewhere/groups.csv"
    assert not prepare(tmp_path / "set", groups_file=groups, mend=True).refused
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == listing
    assert not prepare(tmp_path / "set", groups_file=groups).refused
    assert prepare(tmp_path / "set").refused


def test_a_groups_file_that_cannot_be_written_is_an_error_and_leaves_the_old_one(tmp_path: Path) -> None:
    straddling(tmp_path / "set")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written") as told:
        prepare(tmp_path / "set", groups_file=tmp_path / "file/groups.csv", mend=True)
    (advised,) = re.findall(r"--[a-z-]+", str(told.value))
    commands = typer.main.get_group(app).commands
    for name in ("prepare", "train"):
        assert advised in {option for parameter in commands[name].params for option in parameter.opts}

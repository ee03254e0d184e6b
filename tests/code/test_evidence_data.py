"""What evidence says of the data: is it what the version was made from, and did anybody learn from a test image."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataset_factory import add, blob, group_in, make, picture, save, write
from evidence_subject import evaluation, subject_of
from PIL import Image

from pipelines.data.manifest import write_manifest
from pipelines.data.prepare import prepare
from pipelines.data.splits import Split
from pipelines.evidence.data import data, lineage
from pipelines.evidence.overlap import overlap
from resunet.errors import DataError, VersionError
from serving.version import MANIFEST_FILE

GROWN = 24


def first(root: Path, split: Split) -> str:
    manifest = prepare(root).manifest
    return str(manifest.loc[manifest["split"] == split, "path"].iloc[0])


def test_a_data_set_that_is_what_it_was_is_complete(tmp_path: Path) -> None:
    subject = subject_of(tmp_path / "model", make(tmp_path / "nuclei"))
    found = data(subject)
    assert (found.name, found.images, found.complete) == ("nuclei", 24, True)
    assert not (found.differing or found.refusals or found.near_test)
    assert [sample.file for sample in subject.samples] == subject.candidate.test["path"].tolist()
    learnt = lineage(subject)
    assert (learnt.test_images, learnt.trained_images) == (len(subject.samples), 24 - len(subject.samples))
    assert not (learnt.same or learnt.grouped or learnt.changed or learnt.doubtful or learnt.ancestors)
    assert learnt.fingerprint == evaluation(subject.candidate.manifest).fingerprint


def test_a_data_set_that_grew_is_still_complete_and_has_the_test_images_of_then(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    subject = subject_of(tmp_path / "model", root)
    make(root, GROWN, first_seed=24)
    assert data(subject).complete and len(subject.data.dataset.samples) == 24 + GROWN
    assert [sample.file for sample in subject.samples] == subject.candidate.test["path"].tolist()


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_changed_test_image_or_mask_is_named_and_nothing_is_measured_on_it(tmp_path: Path, folder: str) -> None:
    root = make(tmp_path / "nuclei")
    subject = subject_of(tmp_path / "model", root)
    path = first(root, "test")
    save(root / folder / Path(path).name, picture(900) if folder == "images" else blob(value=1))
    found = data(subject)
    assert not found.complete and found.differing == [path]
    with pytest.raises(DataError, match=f"1 of {len(subject.candidate.test)} test images of version 7.*{path}"):
        _ = subject.samples


def test_a_changed_training_image_is_named_and_the_test_images_are_still_good(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    subject = subject_of(tmp_path / "model", root)
    path = first(root, "train")
    (root / path).unlink()
    (root / "masks" / Path(path).name).unlink()
    assert data(subject).differing == [path]
    assert len(subject.samples) == len(subject.candidate.test)


def test_what_prepare_refuses_is_a_finding_and_no_end(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    subject = subject_of(tmp_path / "model", root)
    (root / "images" / "broken.png").write_bytes(b"no image")
    save(root / "masks" / "broken.png", blob())
    found = data(subject)
    assert len(found.refusals) == 1 and "images/broken.png" in found.refusals[0]
    assert found.complete and len(subject.samples) == len(subject.candidate.test)


def grouped_apart(root: Path, changed: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
    """An image in the test split, and a changed copy of it that a group keeps in the training split."""
    add(root, "ours", picture(700, 96, 96))
    add(root, "theirs", changed)
    rows = [f"ours.png,{group_in('test')}", f"theirs.png,{group_in('train')}"]
    write(root / "metadata.csv", "\n".join(["file,group", *rows]) + "\n")


def test_a_near_duplicate_of_a_test_image_in_another_split_is_found(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    grouped_apart(root, np.asarray(picture(700, 96, 96) * 0.7, np.uint8))
    subject = subject_of(tmp_path / "model", root)
    found = data(subject)
    assert found.near_test == [("images/ours.png", "images/theirs.png")]
    assert any("near-duplicates across splits" in told for told in found.refusals)
    assert ("images/ours.png", "images/theirs.png") in lineage(subject).changed


def test_near_duplicates_within_one_split_are_none_of_a_test_image(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    add(root, "a", picture(700, 96, 96))
    add(root, "b", np.asarray(picture(700, 96, 96) * 0.7, np.uint8))
    write(root / "metadata.csv", f"file,group\na.png,{group_in('test')}\nb.png,{group_in('test')}\n")
    subject = subject_of(tmp_path / "model", root)
    assert not data(subject).near_test and not lineage(subject).changed


def test_a_test_image_that_an_ancestor_learnt_from_is_found(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    manifest = prepare(root).manifest
    path = first(root, "test")
    theirs = manifest.assign(version="3")
    theirs.loc[theirs["path"] == path, "split"] = "train"
    found = lineage(subject_of(tmp_path / "model", root, ancestors=theirs))
    assert found.same == [path] and found.ancestors == ["3"]
    assert found.trained_images == 24 - len(manifest[manifest["split"] == "test"]) + 1
    theirs.loc[theirs["path"] == path, "split"] = "test"
    assert not lineage(subject_of(tmp_path / "other", root, ancestors=theirs)).same


def test_ancestors_are_named_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    manifest = prepare(root).manifest
    theirs = [manifest.assign(version=str(number)) for number in (10, 9)]
    subject = subject_of(tmp_path / "model", root, ancestors=pd.concat(theirs))
    assert lineage(subject).ancestors == ["9", "10"]


def test_a_copy_of_what_an_ancestor_learnt_from_is_found_though_the_version_was_made_without_it(tmp_path: Path) -> None:
    """The ancestor's image is in the data set, outside of the version's part of it."""
    root = make(tmp_path / "nuclei")
    ours, theirs = picture(700, 96, 96), np.ascontiguousarray(np.rot90(picture(700, 96, 96)))
    add(root, "ours", ours)
    subject_data = shutil.copytree(root, tmp_path / "then")
    write(subject_data / "metadata.csv", f"file,group\nours.png,{group_in('test')}\n")
    add(tmp_path / "ancestor", "theirs", theirs)
    make(tmp_path / "ancestor", 24, first_seed=200)
    ancestors = prepare(tmp_path / "ancestor").manifest.assign(version="3", split="train")
    subject = subject_of(tmp_path / "model", subject_data, ancestors=ancestors)
    add(subject_data, "theirs", theirs)
    assert data(subject).near_test == []
    assert lineage(subject).changed == [("images/ours.png", "images/theirs.png")]


def test_another_of_the_group_of_a_test_image_in_training_is_found(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    group = group_in("test")
    add(root, "ours", picture(700))
    write(root / "metadata.csv", f"file,group\nours.png,{group}\n")
    theirs = prepare(root).manifest.assign(version="3")
    theirs = theirs[theirs["path"] == "images/ours.png"].assign(split="train", pixels="others", group=group)
    found = lineage(subject_of(tmp_path / "model", root, ancestors=theirs))
    assert found.grouped == ["images/ours.png"] and not found.same


def test_where_a_test_image_was_changed_since_the_manifest_still_tells_of_it(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    path = first(root, "test")
    theirs = prepare(root).manifest.assign(version="3", split="train")
    subject = subject_of(tmp_path / "model", root, ancestors=theirs[theirs["path"] == path])
    Image.new("RGB", (48, 48)).save(root / path)
    assert lineage(subject).same == [path]


def test_a_version_that_was_evaluated_on_other_images_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    subject = subject_of(tmp_path / "model", root)
    manifest = prepare(root).manifest
    manifest.loc[manifest["path"] == first(root, "test"), "split"] = "train"
    write_manifest(manifest, subject.candidate.root / MANIFEST_FILE)
    with pytest.raises(VersionError, match="version 7 was evaluated on other images"):
        lineage(subject)


def test_a_data_set_that_is_gone_is_named_with_what_says_where_it_is(tmp_path: Path) -> None:
    root = make(tmp_path / "nuclei")
    subject = subject_of(tmp_path / "model", root)
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"version 7 is not at .*nuclei.*--data.*RESUNET_DATA"):
        data(subject)


def stained(root: Path) -> Path:
    """Give every second image a stain of its own."""
    files = sorted(path.name for path in (root / "images").iterdir())
    rows = [f"{file},{'ab'[place % 2]}" for place, file in enumerate(files)]
    write(root / "metadata.csv", "\n".join(["file,stain", *rows]) + "\n")
    return root


def test_the_live_versions_own_test_images_are_found_by_their_bytes(tmp_path: Path) -> None:
    """A file has another name by now, one has another mask, and one the candidate is not tested on any more."""
    live = subject_of(tmp_path / "live", stained(make(tmp_path / "nuclei", 60))).candidate
    (live.model / "MLmodel").write_text(json.dumps({"signature": {"inputs": "[]", "outputs": "[1]"}}))
    renamed, relabelled, gone, *others = sorted(live.test["path"])
    later = shutil.copytree(tmp_path / "nuclei", tmp_path / "later")
    for folder in ("images", "masks"):
        (later / folder / Path(renamed).name).rename(later / folder / "other.png")
        (later / folder / Path(gone).name).unlink()
    save(later / "masks" / Path(relabelled).name, blob()[::-1].copy())
    subject = subject_of(tmp_path / "ours", stained(later))
    found = overlap(subject, live)
    assert (found.own_images, found.inputs, found.outputs, found.params) == (len(others) + 3, "[]", "[1]", "")
    assert sorted(found.shared) == sorted(["images/other.png", *others]) and len(others) > 2
    by_stain = {f"stain={stain}": rows["path"].tolist() for stain, rows in live.test.groupby("slice:stain")}
    assert found.slice_images == {name: len(paths) for name, paths in by_stain.items()}
    for name, paths in by_stain.items():
        there = {"images/other.png" if path == renamed else path for path in paths} - {relabelled, gone}
        assert sorted(found.slices[name]) == sorted(there)

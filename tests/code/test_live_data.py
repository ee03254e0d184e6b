"""A data set and released live images in one folder: nothing moves, and what would make a metric a lie is left out."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from dataset_factory import group_in
from numpy.typing import NDArray
from quarantine_scene import Scene, picture, png, truth

from monitoring.quarantine import custody
from pipelines.data.data_step import prepare_data
from pipelines.data.duplicates import look, near_duplicates
from pipelines.data.labelled import showable
from pipelines.data.prepare import prepare
from pipelines.retraining.live_data import Together, put_together
from records.batch import Batch
from records.quarantine import find_batch, note_use, released_batches
from registry.data_place import DataPlace
from resunet.errors import DataError

IMAGES = 24


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "refusals_of", lambda *_: ())


@pytest.fixture
def scene(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    return Scene(url, tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A data set of images whose seeds are 100 and more, with a slice, and groups of two."""
    folder = tmp_path / "nuclei"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows = ["file,stain,group"]
    for number in range(IMAGES):
        cv2.imwrite(str(folder / "images" / f"{number:02}.png"), picture(100 + number)[..., ::-1])
        cv2.imwrite(str(folder / "masks" / f"{number:02}.png"), truth(10))
        rows.append(f"{number:02}.png,{'ab'[number % 2]},{f'slide {number // 2}' if number < 8 else ''}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def released(scene: Scene, *names: str, **changes: object) -> Batch:
    scene.labelled(*names, **changes)  # type: ignore[arg-type]
    return scene.release(scene.batch())


def together(scene: Scene, base: Path, batches: Sequence[Batch], name: str = "a", **place: str) -> Together:
    folder = scene.folder / name
    folder.mkdir()
    return put_together(folder, DataPlace(str(base), **place), batches, scene.stores.released)


def splits(manifest: pd.DataFrame) -> dict[str, str]:
    return dict(zip(manifest["path"], manifest["split"], strict=True))


def test_live_images_are_added_and_move_nothing(scene: Scene, base: Path) -> None:
    before = splits(prepare(base).manifest)
    batch = released(scene, *(f"a-{seed}" for seed in range(10)), slice="stain=b")
    done = together(scene, base, [batch])
    report = prepare(done.root)
    assert not report.refused and done.left_out == {} and done.live == 10
    after = splits(report.manifest)
    assert {path: after[path] for path in before} == before and len(after) == IMAGES + 10
    assert report.slices["origin=audit"].values() and sum(report.slices["origin=data set"].values()) == IMAGES
    # A client may name the slices as the data set does.
    assert sum(report.slices["stain=b"].values()) == IMAGES // 2 + 10
    assert set(done.split_keys) == {one.answer_id for one in batch.images}
    assert all(path.is_symlink() for path in (done.root / "images").glob("[0-9]*"))


def test_a_part_of_the_data_set_and_its_slices_are_kept(scene: Scene, base: Path) -> None:
    # Of 12 images some split would be empty: the part that is asked for is the larger one.
    rows = (base / "metadata.csv").read_text().replace(",b,", ",a,", 8)
    (base / "metadata.csv").write_text(rows)
    done = together(scene, base, [released(scene, "a-1")], where="stain=a", slices="stain")
    assert done.slices == "stain,origin"
    report = prepare(done.root, slices=["stain", "origin"])
    assert sum(report.slices["stain=a"].values()) == report.images - 1 == 20


def test_an_image_of_the_data_set_that_comes_back_is_left_out(scene: Scene, base: Path) -> None:
    batch = released(scene, "same-105", "other-1", rows=10)
    done = together(scene, base, [batch])
    assert done.live == 1 and list(done.left_out.values()) == ["exact duplicates"]
    contradicts = released(scene, "same-106", rows=20)
    done = together(scene, base, [batch, contradicts], "b")
    assert done.live == 1 and sorted(done.left_out.values()) == ["contradictory masks", "exact duplicates"]


def test_a_near_copy_shares_the_split_of_what_it_resembles(scene: Scene, base: Path) -> None:
    before = splits(prepare(base).manifest)
    test = next(number for number in range(8, IMAGES) if before[f"images/{number:02}.png"] == "test")
    darker = png(np.asarray(picture(100 + test) * 0.9, np.uint8))
    done = together(scene, base, [released(scene, "near-1", image=darker)])
    manifest = prepare(done.root).manifest
    live = manifest[manifest["path"].str.contains("live-")]
    assert list(live["split"]) == ["test"]
    [key] = done.split_keys.values()
    assert key.startswith("pixels:")
    assert {path: splits(manifest)[path] for path in before} == before


def test_what_shows_the_same_as_images_of_two_splits_is_left_out_and_neither_moves(scene: Scene, base: Path) -> None:
    before = splits(prepare(base).manifest)
    train, test = (
        next(number for number in range(8, IMAGES) if before[f"images/{number:02}.png"] == split)
        for split in ("train", "test")
    )
    between = between_two(200)
    for number, image in zip((train, test), between[:2], strict=True):
        cv2.imwrite(str(base / "images" / f"{number:02}.png"), image[..., ::-1])
        # What is drawn anew has another split: it keeps the one that is asked for by its group.
        with (base / "groups.csv").open("a") as table:
            table.write("file,group\n" if table.tell() == 0 else "")
            table.write(f"{number:02}.png,{group_in('train' if number == train else 'test')}\n")
    before = splits(prepare(base).manifest)
    assert not prepare(base).refused
    done = together(scene, base, [released(scene, "both-1", image=png(between[2])), released(scene, "other-2")])
    assert done.live == 1 and list(done.left_out.values()) == ["bridges two groups"]
    after = splits(prepare(done.root).manifest)
    assert {path: after[path] for path in before} == before


def test_a_live_image_moves_nothing_in_a_data_set_that_was_saved_anew_after_mending(scene: Scene, base: Path) -> None:
    mended = splits(prepare(base, mend=True).manifest)
    train, test = (
        next(number for number in range(8, IMAGES) if mended[f"images/{number:02}.png"] == split)
        for split in ("train", "test")
    )
    between = between_two(200)
    for number in range(IMAGES):
        anew = {train: between[0], test: between[1]}.get(number, np.asarray(picture(100 + number) * 0.9, np.uint8))
        cv2.imwrite(str(base / "images" / f"{number:02}.png"), anew[..., ::-1])
    near = np.asarray(picture(108) * 0.8, np.uint8)
    done = together(
        scene, base, [released(scene, "both-1", image=png(between[2])), released(scene, "near-2", image=png(near))]
    )
    assert done.live == 1 and list(done.left_out.values()) == ["bridges two groups"]
    after = splits(prepare(done.root).manifest)
    assert {path: after[path] for path in mended} == mended


def between_two(seed: int) -> list[NDArray[np.uint8]]:
    """Two images that are no near-copies, and one that is a near-copy of both."""
    middle, away = picture(seed).astype(float), picture(seed + 1).astype(float) - 128
    for part in np.linspace(0.02, 0.9, 60):
        images = [np.clip(middle + sign * part * away, 0, 255).astype(np.uint8) for sign in (1, -1, 0)]
        if near_duplicates([look(image) for image in images]) == [(0, 2), (1, 2)]:
            return images
    raise AssertionError("no two images are just unlike enough: take another seed")


def test_who_was_trained_on_keeps_its_split_when_a_copy_joins(scene: Scene, base: Path) -> None:
    first = released(scene, *(f"a-{seed}" for seed in range(16)))
    done = together(scene, base, [first])
    note_use(scene.engine, "2", "run", scene.now, [first.batch_id], done.split_keys)
    before = splits(prepare(done.root).manifest)
    for seed in range(16):
        scene.labelled(f"darker-{seed}", image=png(np.asarray(picture(seed) * 0.9, np.uint8)))
    scene.release(scene.batch())
    again = together(scene, base, released_batches(scene.engine, "resunet"), "b")
    after = splits(prepare(again.root).manifest)
    assert {path: after[path] for path in before} == before and again.live == 32


def test_who_was_trained_on_keeps_its_split_when_others_join(scene: Scene, base: Path) -> None:
    first = released(scene, *(f"a-{seed}" for seed in range(8)))
    done = together(scene, base, [first])
    note_use(scene.engine, "2", "run", scene.now, [first.batch_id], done.split_keys)
    before = splits(prepare(done.root).manifest)
    second = released(scene, *(f"b-{seed}" for seed in range(20, 26)))
    again = together(scene, base, released_batches(scene.engine, "resunet"), "b")
    after = splits(prepare(again.root).manifest)
    assert {path: after[path] for path in before} == before and again.live == 14
    assert find_batch(scene.engine, second.batch_id).images[0].split_key is None
    assert all(again.split_keys[answer] == key for answer, key in done.split_keys.items())


def test_an_auditor_s_label_goes_before_a_client_s(scene: Scene, base: Path) -> None:
    scene.labelled("a-1", source="client", rows=30)
    [theirs] = scene.collect("client").batches
    scene.release(theirs, of_clients=True)
    scene.label("a-1", "audit", rows=11)
    scene.release(scene.batch())
    done = together(scene, base, released_batches(scene.engine, "resunet"))
    [mask] = (done.root / "masks").glob("live-*")
    read = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    assert done.live == 1 and int((read > 0).sum()) == 11 * 32


def test_a_client_s_label_of_the_same_picture_sent_again_does_not_strike_an_auditor_s(scene: Scene, base: Path) -> None:
    scene.labelled("again-1", source="client", rows=30)
    [theirs] = scene.collect("client").batches
    scene.release(theirs, of_clients=True)
    ours = released(scene, "a-1", rows=11)
    done = together(scene, base, released_batches(scene.engine, "resunet"))
    assert done.left_out == {} and set(done.split_keys) == {one.answer_id for one in ours.images}


def test_an_image_that_was_changed_since_is_refused_by_name(scene: Scene, base: Path) -> None:
    batch = released(scene, "a-1")
    [one] = batch.images
    scene.stores.released.images(batch.batch_id).put(one.answer_id, b"other bytes", one.event_time)
    with pytest.raises(DataError, match=f"{one.name} of batch {batch.batch_id} is not what was released"):
        together(scene, base, [batch])


def test_a_released_image_that_is_lost_is_left_out_by_name(scene: Scene, base: Path) -> None:
    batch = released(scene, "a-1", "a-2")
    lost, kept = batch.images
    scene.stores.released.images(batch.batch_id).delete([lost.answer_id])
    done = together(scene, base, [batch])
    assert set(done.split_keys) == {kept.answer_id} and list(done.left_out) == [lost.name]
    assert batch.batch_id in done.left_out[lost.name]


def test_a_batch_of_which_every_image_is_lost_is_refused_by_name(scene: Scene, base: Path) -> None:
    batch = released(scene, "a-1", "a-2")
    scene.stores.released.images(batch.batch_id).delete([one.answer_id for one in batch.images])
    with pytest.raises(DataError, match=f"no image of batch {batch.batch_id} is in this RESUNET_HOME any more"):
        together(scene, base, [batch])


def test_a_batch_that_lies_in_another_home_is_refused_by_name(scene: Scene, base: Path) -> None:
    batch = released(scene, "a-1")
    scene.stores.released.drop(batch.batch_id)
    with pytest.raises(DataError, match=f"batch {batch.batch_id} is not in this RESUNET_HOME"):
        together(scene, base, [batch])


def test_a_batch_that_was_taken_back_is_trained_on_no_more(scene: Scene, base: Path) -> None:
    batch = released(scene, "a-1")
    keys = together(scene, base, [batch]).split_keys
    assert scene.withdraw(batch).state == "withdrawn"
    assert released_batches(scene.engine, "resunet") == []
    # A training that was under way meanwhile learns of it.
    assert note_use(scene.engine, "9", "run", scene.now, [batch.batch_id], keys) == sorted(keys)


def test_no_live_image_is_kept_as_a_picture_in_a_version_or_a_run(scene: Scene, base: Path) -> None:
    done = together(scene, base, [released(scene, *(f"a-{seed}" for seed in range(30)))])
    data = prepare_data(str(done.root))
    shown = showable(data.split("validation"))
    assert shown and not [sample for sample in shown if "live-" in sample.file]
    assert any("live-" in sample.file for sample in data.split("validation"))

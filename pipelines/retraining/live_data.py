"""A data set and the live images that were released for training, put together in a folder for a while.

    together = put_together(folder, DataPlace("/data/nuclei"), released_batches(engine, "resunet"), store)
    train(TrainOptions(data=str(together.root), slices=together.slices, …))
    together.split_keys             # to be noted, so that no image changes its split the next time

Nothing moves an image of the data set: each keeps the split that it has there. A live image that was trained on keeps
its split too; a new one is put with the images that it resembles. One that cannot be (it shows the same as two images
of different splits, or contradicts a mask) is left out, and told.
"""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.data.dataset import Dataset
from pipelines.data.groups import GROUPS_FILE, write_groups
from pipelines.data.prepare import PreparedReport, prepare
from pipelines.data.slice_filter import parse_slices
from pipelines.data.splits import PIXELS_PREFIX
from pipelines.data.tables import CLASSES_FILE, METADATA_FILE
from records.batch import LIVE_PREFIX, Batch, BatchImage
from records.batch_files import sha256, write_image, write_mask
from records.labels import from_stored
from records.released import ReleasedStore
from registry.data_place import DataPlace
from resunet.errors import DataError

_ROUNDS: Final = 5
_OF_THE_DATA_SET: Final = "data set"


@dataclass(frozen=True)
class Together:
    """What there is to train on.

    Attributes:
        root: the folder.
        slices: columns to slice by, comma-separated; empty: the default.
        live: how many live images are in it.
        left_out: names of those that are not, and why.
        split_keys: by `answer_id`, of those that are in it.
    """

    root: Path
    slices: str
    live: int
    left_out: Mapping[str, str]
    split_keys: Mapping[str, str]


@dataclass(frozen=True)
class _Live:
    """A live image's place in the folder."""

    image: BatchImage
    file: str
    slices: Mapping[str, str]


def put_together(folder: Path, base: DataPlace, batches: Sequence[Batch], store: ReleasedStore) -> Together:
    """Fill an empty folder: links to the data set's files, copies of live images.

    Args:
        base: the data set.
        batches: that were released, in that order.
        store: where their images and masks are.

    Raises:
        DataError: the data set cannot be trained on, with or without the live images; or a batch is not here, or
            a live image is not what was released.
        SettingsError: the place of the data set makes no sense.
    """
    data = prepare_data(base.data, base.where, base.groups, None, base.slices)
    rows = _link(data, folder)
    columns = {
        name: {sample.slices[name] for sample in data.dataset.samples if name in sample.slices}
        for name in data.dataset.slice_columns
    }
    origin = next(name for name in ("origin", "live_origin", "resunet_origin") if name not in columns)
    live, left_out = _write_all(folder, batches, store, columns, origin)
    fixed = {Path(path).name: key for path, key in _keys(data.dataset, data.manifest).items()}
    slices = f"{base.slices},{origin}" if base.slices else ""
    for _ in range(_ROUNDS):
        known = {one.file: one.image.split_key for one in live if one.image.split_key is not None}
        write_groups(folder / GROUPS_FILE, {**fixed, **known})
        _tabulate(folder, [{**row, origin: _OF_THE_DATA_SET} for row in rows], live)
        report = prepare(folder, mend=True, slices=parse_slices(slices))
        wrong = _not_to_be_used(report)
        if not wrong:
            break
        left_out |= wrong
        for one in live:
            if one.file in wrong:
                (folder / "images" / one.file).unlink(missing_ok=True)
                (folder / "masks" / f"{one.image.name}.png").unlink(missing_ok=True)
        live = [one for one in live if one.file not in wrong]
    report.raise_if_refused()
    keys = _keys(report.dataset, report.manifest)
    return Together(
        folder, slices, len(live), left_out, {one.image.answer_id: keys[f"images/{one.file}"] for one in live}
    )


def _link(data: PreparedData, folder: Path) -> list[dict[str, str]]:
    """Link the data set's files, and return its rows of slices."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rows = []
    for sample in data.dataset.samples:
        assert sample.mask is not None
        if sample.image.name.startswith(LIVE_PREFIX):
            raise DataError(f"{sample.file} is called as live images are: rename it, or take another data set")
        (folder / "images" / sample.image.name).symlink_to(sample.image.absolute())
        (folder / "masks" / sample.mask.name).symlink_to(sample.mask.absolute())
        rows.append({"file": sample.image.name, **sample.slices})
    names = data.dataset.class_names
    if len(names) > 1:
        (folder / CLASSES_FILE).write_text("\n".join(names) + "\n", encoding="utf-8")
    return rows


def _once(batches: Sequence[Batch], batch: Batch) -> list[BatchImage]:
    """The images of a batch that no batch before it holds; an auditor's label goes before a client's."""
    earlier = batches[: batches.index(batch)]
    if batch.of_clients:
        others = [other for other in batches if other in earlier or not other.of_clients]
    else:
        others = [other for other in earlier if not other.of_clients]
    before = {one.answer_id for other in others for one in other.images}
    # The same picture sent again has another answer: a client's word on it does not stand against an auditor's.
    audited = set[str]()
    if batch.of_clients:
        audited = {one.image_sha256 for other in others if not other.of_clients for one in other.images}
    return [one for one in batch.images if one.answer_id not in before and one.image_sha256 not in audited]


def _write_all(
    folder: Path, batches: Sequence[Batch], store: ReleasedStore, columns: Mapping[str, Collection[str]], origin: str
) -> tuple[list[_Live], dict[str, str]]:
    """Write the batches' images, and return them, and the names of those that are gone, with why."""
    live, gone = list[_Live](), dict[str, str]()
    for batch in batches:
        if batch.batch_id not in store.batches():
            raise DataError(
                f"batch {batch.batch_id} is not in this RESUNET_HOME: train where it was released, bring the folder "
                f"`released` here, or take it back for good: python -m monitoring quarantine withdraw {batch.batch_id}"
            )
        images = _once(batches, batch)
        for image in images:
            one = _write(folder, batch, image, store, columns, origin)
            if one is None:
                gone[image.name] = f"it was released with batch {batch.batch_id}, and is in RESUNET_HOME no more"
            else:
                live.append(one)
        if images and all(image.name in gone for image in images):
            raise DataError(
                f"no image of batch {batch.batch_id} is in this RESUNET_HOME any more: restore the folder `released` "
                f"from a backup, or take it back for good: python -m monitoring quarantine withdraw {batch.batch_id}"
            )
    return live, gone


def _write(
    folder: Path,
    batch: Batch,
    image: BatchImage,
    store: ReleasedStore,
    columns: Mapping[str, Collection[str]],
    origin: str,
) -> _Live | None:
    content = store.images(batch.batch_id).get(image.answer_id, image.event_time)
    truth = store.truths(batch.batch_id).get(image.answer_id, image.source, image.event_time)
    if content is None or truth is None:
        return None
    if (sha256(content), sha256(truth.encode())) != (image.image_sha256, image.mask_sha256):
        raise DataError(
            f"{image.name} of batch {batch.batch_id} is not what was released: somebody has changed it since. Restore "
            "the folder `released` from a backup, or take the batch back for good: "
            f"python -m monitoring quarantine withdraw {batch.batch_id}"
        )
    name = write_image(folder, image.name, content)
    write_mask(folder, image.name, from_stored(truth))
    # A client may name a slice as the data set does, `stain=a`; other words of a client's have no place in a version.
    column, _, value = (image.slice or "").partition("=")
    named = {column: value} if value in columns.get(column, ()) else {}
    return _Live(image, name, {**named, origin: image.source})


def _tabulate(folder: Path, rows: Sequence[Mapping[str, str]], live: Sequence[_Live]) -> None:
    told = [{"file": one.file, "group": one.image.group or "", **one.slices} for one in live]
    columns = dict.fromkeys(["file", "group", *(name for row in (*rows, *told) for name in row)])
    with (folder / METADATA_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(columns), restval="")
        writer.writeheader()
        writer.writerows([*rows, *told])


def _keys(dataset: Dataset, manifest: pd.DataFrame) -> dict[str, str]:
    """What decides the split of each image, as `groups.csv` writes it; a manifest names no group of one image."""
    groups = {sample.file: sample.group for sample in dataset.samples}
    pixels = dict(zip(manifest["path"], manifest["pixels"], strict=True))
    return {path: groups[path] or PIXELS_PREFIX + digest for path, digest in pixels.items()}


def _not_to_be_used(report: PreparedReport) -> dict[str, str]:
    """The live images that `prepare` refuses, or that are in the data set already, and why."""
    found = dict[str, str]()
    for problem in report.problems:
        if problem.severity != "refuse" and problem.check != "exact duplicates":
            continue
        for entry in problem.files:
            names = [Path(name).name for name in entry.split(" = ")]
            live = [name for name in names if name.startswith(LIVE_PREFIX)]
            if problem.check == "exact duplicates" and len(live) == len(names):
                live = live[1:]
            # Refusals come first, and say more.
            found = dict.fromkeys(live, problem.check) | found
    return found

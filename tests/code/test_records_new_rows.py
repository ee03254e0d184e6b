"""A batch of rows at once: which are new, what a bad one does to the others, and where its masks are meanwhile."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from records_rows import NOON, answer, prediction, rejected, stored_ids, stored_rows
from sketch_scene import log
from sqlalchemy.exc import SQLAlchemyError

from records.engines import make_engine
from records.inference import InferenceLog
from records.insert import batches, insert_rows, read_record
from records.log_database import open_log
from records.new_rows import insert_new
from records.putting_by import put_by
from records.rows import to_record
from records.stores import Stores
from resunet.errors import RecordsError

HERE = Path(__file__).parent

EXIT = """
import sys
from pathlib import Path
from records.inference import InferenceLog
from records_rows import prediction
log = InferenceLog.open(sys.argv[1], Path(sys.argv[2]), drain_interval_s=3600)
log.append([prediction(f"{number:02}") for number in range(40)])
"""


def test_of_equal_rows_the_first_is_stored_and_told_once(database_url: str) -> None:
    engine = open_log(database_url)
    one, two = (read_record(to_record(prediction(name))).values for name in "ab")
    with engine.begin() as connection:
        assert insert_new(connection, [one | {"latency_ms": 1.0}, one | {"latency_ms": 2.0}]) == {one["answer_id"]}
        assert insert_new(connection, [one, two]) == {two["answer_id"]}
        assert insert_new(connection, [one, two]) == set() == insert_new(connection, [])
    assert sorted(row.latency_ms for row in stored_rows(database_url)) == [1.0, 12.5]
    engine.dispose()


def test_a_row_that_a_trigger_passes_over_is_not_new(tmp_path: Path) -> None:
    engine = open_log(f"sqlite:///{tmp_path}/records.db")
    one, two = (read_record(to_record(prediction(name))).values for name in "ab")
    with engine.begin() as connection:
        ignore = (
            "CREATE TRIGGER t BEFORE INSERT ON predictions WHEN NEW.request_id = 'a' BEGIN SELECT RAISE(IGNORE); END"
        )
        connection.exec_driver_sql(ignore)
        assert insert_new(connection, [one, two]) == {two["answer_id"]}
    engine.dispose()


def test_every_column_is_stored_as_it_was_logged(database_url: str, tmp_path: Path) -> None:
    row = prediction("é%s%b?:x", width=31, latency_ms=None, slice='a"\\{},NULL', client=None, threshold=1)
    other = prediction("other", width=None, threshold=0.25, descriptors={"width": 12.5}, embedding=None)
    log(database_url, tmp_path / "home", [row, other])
    (found,) = (one for one in stored_rows(database_url) if one.request_id == row.request_id)
    values = read_record(to_record(row)).values
    assert dict(found._mapping) == values
    assert found.event_time == NOON and found.answer_id == answer(row)


def test_one_row_that_no_database_takes_does_not_hold_back_the_others(database_url: str, tmp_path: Path) -> None:
    engine = open_log(database_url)
    home = tmp_path / "home"
    batch = [read_record(to_record(prediction(f"{number:02}"))) for number in range(30)]
    batch[17].values["model_name"] = None
    assert insert_rows(engine, Stores.of(home), batch) == [batch[17].record]
    assert stored_ids(database_url) == [f"{number:02}" for number in range(30) if number != 17]
    assert len(list((home / "masks").glob("*/*/*.json.gz"))) == 29
    assert list((home / "masks" / "incoming").iterdir()) == []
    engine.dispose()


@pytest.mark.parametrize("value", ["1.5", [], 10**400])
def test_a_number_that_is_none_is_set_aside_alone(database_url: str, tmp_path: Path, value: object) -> None:
    record = json.loads(to_record(prediction("bad")))
    record["descriptors"]["brightness"] = value
    running = InferenceLog.open(database_url, tmp_path / "home", drain_interval_s=3600)
    running._spool.append([to_record(prediction("a")), json.dumps(record).encode(), to_record(prediction("b"))])
    running.drain_now()
    running.close()
    assert stored_ids(database_url) == ["a", "b"]
    assert len(rejected(tmp_path / "home")) == 1


def test_masks_of_rows_that_were_there_already_are_not_left_on_the_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    for home in (tmp_path / "one", tmp_path / "two"):
        log(url, home, [prediction(f"{number:02}") for number in range(20)])
    assert len(list((tmp_path / "one" / "masks").glob("*/*/*.json.gz"))) == 20
    assert [path for path in (tmp_path / "two").rglob("*") if path.is_file()] == []


def test_masks_are_not_left_where_the_database_does_not_answer(dead_url: str, tmp_path: Path) -> None:
    batch = [read_record(to_record(prediction(f"{number:02}"))) for number in range(20)]
    with pytest.raises(SQLAlchemyError):
        insert_rows(make_engine(dead_url), Stores.of(tmp_path), batch)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_masks_are_put_by_all_or_none(tmp_path: Path) -> None:
    rows = [read_record(to_record(prediction(f"{number:02}"))) for number in range(20)]
    named = [(row.values["answer_id"], row.attached) for row in rows]
    stores = Stores.of(tmp_path)
    with pytest.raises(RecordsError):
        put_by(stores, [*named, ("no answer", rows[0].attached)])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len({put.mask for put in put_by(stores, named)}) == 20 == len(stores.masks.incoming())


def test_no_mask_is_left_where_its_image_cannot_be_written(tmp_path: Path) -> None:
    row, stores = read_record(to_record(prediction("a"))), Stores.of(tmp_path)
    (tmp_path / "images").write_text("where the folder of images should be")
    with pytest.raises(RecordsError):
        stores.put_by(row.values["answer_id"], replace(row.attached, image=b"an image"))
    assert not list(stores.masks.incoming())


def test_a_mask_that_was_deleted_while_it_waited_is_written_anew(tmp_path: Path) -> None:
    row, stores = read_record(to_record(prediction("a"))), Stores.of(tmp_path)
    waiting = stores.put_by(row.values["answer_id"], row.attached)
    stores.masks.incoming()[0].unlink()
    stores.keep(row.values["answer_id"], row.attached, NOON, waiting)
    assert stores.masks.get(row.values["answer_id"], NOON) == row.attached.mask_rle


def test_a_process_that_ends_without_closing_its_log_drains_it_masks_too(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    url, home = f"sqlite:///{tmp_path}/records.db", tmp_path / "home"
    subprocess.run([sys.executable, "-c", EXIT, url, str(home)], env=environment, check=True, timeout=120)
    assert len(stored_ids(url)) == 40 == len(list((home / "masks").glob("*/*/*.json.gz")))


def test_a_batch_is_neither_long_nor_large() -> None:
    small = [read_record(to_record(prediction(str(number), mask_rle=None))) for number in range(2001)]
    assert [len(batch) for batch in batches(small)] == [1000, 1000, 1]
    large = [read_record(to_record(prediction(str(number), mask_rle="x" * 2**22))) for number in range(5)]
    assert [len(batch) for batch in batches(large)] == [2, 2, 1]

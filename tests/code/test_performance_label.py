"""`python -m monitoring label --csv`: every row counts once, and what one has wrong costs the others nothing."""

import json
from datetime import timedelta

import pytest
from performance_scene import ANSWERED, Scene, mask_of
from records_release_2 import labels as labels_of_release_2
from records_rows import NOON
from sqlalchemy import insert, inspect, select, text, update

from monitoring.performance.label_file import Defaults, LabelRow, draft_mark
from monitoring.performance.labelling import label_all
from records.forget import forget
from records.labels import pixels_of
from records.log_database import open_log
from records.picks import Pick, PickedAnswer, add_picks
from records.schema import labels, predictions
from records.sealing import new_key
from records.stores import Stores
from records.subject import Subject
from records.upkeep import Retention, Upkeep
from resunet.errors import RecordsError
from resunet.masks import to_rle

DICE = round(2 * 5 / 15, 4)


def test_masks_and_scores_are_written_whatever_other_rows_have_wrong(watched: Scene) -> None:
    watched.answer("a", "b", "c")
    watched.answer("kept no more", mask_rle=None)
    path = watched.csv(
        [
            {"request_id": "a", "mask": 5, "source": "audit"},
            {"request_id": "never asked", "mask": 5},
            {"request_id": "kept no more", "mask": 5},
            {"request_id": "b", "mask": "no such.png"},
            {"request_id": "b", "dice": "many"},
            {"request_id": "b", "dice": 0.5, "mask": 5},
            {"request_id": "b", "dice": 0.5, "source": "hearsay"},
            {"request_id": "", "dice": 0.5},
            {"request_id": "c", "dice": 0.25},
            {"request_id": "c", "dice": 0.75},
        ]
    )
    done = watched.typed("label", "--csv", str(path))
    assert done.code == 2
    assert watched.stored() == [("a", "3", "audit", DICE), ("c", "3", "client", 0.25)]
    told = done.err.splitlines()
    for line, request, why in (
        (3, "never asked", "no answer of that request id"),
        (4, "kept no more", "RESUNET_MASK_RETENTION_DAYS"),
        (5, "b", "no such.png: the file cannot be read"),
        (6, "b", "from 0 to 1, not 'many'"),
        (7, "b", "either a mask or a Dice, not both"),
        (8, "b", "'hearsay' is no source"),
        (9, "(none)", "request id is empty"),
        (11, "c", "line 10 labels this request already"),
    ):
        assert any(one.startswith(f"line {line}, request {request}: ") and why in one for one in told), (line, told)
    assert "8 of 10 rows were refused; the others are written" in told[-1]


def test_a_file_may_be_run_again(watched_lite: Scene) -> None:
    watched_lite.answer("a", "b")
    path = watched_lite.csv([{"request_id": name, "mask": 5} for name in ("a", "b")])
    first, second = (watched_lite.typed("label", "--csv", str(path), "--source", "audit") for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out and "0.667" in first.out
    assert watched_lite.stored() == [("a", "3", "audit", DICE), ("b", "3", "audit", DICE)]


def test_a_dry_run_finds_out_the_same_and_writes_nothing(watched_lite: Scene) -> None:
    watched_lite.answer("a")
    path = watched_lite.csv([{"request_id": "a", "mask": 5}, {"request_id": "never asked", "dice": 1}])
    dry = watched_lite.typed("label", "--csv", str(path), "--dry-run")
    assert dry.code == 2 and "would be written" in dry.out and "0.667" in dry.out and "line 3" in dry.err
    assert watched_lite.stored() == []


def test_masks_may_lie_in_a_folder_of_their_own(watched_lite: Scene) -> None:
    watched_lite.answer("a")
    path = watched_lite.csv([{"request_id": "a", "mask": 5}])
    (watched_lite.folder / "elsewhere").mkdir()
    path = path.rename(watched_lite.folder / "elsewhere" / "labels.csv")
    assert watched_lite.typed("label", "--csv", str(path)).code == 2
    assert watched_lite.typed("label", "--csv", str(path), "--masks", str(watched_lite.folder)).code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("request_id\na\n", "a column mask or dice"),
        ("mask\na.png\n", "needs a column request_id"),
        ("request_id,dice\n", "no row below its header"),
        ("request_id,dice,dice\na,1,1\n", "the column dice twice"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_of_labels_is_refused(watched_lite: Scene, content: str | None, told: str) -> None:
    path = watched_lite.folder / "labels.csv"
    if content is not None:
        path.write_text(content)
    done = watched_lite.typed("label", "--csv", str(path))
    assert done.code == 2 and told in done.err


def test_a_database_that_is_gone_ends_the_file_at_once(watched_lite: Scene) -> None:
    engine, stores = watched_lite.engine, Stores.of(watched_lite.home)
    engine.dispose()
    database = watched_lite.folder / "records.db"
    database.write_bytes(b"no database any more" * 100)
    rows = [LabelRow(number, f"r{number}", dice="1") for number in range(2, 10)]
    defaults = Defaults(watched_lite.folder, "audit", "resunet")
    with pytest.raises(RecordsError, match="cannot be used"):
        label_all(rows, defaults, engine=engine, stores=stores, keep=False, now=NOON)


def test_one_damaged_mask_does_not_end_the_file(watched_lite: Scene) -> None:
    watched_lite.answer("a", "b")
    (first, *_) = sorted((watched_lite.home / "masks").rglob("*.json.gz"))
    first.write_bytes(b"damaged")
    path = watched_lite.csv([{"request_id": name, "mask": 5} for name in "ab"])
    done = watched_lite.typed("label", "--csv", str(path))
    assert done.code == 2 and "damaged" in done.err and len(watched_lite.stored()) == 1


def test_an_unchanged_draft_is_no_label_unless_somebody_checked_it(watched_lite: Scene) -> None:
    watched_lite.answer("a", "b", "c")
    mark = draft_mark(ANSWERED)
    rows = [
        {"request_id": "a", "mask": 10, "draft": mark, "checked": ""},
        {"request_id": "b", "mask": 10, "draft": mark, "checked": "Yes"},
        {"request_id": "c", "mask": 5, "draft": mark, "checked": ""},
    ]
    done = watched_lite.typed("label", "--csv", str(watched_lite.csv(rows)))
    assert done.code == 2 and "line 2, request a: the mask is still the model's own draft" in done.err
    assert watched_lite.stored() == [("b", "3", "client", 1.0), ("c", "3", "client", DICE)]
    assert draft_mark(ANSWERED // 255) == mark != draft_mark(mask_of(5))


def test_a_picked_image_is_no_random_audit(watched_lite: Scene) -> None:
    watched_lite.answer("a", "b")
    engine = watched_lite.engine
    with engine.connect() as connection:
        query = select(predictions.c.answer_id).where(predictions.c.request_id == "a")
        answer = connection.scalar(query)
    assert answer is not None
    pick = Pick("p", "resunet", NOON, NOON, NOON)
    add_picks(engine, pick, [PickedAnswer(answer, "picked", 0.5, "uncertain")])
    engine.dispose()
    rows = [{"request_id": name, "dice": 1, "source": "audit", "draft": "from the pick"} for name in "ab"]
    done = watched_lite.typed("label", "--csv", str(watched_lite.csv(rows)))
    assert done.code == 2 and "line 2, request a: the image was picked" in done.err
    assert watched_lite.stored() == [("b", "3", "audit", 1.0)]
    # An audit of one's own may come upon it, and would be biased without.
    own = [{"request_id": "a", "dice": 1, "source": "audit"}]
    assert watched_lite.typed("label", "--csv", str(watched_lite.csv(own))).code == 0


def test_pixels_are_kept_by_true_and_predicted_class(watched: Scene) -> None:
    watched.answer("a")
    assert watched.typed("label", "--csv", str(watched.csv([{"request_id": "a", "mask": 5}]))).code == 0
    engine = watched.engine
    with engine.connect() as connection:
        stored, dice = connection.execute(select(labels.c.pixels, labels.c.dice)).one()
    engine.dispose()
    assert pixels_of(stored, dice) == {(0, 0): 200, (0, 1): 100, (1, 1): 100}


def test_pixels_of_a_label_that_an_earlier_release_replaced_are_not_believed(watched: Scene) -> None:
    watched.answer("a")
    assert watched.typed("label", "--csv", str(watched.csv([{"request_id": "a", "mask": 5}]))).code == 0
    engine = watched.engine
    with engine.begin() as connection:
        connection.execute(update(labels_of_release_2).values(dice=0.25))
        stored, dice = connection.execute(select(labels.c.pixels, labels.c.dice)).one()
    engine.dispose()
    assert stored is not None and pixels_of(stored, dice) is None
    assert pixels_of(json.dumps([[0, 0, 4]]), 1.0) == {(0, 0): 4}
    assert pixels_of(None, 1.0) is None


def test_a_table_of_labels_of_an_earlier_release_gets_the_column(watched: Scene) -> None:
    engine = watched.engine
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE labels DROP COLUMN pixels"))
        values = {"request_id": "old", "model_name": "resunet", "model_version": "3", "source": "audit"}
        connection.execute(insert(labels_of_release_2).values(**values, label_time=NOON, dice=0.5))
    engine.dispose()
    engine = open_log(watched.url)
    assert "pixels" in {column["name"] for column in inspect(engine).get_columns("labels")}
    with engine.connect() as connection:
        assert connection.execute(select(labels.c.dice, labels.c.pixels)).one() == (0.5, None)
    engine.dispose()


def kept(scene: Scene, request: str) -> dict[str, str | None]:
    """The truths that are kept of a request, by source."""
    engine = scene.engine
    with engine.connect() as connection:
        answer = connection.scalar(select(predictions.c.answer_id).where(predictions.c.request_id == request))
    engine.dispose()
    truths = Stores.of(scene.home).truths
    return {source: truths.get(str(answer), source) for source in ("audit", "client")}


def test_truths_are_kept_where_that_is_asked_for_and_the_image_is_kept(watched_lite: Scene) -> None:
    watched_lite.answer("a", image=b"an image", keep_images=1.0)
    watched_lite.answer("b")
    path = str(watched_lite.csv([{"request_id": name, "mask": 5} for name in "ab"]))
    assert watched_lite.typed("label", "--csv", path, "--source", "audit").code == 0
    assert kept(watched_lite, "a") == {"audit": None, "client": None}
    assert watched_lite.typed("label", "--csv", path, "--source", "audit", RESUNET_KEEP_LABELS="1").code == 0
    assert kept(watched_lite, "a") == {"audit": to_rle(mask_of(5)), "client": None}
    assert kept(watched_lite, "b") == {"audit": None, "client": None}
    # What a client says takes the place of no audit, and a score leaves no older truth behind.
    other = str(watched_lite.csv([{"request_id": "a", "mask": 10}], "other.csv"))
    assert watched_lite.typed("label", "--csv", other, RESUNET_KEEP_LABELS="1").code == 0
    assert kept(watched_lite, "a") == {"audit": to_rle(mask_of(5)), "client": to_rle(mask_of(10))}
    score = str(watched_lite.csv([{"request_id": "a", "dice": 0.5}], "score.csv"))
    assert watched_lite.typed("label", "--csv", score, "--source", "audit", RESUNET_KEEP_LABELS="1").code == 0
    assert kept(watched_lite, "a") == {"audit": None, "client": to_rle(mask_of(10))}


def test_kept_truths_are_sealed_forgotten_and_deleted_after_their_time(watched_lite: Scene) -> None:
    key = new_key()
    watched_lite.answer("a", "b", image=b"an image", keep_images=1.0)
    path = str(watched_lite.csv([{"request_id": name, "mask": 5} for name in "ab"]))
    assert watched_lite.typed("label", "--csv", path, RESUNET_KEEP_LABELS="1", RESUNET_BLOB_KEY=key).code == 0
    files = sorted((watched_lite.home / "truths").rglob("*.json.gz"))
    assert len(files) == 2 and not any(file.read_bytes().startswith(b"\x1f\x8b") for file in files)

    engine = watched_lite.engine
    after = NOON + timedelta(days=1)
    done = forget(engine, watched_lite.home, Subject("request", "a"), actor="ada", clock=lambda: after)
    assert done.masks == 2 and [file.exists() for file in files].count(True) == 1
    stores = Stores.of(watched_lite.home)
    for days, left in ((30, 1), (32, 0)):
        Upkeep(engine, watched_lite.home, stores, Retention(), lambda days=days: NOON + timedelta(days=days)).run()  # type: ignore[misc]
        assert sum(file.exists() for file in files) == left
    engine.dispose()

"""Labelled live images: collected once, checked, and let through by somebody who is named, or not at all."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from quarantine_scene import Scene, picture, png
from records_rows import NOON
from sqlalchemy import text

from monitoring.quarantine import batch_data, custody, words
from monitoring.quarantine.custody import Person
from records.batch import Withdrawal
from records.log_database import open_log
from records.quarantine import find_batch, note_use, note_withdrawn, released_batches, unused_batches
from records.sealing import MAGIC, Keyring
from records.upkeep import Retention, Upkeep
from records.workplace import clear, workplace
from resunet.errors import DataError, RecordsError, RefusedError, SettingsError


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` finds nothing: its process takes seconds, and is tested by itself."""
    monkeypatch.setattr(custody, "refusals_of", lambda *_: ())


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Scene:
    return Scene(database_url, tmp_path)


@pytest.fixture
def lite(url: str, tmp_path: Path) -> Scene:
    return Scene(url, tmp_path)


@pytest.mark.usefixtures("unchecked")
def test_a_batch_holds_each_labelled_image_that_is_kept_once(scene: Scene) -> None:
    first, second, copy = scene.labelled("a-1", "a-2", "copy-2", slice="lung")
    scene.answer("unlabelled-3", 3)
    [gone] = scene.labelled("gone-4")
    scene.stores.images.delete([gone])
    done = scene.collect()
    [batch], [found] = done.batches, done.found
    assert {one.answer_id for one in batch.images} in ({first, second}, {first, copy})
    assert {(one.source, one.slice) for one in batch.images} == {("audit", "lung")}
    assert (found.copies, found.without_image) == (1, 1)
    assert batch.state == "quarantined" and not batch.of_clients and batch.digest.startswith("sha256:")
    assert [one.dice for one in batch.images] == [pytest.approx(20 / 22)] * 2
    assert scene.collect().batches == ()


@pytest.mark.usefixtures("unchecked")
def test_labels_of_clients_come_into_a_batch_of_their_own_and_only_if_asked_for(lite: Scene) -> None:
    lite.labelled("ours-1")
    lite.labelled("theirs-2", "both-3", source="client")
    lite.label("both-3", "audit")
    ours = lite.batch()
    assert not ours.of_clients and len(ours.images) == 2 and {one.source for one in ours.images} == {"audit"}
    theirs = lite.batch("audit", "picked", "client")
    assert theirs.of_clients and [one.source for one in theirs.images] == ["client"]


@pytest.mark.usefixtures("unchecked")
def test_what_was_turned_down_comes_back_only_with_another_label(lite: Scene) -> None:
    lite.labelled("a-1", "a-2")
    assert lite.reject(lite.batch()).state == "rejected"
    assert lite.collect().batches == ()
    lite.label("a-1", "audit", rows=9)
    assert len(lite.batch().images) == 1


@pytest.mark.usefixtures("unchecked")
def test_an_auditor_s_label_is_collected_although_a_client_s_waits(lite: Scene) -> None:
    lite.labelled("a-1", source="client")
    assert lite.batch("client").of_clients
    lite.label("a-1", "audit", rows=9)
    assert not lite.batch().of_clients


@pytest.mark.usefixtures("unchecked")
def test_a_release_names_somebody_and_stays(scene: Scene) -> None:
    scene.labelled("a-1", "a-2")
    batch = scene.batch()
    assert released_batches(scene.engine, "resunet") == []
    done = scene.release(batch)
    assert done.decision is not None
    assert (done.state, done.decision.who, done.decision.why) == ("released", "ada", "looked at each of them")
    assert done.decision.digest == batch.digest
    assert [one.batch_id for one in unused_batches(scene.engine, "resunet")] == [batch.batch_id]
    for again in (scene.reject, scene.release):
        with pytest.raises((RecordsError, RefusedError), match="was released by ada: that stays so"):
            again(batch, Person("mallory", "because"))
    for statement in ("UPDATE batch_decisions SET who = 'mallory'", "DELETE FROM batch_decisions"):
        with pytest.raises(Exception, match="append-only"), scene.engine.begin() as connection:
            connection.execute(text(statement))


@pytest.mark.parametrize(("name", "reason"), [("", "why not"), (" ", "why not"), ("ada", ""), ("ada", " \n")])
def test_nobody_decides_without_a_name_and_a_reason(name: str, reason: str) -> None:
    with pytest.raises(SettingsError, match="a decision has a name and a reason"):
        Person(name, reason)


@pytest.mark.usefixtures("unchecked")
def test_labels_of_clients_are_released_only_by_who_says_that_they_are(lite: Scene) -> None:
    lite.labelled("a-1", source="client")
    batch = lite.batch("client")
    with pytest.raises(RefusedError, match=r"were sent by clients.*--of-clients"):
        lite.release(batch)
    assert lite.files("released") == []
    assert lite.release(batch, of_clients=True).state == "released"


@pytest.mark.usefixtures("unchecked")
def test_an_image_that_was_changed_since_is_refused_by_name(lite: Scene) -> None:
    [answer] = lite.labelled("a-1")
    batch = lite.batch()
    lite.stores.images.put(answer, png(255 - picture(1)), NOON)
    with pytest.raises(RefusedError, match=rf"{batch.images[0].name}: its image was changed since"):
        lite.release(batch)
    assert find_batch(lite.engine, batch.batch_id).state == "quarantined" and lite.files("released") == []


@pytest.mark.usefixtures("unchecked")
def test_a_label_that_was_drawn_anew_since_is_refused_by_name_and_can_be_taken_out(lite: Scene) -> None:
    lite.labelled("a-1", "a-2")
    batch = lite.batch()
    lite.label("a-2", "audit", rows=3)
    changed = next(one.name for one in batch.images if one.answer_id == lite.answer("a-2", 2))
    with pytest.raises(RefusedError, match=rf"{changed}: its label was changed since"):
        lite.release(batch)
    left = lite.check(batch)
    assert [one.left_out for one in left.members if one.name == changed] == ["its label was changed since"]
    assert len(lite.release(left).images) == 1
    # It is another label now, and may be looked at.
    assert [one.name for one in lite.batch().images] == [changed]


@pytest.mark.usefixtures("unchecked")
def test_somebody_takes_a_label_out_and_it_stays_out(lite: Scene) -> None:
    lite.labelled("a-1", "a-2")
    batch = lite.batch()
    left = lite.check(batch, batch.images[0].name[:12], why="not what is there")
    assert len(left.images) == 1 and left.digest != batch.digest
    lite.release(left)
    assert lite.collect().batches == ()
    with pytest.raises(SettingsError, match="names no image of batch"):
        lite.check(batch, "live-zzz")


@pytest.mark.usefixtures("unchecked")
def test_what_is_quarantined_follows_retention_and_what_is_released_does_not(lite: Scene) -> None:
    lite.labelled("kept-1", "kept-2")
    released = lite.release(lite.batch())
    lite.labelled("waits-3")
    waits = lite.batch()
    later = NOON + timedelta(days=40)
    Upkeep(lite.engine, lite.home, lite.stores, Retention(), lambda: later).run()
    assert [type(one) for one in batch_data.contents(released, lite.stores)] == [batch_data.Content] * 2
    with pytest.raises(RefusedError, match="it is kept no more"):
        lite.release(waits)
    with pytest.raises(DataError, match=r"nothing is left of batch .*: reject it"):
        lite.check(waits)


@pytest.mark.usefixtures("unchecked")
def test_forget_takes_images_out_of_batches_and_names_the_versions_that_learnt_from_them(scene: Scene) -> None:
    first, second = scene.labelled("a-1", "a-2")
    batch = scene.release(scene.batch())
    keys = {first: "pixels:1", second: "pixels:2"}
    assert note_use(scene.engine, "8", "run", scene.now, [batch.batch_id], keys) == []
    scene.labelled("other-3", client="lab-8")
    waits = scene.batch()
    done = scene.forget("request", "a-1")
    assert done.trained == {"resunet 8"}
    left = find_batch(scene.engine, batch.batch_id)
    assert [one.answer_id for one in left.images] == [second]
    assert [one for one in scene.files("released") if first in one.name] == []
    assert len([one for one in scene.files("released") if second in one.name]) == 2
    assert scene.forget("client", "lab-8").trained == set()
    assert find_batch(scene.engine, waits.batch_id).members == ()
    # A training that was under way meanwhile learns of it, and is none that used what is left.
    assert note_use(scene.engine, "9", "run", scene.now, [batch.batch_id], keys) == [first]
    assert [use.model_version for use in find_batch(scene.engine, batch.batch_id).uses] == ["8"]


@pytest.mark.usefixtures("unchecked")
def test_forget_reaches_a_folder_where_a_data_set_is_put_together(lite: Scene) -> None:
    first, second = lite.labelled("a-1", "a-2")
    lite.release(lite.batch())
    with workplace(lite.home, "retrain") as folder:
        (folder / "images").mkdir()
        for answer in (first, second):
            (folder / "images" / f"live-{answer[:24]}.png").write_bytes(b"pixels")
        lite.forget("request", "a-1")
        assert [path.name for path in (folder / "images").iterdir()] == [f"live-{second[:24]}.png"]
    assert lite.files("assembled") == []


def test_what_a_dead_process_left_in_clear_is_deleted_and_what_a_living_one_works_on_is_not(tmp_path: Path) -> None:
    left = tmp_path / "assembled" / "retrain-0123"
    left.mkdir(parents=True)
    (left / "live-0.png").write_bytes(b"pixels")
    with workplace(tmp_path, "prepare") as folder:
        assert not left.exists() and folder.stat().st_mode & 0o777 == 0o700
        clear(tmp_path)
        assert folder.is_dir()


@pytest.mark.usefixtures("unchecked")
def test_what_is_released_is_sealed_where_there_is_a_key(url: str, tmp_path: Path) -> None:
    scene = Scene(url, tmp_path, Keyring([b"k" * 32]))
    scene.labelled("a-1")
    batch = scene.release(scene.batch())
    files = scene.files("released")
    assert len(files) == 2 and all(path.read_bytes().startswith(MAGIC) for path in files)
    [content] = batch_data.contents(batch, scene.stores)
    assert isinstance(content, batch_data.Content) and content.encoded.startswith(b"\x89PNG")


@pytest.mark.usefixtures("unchecked")
def test_a_release_that_was_cut_off_leaves_nothing_for_long(lite: Scene) -> None:
    lite.labelled("a-1")
    batch = lite.batch()
    [content] = batch_data.contents(batch, lite.stores)
    assert isinstance(content, batch_data.Content)
    lite.stores.released.images(batch.batch_id).put(batch.images[0].answer_id, content.encoded, NOON)
    later = datetime.now(UTC) + timedelta(days=2)
    Upkeep(lite.engine, lite.home, lite.stores, Retention(timedelta(999), timedelta(999)), lambda: later).run()
    assert lite.files("released") == []


@pytest.mark.usefixtures("unchecked")
def test_what_was_released_stays_where_another_database_knows_nothing_of_it(lite: Scene, tmp_path: Path) -> None:
    lite.labelled("a-1")
    lite.release(lite.batch())
    kept = lite.files("released")
    other = open_log(f"sqlite:///{tmp_path}/other.db")
    later = datetime.now(UTC) + timedelta(days=2)
    Upkeep(other, lite.home, lite.stores, Retention(timedelta(999), timedelta(999)), lambda: later).run()
    other.dispose()
    assert kept and lite.files("released") == kept


def test_prepare_looks_at_a_batch_and_what_it_refuses_is_told_and_not_released(lite: Scene) -> None:
    lite.labelled("a-1", "a-2", "b-1")
    lite.label("b-1", "audit", rows=25)
    batch = lite.batch()
    assert batch.refusals is not None and len(batch.refusals) == 1
    assert batch.refusals[0].startswith("contradictory masks: live-") and lite.files("assembled") == []
    with pytest.raises(RefusedError, match="cannot be trained on: contradictory masks"):
        lite.release(batch)
    twin = next(one.name for one in batch.images if one.name in batch.refusals[0])
    mended = lite.check(batch, twin)
    assert mended.refusals == () and lite.release(mended).state == "released"


@pytest.mark.usefixtures("unchecked")
def test_of_two_who_decide_at_once_the_first_one_has(lite: Scene) -> None:
    lite.labelled("a-1")
    batch = lite.batch()
    lite.release(batch)
    with pytest.raises(RefusedError, match="was released by ada"):
        lite.release(batch, Person("bob", "me too"))
    assert len(lite.files("released")) == 2


@pytest.mark.usefixtures("unchecked")
def test_a_release_is_taken_back_by_somebody_who_is_named_and_both_stay(scene: Scene) -> None:
    scene.labelled("a-1", "a-2")
    batch = scene.release(scene.batch())
    note_use(scene.engine, "8", "run", scene.now, [batch.batch_id], {})
    done = scene.withdraw(batch, Person("bob", "labels of another stain"))
    assert done.decision is not None and done.decision.who == "ada" and done.withdrawal is not None
    assert (done.state, done.withdrawal.who, done.withdrawal.why) == ("withdrawn", "bob", "labels of another stain")
    assert scene.files("released") == [] and unused_batches(scene.engine, "resunet") == []
    told = "\n".join(words.known(done))
    assert "released by ada" in told and "taken back by bob" in told and "trained on by version 8" in told
    # Its labels are not collected again, unless they are drawn anew.
    assert scene.collect().batches == ()
    for again in (scene.release, scene.reject, scene.check):
        with pytest.raises((RecordsError, RefusedError, DataError), match=r"was withdrawn by bob|nothing is left"):
            again(batch)
    # Whoever repeats it has what is left of the copies deleted, and changes no word.
    assert scene.withdraw(batch, Person("mallory", "because")) == done
    scene.label("a-1", "audit", rows=9)
    assert len(scene.batch().images) == 1
    for statement in ("UPDATE batch_withdrawals SET who = 'mallory'", "DELETE FROM batch_withdrawals"):
        with pytest.raises(Exception, match="append-only"), scene.engine.begin() as connection:
            connection.execute(text(statement))


@pytest.mark.usefixtures("unchecked")
def test_only_a_release_is_taken_back(lite: Scene) -> None:
    lite.labelled("a-1")
    batch = lite.batch()
    with pytest.raises(RecordsError, match="is quarantined: only a release can be taken back"):
        lite.withdraw(batch)
    assert find_batch(lite.engine, batch.batch_id).state == "quarantined"


@pytest.mark.usefixtures("unchecked")
def test_a_database_of_before_withdrawals_is_read_and_takes_one(scene: Scene) -> None:
    scene.labelled("a-1")
    batch = scene.release(scene.batch())
    with scene.engine.begin() as connection:
        connection.execute(text("DROP TABLE batch_withdrawals"))
    assert find_batch(scene.engine, batch.batch_id).state == "released"
    assert scene.withdraw(batch).state == "withdrawn"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("who", ["repeats it", "upkeep"])
def test_a_withdrawal_that_was_killed_before_it_deleted_leaves_no_copies_for_long(lite: Scene, who: str) -> None:
    lite.labelled("a-1")
    batch = lite.release(lite.batch())
    note_withdrawn(lite.engine, batch.batch_id, Withdrawal("bob", "labels of another stain", lite.now))
    assert len(lite.files("released")) == 2
    if who == "upkeep":
        later = datetime.now(UTC) + timedelta(days=2)
        Upkeep(lite.engine, lite.home, lite.stores, Retention(timedelta(999), timedelta(999)), lambda: later).run()
    else:
        lite.withdraw(batch)
    assert lite.files("released") == []

"""Forgetting a request or a client: what goes, what stays, and what is left of it anywhere."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from forgotten_scene import LATER, MINE, THEIRS, Scene, mine, theirs
from records_rows import NOON, answer, minutes, prediction
from sqlalchemy import select

from records.forget import Forgotten, survey
from records.subject import Subject
from records.tombstones import digest, forgettings, forgotten, salt_of
from resunet.errors import RecordsError

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Scene:
    return Scene(database_url, tmp_path)


def test_a_client_leaves_no_trace_but_anonymous_rows_and_others_stay_whole(scene: Scene) -> None:
    scene.fill()
    others = [row for row in scene.rows() if row["client"] == THEIRS]
    done = scene.forget()
    assert (done.predictions, done.masks, done.images, done.labels, done.waiting) == (3, 3, 3, 1, 0)
    assert scene.traces() == []
    assert scene.kept(mine("0")) == (None, None)
    assert scene.rows()[:3] == others
    assert scene.labelled() == ["theirs-0"]
    assert scene.kept(theirs("0")) == (f"mask of {THEIRS}", f"image of {THEIRS}".encode())


def test_a_request_is_forgotten_with_all_its_answers_and_no_other(scene: Scene) -> None:
    scene.fill()
    log = scene.log()
    log.append([mine("0", model_version="4"), mine("0", route="shadow")])
    log.drain_now()
    log.close()
    done = scene.forget("request", "mine-0")
    assert (done.predictions, done.masks, done.images, done.labels) == (3, 3, 3, 1)
    assert scene.traces("mine-0") == []
    assert scene.kept(mine("1")) == (f"mask of {MINE}", f"image of {MINE}".encode())
    assert [row["request_id"] for row in scene.rows()[:2]] == ["mine-1", "mine-2"]


def test_the_statistics_of_a_window_stay_as_they_were(scene: Scene) -> None:
    scene.fill()
    before, rows = scene.statistics(), {row["request_id"]: row for row in scene.rows()}
    scene.forget()
    assert scene.statistics() == before
    (anonymous, *_) = scene.rows()[3:]
    lost = {"answer_id", "request_id", "client", "slice", "image_digest", "embedding", "event_time"}
    original = rows["mine-0"]
    assert {name for name in anonymous if anonymous[name] != original[name]} == lost - {"event_time"}
    assert [anonymous[name] for name in ("client", "slice", "image_digest", "embedding")] == [None] * 4


def test_an_anonymous_row_keeps_the_minute_alone(scene: Scene) -> None:
    log = scene.log()
    log.append([mine("0", event_time=NOON + timedelta(seconds=59, microseconds=5))])
    log.close()
    scene.forget()
    assert [row["event_time"] for row in scene.rows()] == [NOON]


def test_forgetting_again_finds_nothing_and_changes_nothing(scene: Scene) -> None:
    scene.fill()
    scene.forget()
    rows = scene.rows()
    assert scene.forget() == Forgotten()
    assert scene.rows() == rows


def test_who_was_never_there_is_forgotten_too(scene: Scene) -> None:
    assert scene.forget("client", "nobody") == Forgotten()
    assert scene.forget("request", "nothing") == Forgotten()
    assert not scene.home.exists() or not list(scene.home.glob("spool/*"))


def test_odd_names_are_found_as_they_were_stored(scene: Scene) -> None:
    odd = "a\ud800'; DROP TABLE labels; --/../é\"\\"
    log = scene.log()
    log.append([prediction(odd), prediction("b")])
    log.drain_now()
    log.append([prediction(odd, model_version="4")])
    assert scene.forget("request", odd).waiting == 1
    log.close()
    assert [row["request_id"][:10] for row in scene.rows()] == ["b", "forgotten-", "forgotten-"]


def test_a_name_that_is_part_of_anothers_is_another(scene: Scene) -> None:
    log = scene.log()
    log.append([prediction("a", client="lab"), prediction("b", client="lab-7"), prediction("lab", client="x")])
    assert scene.forget("client", "lab").waiting == 1
    log.close()
    assert [row["client"] for row in scene.rows()] == ["lab-7", "x", None]


def test_the_same_id_may_come_back_and_is_kept(scene: Scene) -> None:
    scene.fill()
    scene.forget()
    log = scene.log()
    again = mine("0", event_time=LATER + minutes(1))
    assert answer(again) == answer(mine("0"))
    log.append([again])
    log.drain_now()
    assert scene.kept(again) == (f"mask of {MINE}", f"image of {MINE}".encode())
    # Until it is forgotten as well.
    scene.forget(until=LATER + minutes(2))
    assert scene.traces() == []
    log.close()


def test_each_forgetting_is_noted_with_who_when_and_how_many_but_not_whom(scene: Scene) -> None:
    scene.fill()
    scene.forget()
    engine = scene.engine()
    with engine.connect() as connection:
        (note,) = connection.execute(select(forgettings)).mappings()
        salt = salt_of(connection)
        assert salt is not None
        names = {row.name: row.kind for row in connection.execute(select(forgotten))}
    assert (note["who"], note["kind"], note["begun"]) == ("ada", "client", LATER)
    assert note["ended"] >= LATER
    assert [note[name] for name in ("predictions", "labels", "masks", "images", "waiting")] == [3, 1, 3, 3, 0]
    # Who knows the name finds the note by it, and the salt differs from database to database.
    assert note["subject"] == digest(salt, "client", MINE)
    assert names[note["subject"]] == "client"
    engine.dispose()


def test_salts_differ(tmp_path: Path) -> None:
    found = set()
    for name in "ab":
        (tmp_path / name).mkdir()
        scene = Scene(f"sqlite:///{tmp_path}/{name}/log.db", tmp_path / name)
        scene.forget()
        scene.forget()
        engine = scene.engine()
        with engine.connect() as connection:
            found.add(salt_of(connection))
            assert len(connection.execute(select(forgotten).where(forgotten.c.kind == "salt")).all()) == 1
        engine.dispose()
    assert len(found) == 2 and None not in found


def test_many_rows_are_forgotten_in_several_transactions(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("records.tombstones._AT_A_TIME", 3)
    scene.fill(rows=8)
    done = scene.forget()
    assert (done.predictions, done.masks, done.images, done.labels) == (8, 8, 8, 1)
    assert scene.traces() == []
    assert len(scene.rows()) == 16


def test_a_mask_that_cannot_be_deleted_is_told_and_its_row_stays_until_it_can(scene: Scene) -> None:
    scene.fill(rows=1)
    path = next((scene.home / "masks").glob(f"*/*/{answer(mine('0'))}*"))
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordsError, match="cannot be deleted"):
        scene.forget()
    assert [row["client"] for row in scene.rows()] == [MINE, THEIRS]
    path.rmdir()
    assert scene.forget().predictions == 1
    assert scene.traces() == []


def test_a_survey_counts_and_changes_nothing(scene: Scene) -> None:
    scene.fill()
    log = scene.log()
    log.append([mine("9"), theirs("9")])
    rows, engine = scene.rows(), scene.engine()
    for kind, text, expected in (("client", MINE, (3, 0, 1)), ("request", "mine-0", (1, 1, 0))):
        found = survey(engine, scene.home, Subject(kind, text), lambda: LATER)  # type: ignore[arg-type]
        assert (found.predictions, found.labels, found.waiting) == expected
    assert scene.rows() == rows
    engine.dispose()
    log.close()


def test_nobody_has_no_name() -> None:
    with pytest.raises(RecordsError, match="which client"):
        Subject("client", "")


def run(scene: Scene, *words: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
    environment: dict[str, Any] = {"RESUNET_HOME": str(scene.home), "RESUNET_INFERENCE_LOG": scene.url}
    command = [sys.executable, "-m", "records", "forget", *words]
    return subprocess.run(
        command, cwd=PROJECT, env=os.environ | environment, input=typed, capture_output=True, text=True, timeout=120
    )


def test_the_command_asks_first_and_says_what_it_did(tmp_path: Path) -> None:
    scene = Scene(f"sqlite:///{tmp_path}/log.db", tmp_path)
    scene.fill()
    for typed in ("", "n\n"):
        asked = run(scene, "--client", MINE, typed=typed)
        assert asked.returncode == 2
        assert "3 predictions in the database, 0 that wait for it" in asked.stdout
        assert "nothing was forgotten: answer y, or give --yes" in asked.stderr
    assert scene.traces() != []
    done = run(scene, "--request", "mine-0", typed="y\n")
    assert done.returncode == 0
    assert "1 predictions in the database and 0 that waited for it are anonymous now" in done.stdout
    assert scene.traces("mine-0") == []
    done = run(scene, "--client", MINE, "--yes", "--actor", "bob")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "2 predictions in the database and 0 that waited for it are anonymous now",
        "2 masks, 2 images and 0 labels are deleted",
    ]
    assert scene.traces() == []


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("--client", "lab-7"), ["key1", "key2:lab-8", "lab-77"]),
        (("--key", "key1"), ["key2:lab-7", "key2:lab-8", "lab-7", "lab-77"]),
        (("--key", "lab-7"), ["key1", "key1:lab-7", "key2:lab-7", "key2:lab-8", "lab-77"]),
    ],
)
def test_what_was_asked_with_a_key_is_forgotten_by_the_name_that_was_given_or_by_the_key(
    tmp_path: Path, words: tuple[str, ...], left: list[str]
) -> None:
    scene = Scene(f"sqlite:///{tmp_path}/log.db", tmp_path)
    log = scene.log()
    clients = ("lab-7", "lab-77", "key1", "key1:lab-7", "key2:lab-7", "key2:lab-8")
    log.append([prediction(f"of {client}", client=client) for client in clients[1:]])
    log.drain_now()
    log.append([prediction("of lab-7", client="lab-7")])
    log.close()
    done = run(scene, *words, "--yes")
    assert done.returncode == 0, done.stderr
    assert sorted(row["client"] for row in scene.rows() if row["client"]) == left


@pytest.mark.parametrize("words", [(), ("--client", "a", "--request", "b"), ("--client", ""), ("--key", "")])
def test_the_command_needs_one_name(tmp_path: Path, words: tuple[str, ...]) -> None:
    scene = Scene(f"sqlite:///{tmp_path}/log.db", tmp_path)
    done = run(scene, *words, "--yes")
    assert done.returncode == 2 and "forgotten?" in done.stderr
    assert not (tmp_path / "log.db").exists()

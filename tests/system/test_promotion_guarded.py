"""Promotion on the guarded registry: one transaction, whoever is killed in it, and one winner among many."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from guarded_desk import GuardedDesk
from mlflow.exceptions import MlflowException
from promotion_desk import ADA, ROOT
from small_versions import evaluation, scores

from records import audit
from resunet.errors import RefusedError

# Twenty processes that are one import: each opens the registry for itself, and all promote when the last is ready.
RACE = """
import json, multiprocessing, os, sys, warnings
from mlflow import MlflowClient
import registry.guard.store

database, name, versions = os.environ["GUARDED_DATABASE"], sys.argv[1], sys.argv[2:]
context = multiprocessing.get_context("fork")
barrier = context.Barrier(len(versions))

def promote(version, told):
    warnings.simplefilter("ignore")
    client = MlflowClient(tracking_uri=database, registry_uri=f"gated+{database}")
    client.get_model_version(name, version)
    barrier.wait(100)
    try:
        client.transition_model_version_stage(name, version, "Production")
        told.put((version, ""))
    except Exception as error:
        told.put((version, str(error)))

told = context.Queue()
processes = [context.Process(target=promote, args=(version, told), daemon=True) for version in versions]
for process in processes:
    process.start()
print(json.dumps(dict(told.get(timeout=200) for _ in versions)))
for process in processes:
    process.join()
assert not any(process.exitcode for process in processes), [process.exitcode for process in processes]
"""

DIE = """
import os, signal, sys
from registry.guard import store
from registry import lifecycle
from registry.people import Actor

def die(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)

place = sys.argv[3]
if place == "before the move":
    store.StoreShelf.move = die
elif place == "in the transaction":
    store.StoreShelf._align = die
elif place == "before the decision is written":
    lifecycle.keep = die
elif place == "after the move":
    lifecycle.Lifecycle._tell = die
life = store.GuardedStore(os.environ["GUARDED_DATABASE"]).lifecycle
life.promote(sys.argv[1], sys.argv[2], "Production", Actor("ada"), "")
"""


def live_now(database: str) -> tuple[list[str], list[str]]:
    """The versions in Production and behind @champion, of one moment, past everything of ours."""
    with sqlite3.connect(f"file:{database.removeprefix('sqlite:///')}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT 'stage', version FROM model_versions WHERE current_stage = 'Production' "
            "UNION ALL SELECT 'alias', version FROM registered_model_aliases WHERE alias = 'champion'"
        ).fetchall()
    connection.close()
    found: dict[str, list[str]] = {"stage": [], "alias": []}
    for kind, version in rows:
        found[kind].append(str(version))
    return found["stage"], found["alias"]


@contextmanager
def observed(database: str) -> Iterator[list[tuple[list[str], list[str]]]]:
    """What is live while the block runs, moment by moment; whoever looks must not have failed to."""
    seen: list[tuple[list[str], list[str]]] = []
    failed: list[BaseException] = []
    ended = threading.Event()

    def look() -> None:
        try:
            while not ended.is_set():
                seen.append(live_now(database))
            seen.append(live_now(database))
        except BaseException as error:
            failed.append(error)

    observer = threading.Thread(target=look, daemon=True)
    observer.start()
    try:
        yield seen
    finally:
        ended.set()
        observer.join(60)
    assert not failed and not observer.is_alive(), failed


def test_a_plain_transition_has_the_effect_of_the_command(guarded: GuardedDesk) -> None:
    one, two = guarded.version(0.90), guarded.version(0.91)
    guarded.promote(one)
    guarded.click(two, "Production")
    assert (guarded.stages(), guarded.aliases()) == ({one: "Archived", two: "Production"}, {"champion": two})
    assert [row[0] for row in guarded.rows()] == ["promote", "displace", "promote"]
    assert audit.verify(guarded.engine) is None
    guarded.client.set_registered_model_alias(guarded.name, "champion", two)
    guarded.client.set_registered_model_alias(guarded.name, "weekend", one)
    assert guarded.aliases() == {"champion": two, "weekend": one}


def test_a_refused_transition_names_the_gate_and_what_to_run(guarded: GuardedDesk) -> None:
    weak = guarded.version(0.5)
    with pytest.raises(MlflowException, match=r"(?s)floor: fail: mean Dice 0\.5000 < 0\.7000.*what to do") as refused:
        guarded.click(weak, "production")
    assert refused.value.error_code == "BAD_REQUEST"
    with pytest.raises(MlflowException, match="floor: fail"):
        guarded.client.set_registered_model_alias(guarded.name, "Champion", weak)
    assert (guarded.stages(), guarded.aliases()) == ({weak: "None"}, {})
    assert {row[0] for row in guarded.rows()} == {"refuse"}


def test_of_twenty_processes_that_promote_at_once_one_is_live_at_every_instant(guarded: GuardedDesk) -> None:
    first, weak = guarded.version(0.705), guarded.version(0.5)
    # Each is better than the one before it by more than the margin.
    others = [guarded.version(0.72 + 0.012 * number) for number in range(19)]
    guarded.promote(first)
    with observed(guarded.database) as seen:
        command = [sys.executable, "-c", RACE, guarded.name, weak, *others]
        done = subprocess.run(
            command, cwd=ROOT, env=guarded.environment(), capture_output=True, text=True, timeout=280, check=False
        )
    assert done.returncode == 0, done.stderr
    strange = [moment for moment in seen if len(moment[0]) != 1 or moment[0] != moment[1]]
    assert not strange and len({stage for (stage,), _ in seen}) > 1
    # Each is judged against whoever is live when its turn comes: the best one stays, and no loser is left without why.
    assert live_now(guarded.database) == ([others[-1]], [others[-1]])
    told: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    assert told.keys() == {weak, *others} and told[others[-1]] == ""
    assert "floor: fail: mean Dice 0.5000" in told.pop(weak)
    assert all(not why or "champion: fail: Dice -" in why for why in told.values()), told
    assert audit.verify(guarded.engine) is None
    assert guarded.status().mismatches == []


def test_a_verdict_beside_one_live_version_does_not_promote_over_another(guarded: GuardedDesk) -> None:
    first, second = guarded.version(0.90), guarded.version(0.95)
    third = guarded.version(0.94, "sha256:c")
    guarded.promote(first)
    guarded.plant(first, evaluation(scores(0.90), "sha256:c"))
    assert guarded.life.check(guarded.name, third, "Production", ADA).allowed
    guarded.promote(second)
    with pytest.raises(RefusedError, match=rf"not measured yet \(version {second} is live\): champion"):
        guarded.promote(third)


def test_no_move_is_made_beside_another_live_version_than_was_compared_with(guarded: GuardedDesk) -> None:
    one, two, three = guarded.version(0.90), guarded.version(0.91), guarded.version(0.92)
    guarded.promote(one)
    guarded.promote(two)
    shelf, before = guarded.life.shelf, (guarded.stages(), guarded.aliases())
    for live in (one, None):
        with pytest.raises(RefusedError, match=f"version {two} of .* is live now; {three} was compared with"):
            shelf.move(guarded.name, three, "Production", live=live)
    assert (guarded.stages(), guarded.aliases()) == before
    shelf.move(guarded.name, three, "Production", live=two)
    assert guarded.aliases() == {"champion": three}


@pytest.mark.parametrize(
    ("place", "moved"),
    [
        ("before the decision is written", False),
        ("before the move", False),
        ("in the transaction", False),
        ("after the move", True),
    ],
)
def test_a_promotion_that_is_killed_leaves_one_live_version_and_the_next_decision_mends(
    guarded: GuardedDesk, place: str, moved: bool
) -> None:
    one, two, three = guarded.version(0.90), guarded.version(0.91), guarded.version(0.92)
    guarded.promote(one)
    command = [sys.executable, "-c", DIE, guarded.name, two, place]
    died = subprocess.run(command, cwd=ROOT, env=guarded.environment(), timeout=120)
    assert died.returncode == -signal.SIGKILL
    live = two if moved else one
    assert live_now(guarded.database) == ([live], [live])
    guarded.promote(three)
    assert live_now(guarded.database) == ([three], [three])
    assert guarded.status().mismatches == []
    assert guarded.rollback() == live
    assert audit.verify(guarded.engine) is None


def test_rollback_needs_no_artifact_store(guarded: GuardedDesk) -> None:
    one, two = guarded.version(0.90), guarded.version(0.91)
    guarded.promote(one)
    guarded.promote(two)
    (guarded.folder / "artifacts").rename(guarded.folder / "away")
    change = guarded.life.rollback(guarded.name, ADA, "false positives")
    assert (change.version, guarded.aliases()) == (one, {"champion": one})
    assert any("could not be looked at" in notice for notice in change.notices)


def test_rollback_does_not_take_another_version_that_has_the_number_now(guarded: GuardedDesk) -> None:
    one, two = guarded.version(0.90), guarded.version(0.91)
    guarded.promote(one)
    guarded.promote(two)
    guarded.archive(two)
    guarded.client.delete_registered_model(guarded.name)
    guarded.tested.clear()
    # Made again, the numbers start at 1: the same number, other bytes, and nobody can look at them.
    again, later = guarded.version(0.2), guarded.version(0.92)
    assert again == one
    guarded.promote(later)
    guarded.click(again, "Archived")
    (guarded.folder / "artifacts").rename(guarded.folder / "away")
    for asked in (None, again):
        with pytest.raises(RefusedError):
            guarded.life.rollback(guarded.name, ADA, "", asked)
    assert guarded.aliases() == {"champion": later}


def test_what_is_live_is_not_deleted_or_renamed(guarded: GuardedDesk) -> None:
    one, two = guarded.version(0.90), guarded.version(0.91)
    guarded.promote(one)
    guarded.promote(two, "Staging")
    client, name = guarded.client, guarded.name
    for attempt in (
        lambda: client.delete_model_version(name, one),
        lambda: client.delete_model_version(name, two),
        lambda: client.delete_registered_model(name),
        lambda: client.rename_registered_model(name, "elsewhere"),
        lambda: client.delete_registered_model_alias(name, "champion"),
    ):
        with pytest.raises(MlflowException, match=r"archive|follows the stage"):
            attempt()
    assert guarded.aliases() == {"champion": one, "challenger": two}
    guarded.archive(two)
    client.delete_model_version(name, two)
    assert guarded.stages() == {one: "Production"}


def test_tags_that_tell_of_gates_are_the_servers_alone(guarded: GuardedDesk) -> None:
    weak = guarded.version(0.5)
    client, name = guarded.client, guarded.name
    assert not guarded.life.check(name, weak, "Production", ADA).allowed
    assert client.get_model_version(name, weak).tags["lifecycle.Production"] == "blocked: floor"
    for attempt in (
        lambda: client.set_model_version_tag(name, weak, "lifecycle.Production", "allowed"),
        lambda: client.set_model_version_tag(name, weak, "Lifecycle.Production", "allowed"),
        lambda: client.delete_model_version_tag(name, weak, "lifecycle.Production"),
        lambda: client.create_model_version(name, "models:/m-1", tags={"lifecycle.Production": "allowed"}),
    ):
        with pytest.raises(MlflowException, match="written by this server alone"):
            attempt()
    assert client.get_model_version(name, weak).tags["lifecycle.Production"] == "blocked: floor"


def test_files_outside_of_the_servers_store_go_nowhere(guarded: GuardedDesk, tmp_path: Path) -> None:
    guarded.version(0.9)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for source in (str(elsewhere), f"{tmp_path}/artifacts/../elsewhere", "s3://bucket/model"):
        version = str(guarded.client.create_model_version(guarded.name, source).version)
        with pytest.raises(MlflowException, match="outside this server's artifact store"):
            guarded.click(version, "Staging")

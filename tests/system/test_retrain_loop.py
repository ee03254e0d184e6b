"""From live images and an alert to a new version in Staging: with people where people have to decide."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_state import mlflow_state_kept
from retrain_scene import Scene, make_scene
from train_scene import Pair

from pipelines.retraining.challenger import BATCHES_TAG
from pipelines.retraining.retrain import BASE_TAG, REASON_TAG
from pipelines.runs.train import EXPERIMENT
from records import audit
from records.batch import file_stem
from records.database import open_database
from records.log_database import open_log
from records.quarantine import find_batch
from records.watch.orders import read_orders
from registry.versions import stage_calls

MODEL = "nuclei that are retrained"


@pytest.fixture(scope="module")
def scene(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Version 1 in Production, ten answers that an auditor has labelled, and five that a client has."""
    made = make_scene(tmp_path_factory.mktemp("retrain") / "scene", pair.scene.uri, MODEL, pair.direct.version)
    with pytest.MonkeyPatch.context() as patch, mlflow_state_kept():
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "RESUNET_"))]:
            patch.delenv(name)
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


def batches_of(printed: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\d{8}-[0-9a-f]{6}", printed)))


def live_names(scene: Scene, version: str) -> set[str]:
    return {Path(path).stem for path in scene.manifest(version)["path"] if "live-" in path}


def retrain(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines", "retrain", "--model-name", MODEL, *words]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=240)


def test_an_alert_trains_a_challenger_on_what_was_released_and_leaves_production_alone(
    scene: Scene, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It names the data set without the live images: the version is measured on what it was trained on all the same.
    monkeypatch.setenv("RESUNET_DATA", str(pair.scene.data))
    scene.policies("retrain: {at_most_every: 7d, max_minutes: 0.1}")
    scene.answer(10, "audit")
    scene.answer(5, "client", spoilt=2)
    scene.drifted(1)
    scene.typed("alerts", "check", code=2)  # nobody takes a message here
    [(subject, body)] = scene.told()
    assert subject.startswith("[resunet] ALERT input-drift")
    assert "is ordered: it waits until somebody releases labelled images: `python -m monitoring quarantine" in body
    assert "it waits until somebody releases" in scene.typed("alerts", "list")
    waits = scene.retrain_turn()
    assert waits.code == 0 and "it waits until somebody releases" in waits.line

    ours, theirs = batches_of(
        scene.typed("quarantine", "collect", "--model", MODEL, "--source", "audit", "--source", "client")
    )
    scene.typed("quarantine", "show", theirs, "--out", str(tmp_path / "sheet"))
    assert (tmp_path / "sheet" / "labels.png").stat().st_size > 10_000
    scene.typed("quarantine", "release", ours, "--by", "ada", "--reason", "looked at each of them")

    ran = scene.retrain_turn()
    assert ran.code == 0 and "version 2 is in Staging" in ran.line, ran
    assert scene.stages() == {"1": "Production", "2": "Staging"}
    log = open_log(scene.log)
    released, held = find_batch(log, ours), find_batch(log, theirs)
    [order] = read_orders(log)
    log.dispose()
    assert live_names(scene, "2") == {file_stem(one.answer_id) for one in released.images}
    assert len(held.images) == 5 and not live_names(scene, "2") & {one.name for one in held.images}
    assert (order.state, order.version, [use.model_version for use in released.uses]) == ("done", "2", ["2"])
    assert not list((scene.home / "assembled").iterdir())
    run = scene.client.get_run(scene.client.get_model_version(MODEL, "2").run_id)
    assert run.data.tags[BATCHES_TAG] == ours and "input-drift" in run.data.tags[REASON_TAG]
    assert run.data.params["parent"] == "1"
    decisions = audit.history(open_database(scene.log), MODEL)
    assert [(row.actor, row.version, row.to_stage) for row in decisions if row.action == "promote"] == [
        ("policy input-drift", "2", "Staging")
    ]
    assert scene.told()[-1][0] == f"[resunet] RETRAINED input-drift: {MODEL} version 2"
    # The same alert goes on firing, and orders nothing more.
    assert "no retraining" in scene.retrain_turn().line


def test_a_version_whose_retraining_was_cut_off_before_staging_is_put_there_without_another_training(
    scene: Scene,
) -> None:
    with stage_calls():
        scene.client.transition_model_version_stage(MODEL, "2", "None")
    # An order of another alert leaves it to who has ordered it.
    done = retrain("--version", "2", "--order", "99")
    assert done.returncode == 0 and "somebody has retrained it: version 2" in done.stdout, done.stderr
    assert scene.stages() == {"1": "Production", "2": "None"}
    done = retrain("--version", "2")
    assert done.returncode == 0 and "version 2 is in Staging" in done.stdout, done.stderr
    assert scene.stages() == {"1": "Production", "2": "Staging"}
    assert not list((scene.home / "assembled").iterdir())
    # One that no retraining has made is nothing to go on with.
    done = retrain("--version", "1")
    assert done.returncode == 2 and "version 1 of" in done.stderr and "was not made by a retraining" in done.stderr


def test_what_a_killed_retraining_left_is_closed_by_the_next(scene: Scene) -> None:
    experiment = scene.client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    known = scene.client.get_run(scene.client.get_model_version(MODEL, "2").run_id).data.tags
    dead = scene.client.create_run(
        experiment.experiment_id, tags={name: known[name] for name in known if "retrain" in name}
    )
    (scene.home / "checkpoints").mkdir(exist_ok=True)
    (scene.home / "checkpoints" / f"{dead.info.run_id}.ckpt").write_bytes(b"half")
    left = scene.home / "assembled" / "retrain-0123"
    left.mkdir()
    done = retrain("--anyway", "--data", "nowhere")
    assert done.returncode == 2 and "no data folder at nowhere" in done.stderr
    assert scene.client.get_run(dead.info.run_id).info.status == "KILLED"
    assert not left.exists() and not list((scene.home / "checkpoints").iterdir())


def test_only_a_policy_that_says_so_has_the_challenger_promoted_by_itself(scene: Scene) -> None:
    with stage_calls():
        scene.client.transition_model_version_stage(MODEL, "2", "Production", archive_existing_versions=True)
    scene.policies("retrain: {at_most_every: 1s, max_minutes: 0.1}", "promote: {by_itself: true}", name="go-on")
    scene.answer(6, "audit")
    [batch] = batches_of(scene.typed("quarantine", "collect", "--model", MODEL))
    scene.typed("quarantine", "release", batch, "--by", "ada", "--reason", "looked at each of them")
    scene.drifted(2)
    scene.typed("alerts", "check", code=2)
    ran = scene.retrain_turn()
    assert ran.code == 0 and "version 3 is in Production" in ran.line, ran
    assert scene.stages() == {"1": "Archived", "2": "Archived", "3": "Production"}
    # Of both batches, from the data set that the first version had; and who was trained on keeps its split.
    assert len(live_names(scene, "3")) == 16
    before, after = (
        dict(zip(one["path"], one["split"], strict=True)) for one in (scene.manifest("2"), scene.manifest("3"))
    )
    assert {path: after[path] for path in before} == before
    run = scene.client.get_run(scene.client.get_model_version(MODEL, "3").run_id)
    assert "my images" in run.data.tags[BASE_TAG] and run.data.params["parent"] == "2"

    # Once a batch is taken back, what was trained on it goes nowhere by itself.
    with stage_calls():
        scene.client.transition_model_version_stage(MODEL, "3", "None")
    scene.typed("quarantine", "withdraw", batch, "--by", "bob", "--reason", "labels of another stain")
    done = retrain("--version", "3")
    assert done.returncode == 2 and "or their batch taken back: it goes nowhere" in done.stderr
    assert scene.stages()["3"] == "None"

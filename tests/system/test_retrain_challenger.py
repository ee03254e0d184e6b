"""Where a retrained version goes: as far as its gates let it, and to Production only where that is asked for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow_state import mlflow_state_kept
from promotion_desk import Desk
from rich.console import Console
from rollout_scene import begun

from pipelines.retraining.challenger import BATCHES_TAG, Where, Wish, put_forward
from registry.people import Actor
from registry.signing import keygen
from resunet.errors import DataError
from serving.rollout.file import Kept, RolloutFile

POLICY = Actor("policy input-drift")


@pytest.fixture(autouse=True)
def here(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with mlflow_state_kept():
        for name, value in desk.environment().items():
            monkeypatch.setenv(name, value)
        yield


def forward(desk: Desk, version: str, promote: bool = False, refuse: Callable[[], None] = lambda: None) -> Where:
    wish = Wish(POLICY, "retrained on 1 released batches", promote)
    return put_forward(desk.client, desk.name, version, wish, desk.folder, Console(quiet=True), desk.folder, refuse)


def test_a_retrained_version_goes_to_staging_and_no_further_by_itself(desk: Desk) -> None:
    live = desk.version(0.8)
    desk.promote(live)
    better = desk.version(0.95)
    assert forward(desk, better) == Where("Staging", f"version {better} is in Staging", as_wished=True)
    assert desk.stages() == {live: "Production", better: "Staging"}


def test_it_goes_to_production_where_that_is_asked_for_and_the_gates_let_it(desk: Desk) -> None:
    live = desk.version(0.8)
    desk.promote(live)
    better = desk.version(0.95)
    assert forward(desk, better, promote=True) == Where("Production", f"version {better} is in Production", True)
    assert desk.stages() == {live: "Archived", better: "Production"}


def test_what_the_gates_of_production_refuse_stays_in_staging_with_their_words(desk: Desk) -> None:
    live = desk.version(0.8)
    desk.promote(live)
    worse = desk.version(0.6)
    where = forward(desk, worse, promote=True)
    assert (where.stage, where.as_wished) == ("Staging", False) and "floor: fail" in where.outcome
    assert desk.stages() == {live: "Production", worse: "Staging"}


def test_what_the_gates_of_staging_refuse_is_registered_and_no_more(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, public = keygen(tmp_path / "keys")
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", str(public))
    unsigned = desk.version(0.9)
    where = forward(desk, unsigned, promote=True)
    assert (where.stage, where.as_wished) == ("None", False) and "signed" in where.outcome
    assert desk.stages() == {unsigned: "None"}


def test_a_version_that_a_person_put_in_staging_is_not_pushed_out(desk: Desk) -> None:
    theirs = desk.version(0.9)
    desk.promote(theirs, "Staging")
    ours = desk.version(0.95)
    where = forward(desk, ours)
    assert where.stage == "None" and f"where somebody has put version {theirs}" in where.outcome
    assert desk.stages() == {theirs: "Staging", ours: "None"}


@pytest.fixture
def before(desk: Desk) -> str:
    """A version in Staging that a retraining made."""
    source = desk.client.get_model_version(desk.name, desk.version(0.9)).source
    experiment = desk.client.get_experiment_by_name(desk.name)
    assert experiment is not None
    run = desk.client.create_run(experiment.experiment_id, tags={BATCHES_TAG: "20260322-1a2b3c"})
    logged = source.removeprefix("models:/")
    made = str(desk.client.create_model_version(desk.name, source, run.info.run_id, model_id=logged).version)
    desk.click(made, "Staging")
    return made


def test_a_version_that_was_retrained_before_makes_way(desk: Desk, before: str) -> None:
    newer = desk.version(0.95)
    assert forward(desk, newer).stage == "Staging"
    assert desk.stages()[before] == "Archived"


def test_a_version_that_was_retrained_before_stays_while_it_is_on_trial(desk: Desk, before: str) -> None:
    trial = begun()
    trial = replace(trial, candidate=replace(trial.candidate, number=before))
    RolloutFile.of_home(desk.folder).write(Kept(trial, None))
    newer = desk.version(0.95)
    where = forward(desk, newer)
    assert where.stage == "None" and f"where version {before} is on trial" in where.outcome
    RolloutFile.of_home(desk.folder).write(Kept(replace(trial, phase="aborted"), None))
    assert forward(desk, newer).stage == "Staging"


def test_what_an_earlier_call_has_done_is_not_done_again(desk: Desk) -> None:
    live = desk.version(0.8)
    desk.promote(live)
    better = desk.version(0.95)
    desk.promote(better, "Staging")
    assert forward(desk, better).outcome == f"version {better} is in Staging"
    assert forward(desk, better, promote=True).stage == "Production"
    assert forward(desk, better, promote=True) == Where("Production", f"version {better} is in Production", True)
    assert "was archived meanwhile" in forward(desk, live).outcome


def test_what_is_on_trial_is_not_promoted_past_it(desk: Desk) -> None:
    live = desk.version(0.8)
    desk.promote(live)
    better = desk.version(0.95)
    desk.promote(better, "Staging")
    trial = begun()
    RolloutFile.of_home(desk.folder).write(
        Kept(replace(trial, candidate=replace(trial.candidate, number=better)), None)
    )
    where = forward(desk, better, promote=True)
    assert (where.stage, where.as_wished) == ("Staging", False) and "stays there, since it is on trial" in where.outcome
    assert desk.stages() == {live: "Production", better: "Staging"}


def test_what_was_taken_back_while_it_was_measured_does_not_move(desk: Desk) -> None:
    live = desk.version(0.8)
    desk.promote(live)
    better = desk.version(0.95)
    asked: list[str] = []

    def taken_back() -> None:
        asked.append("")
        if len(asked) > 1:
            raise DataError("it was taken back")

    with pytest.raises(DataError, match="it was taken back"):
        forward(desk, better, promote=True, refuse=taken_back)
    assert desk.stages() == {live: "Production", better: "Staging"}

"""A retrained version on its way: Staging if its gates let it, and Production only where that is asked for.

where = put_forward(client, "resunet", "8", Wish(Actor("ada"), "retrained on …"), data, console)
where.stage, where.outcome, where.as_wished
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from mlflow import MlflowClient
from rich.console import Console

from pipelines.runs.run_tags import tags_of
from registry import tables
from registry.checking import check
from registry.desk import open_desk
from registry.judgement import Judgement, refusal
from registry.people import Actor
from registry.remote import RemoteLifecycle
from registry.versions import read_model
from resunet.errors import RefusedError, ResunetError
from serving.rollout.file import RolloutFile
from serving.rollout.state import RolloutError

# Of the run that made a version: the batches that it is a retraining on.
BATCHES_TAG: Final = "retrain.batches"


Stage = Literal["None", "Staging", "Production"]


@dataclass(frozen=True)
class Wish:
    """Who asks, why, and whether for Production after Staging."""

    actor: Actor
    reason: str
    promote: bool = False


@dataclass(frozen=True)
class Where:
    """Where a version is now, in a sentence too, and whether it is where it was to go."""

    stage: Stage
    outcome: str
    as_wished: bool = False


def put_forward(
    client: MlflowClient,
    name: str,
    version: str,
    wish: Wish,
    data: Path,
    console: Console,
    home: Path,
    refuse: Callable[[], None] = lambda: None,
) -> Where:
    """Ask the gates of Staging and move the version there; have the evidence for Production measured, and ask for it.

    What an earlier call has done, before it was cut off, is not done again.

    Args:
        data: what it was trained on, whatever RESUNET_DATA names; a guarded server looks where the run noted it.
        home: RESUNET_HOME, where the gateway keeps what it tries.
        refuse: asked before each move; raises where it may go nowhere any more, since measuring takes its time.

    Raises:
        ResunetError: the registry does not answer, or what the gates of Staging need cannot be measured.
    """
    desk = open_desk(client)
    place = "" if isinstance(desk, RemoteLifecycle) else str(data)

    def ask(stage: str) -> Judgement:
        judgement = check(desk, name, version, stage, wish.actor, console, measure=True, data=place)
        tables.say_judgement(console, judgement)
        return judgement

    stage = read_model(client, name).row(version).stage
    if stage == "Production":
        return Where("Production", f"version {version} is in Production", as_wished=True)
    if stage == "Archived":
        return Where("None", f"version {version} was archived meanwhile: it goes nowhere")
    if stage != "Staging":
        judgement = ask("Staging")
        if not judgement.allowed:
            return Where("None", f"version {version} is registered. {refusal(judgement)}")
        taken = _taken(client, name, home)
        if taken:
            return Where(
                "None",
                f"version {version} is registered and may go to Staging, where {taken}: when that one is decided on, "
                f"python -m registry promote {name} {version} Staging",
            )
        refuse()
        tables.say_change(console, desk.promote(name, version, "Staging", wish.actor, wish.reason))
    there = Where("Staging", f"version {version} is in Staging", as_wished=not wish.promote)
    try:
        ask("Production")
    except ResunetError as error:
        # Staging is what was asked for; whoever promotes it is told what is missing.
        console.print(
            f"its evidence for Production is not complete: {error}", style="yellow", markup=False, soft_wrap=True
        )
    if not wish.promote:
        return there
    trial = _trial(home, version)
    if trial:
        return replace(there, outcome=f"version {version} is in Staging, and stays there, since it {trial}")
    refuse()
    try:
        change = desk.promote(name, version, "Production", wish.actor, wish.reason)
    except RefusedError as error:
        return replace(there, outcome=f"version {version} is in Staging, and stays there: {error}")
    tables.say_change(console, change)
    return Where("Production", f"version {version} is in Production", as_wished=True)


def _taken(client: MlflowClient, name: str, home: Path) -> str:
    """What is in the way in Staging; one that was retrained, and that nobody tries, makes way for a newer one."""
    state = read_model(client, name)
    for version in state.in_stage("Staging"):
        if BATCHES_TAG not in tags_of(client, state.row(version).run_id):
            return f"somebody has put version {version}"
        trial = _trial(home, version)
        if trial:
            return f"version {version} {trial}"
    return ""


def _trial(home: Path, version: str) -> str:
    """Whether the gateway of a home tries a version, in words; empty: it does not."""
    try:
        rollout = RolloutFile.of_home(home).read().rollout
    except RolloutError as error:
        return f"may be on trial ({error})"
    tried = rollout is not None and rollout.active and rollout.candidate.number == version
    return "is on trial" if tried else ""

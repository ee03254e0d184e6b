"""The command on a model card, typed again, gives the same weights; and the card says if the code was not committed."""

import itertools
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_network import Pixels, nuclei

from pipelines.training.batches import SampleStore
from pipelines.training.fit import Fitted, fit
from pipelines.training.repeat import hidden_settings, repeating, working_tree
from pipelines.training.settings import FitSettings
from pipelines.version.model_card import _again

Clock = Callable[[], float]
SMALL = {"width": 4, "crop": 32, "batch_size": 4, "learning_rate": 0.01, "precision": "fp32"}


def _image(index: int) -> Pixels:
    return nuclei(index, 48, 48)


def _train(settings: FitSettings, clock: Clock | None = None) -> Fitted:
    training = SampleStore(_image, [48 * 48 * 4] * 12, 1 << 30)
    more = {} if clock is None else {"clock": clock}
    return fit(settings, training, [_image(index) for index in range(100, 103)], **more)


def _ticking(seconds: float) -> Clock:
    ticks = itertools.count()
    return lambda: next(ticks) * seconds


def _card(settings: FitSettings, fitted: Fitted, **more: object) -> str:
    data = {"where": "", "slices": "", "groups": ""} | {k: more.pop(k) for k in list(more) if k in ("where", "groups")}
    facts = {"commit": "abc123", "working_tree": "clean", "parent": "", "model_name": "", "environment": "", **more}
    return "\n".join(_again(SimpleNamespace(settings=settings, fitted=fitted, data=SimpleNamespace(**data), **facts)))  # type: ignore[arg-type]


def _typed(card: str) -> FitSettings:
    """What `train` would be told by the command on a card."""
    (command,) = [line for line in card.splitlines() if line.startswith("mlflow run")]
    words = shlex.split(command)
    parameters = dict(word.split("=", 1) for before, word in itertools.pairwise(words) if before == "-P")
    assert parameters.pop("data") == "<folder>"
    return FitSettings.checked(**parameters)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"epochs": 4}, 0),
        ({"epochs": 40, "max_steps": 25}, 0),
        ({}, 0),
        ({"epochs": 8, "evaluations": 5}, 0),
        ({"epochs": 30, "patience": 2, "learning_rate": 1e-9}, 0),
        ({"max_minutes": 1}, 0.4),
        ({"max_minutes": 1, "epochs": 10}, 0.3),
        ({"max_minutes": 1, "patience": 1, "learning_rate": 1e-9}, 0.3),
        ({"schedule": "0:0,7:0.4*,13:0.5,30:1*", "max_steps": 22}, 0),
    ],
    ids=[
        *("epochs", "steps", "nothing said", "other evaluations", "stopped early", "minutes", "minutes or epochs"),
        *("minutes, stopped early", "a schedule, not to its end"),
    ],
)
def test_the_command_on_the_card_gives_the_same_weights(
    told: dict[str, object], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("settings", "repeat"):
        # Another one, so that whoever writes the number down instead of asking for it is found, and a short one.
        monkeypatch.setattr(f"pipelines.training.{module}.DEFAULT_EPOCHS", 9)
    settings = FitSettings.checked(**{**SMALL, "seed": 3, **told})
    first = _train(settings, _ticking(seconds) if seconds else None)
    again = _train(_typed(_card(settings, first)))
    mine, theirs = first.network.state_dict(), again.network.state_dict()
    assert again.steps == first.steps
    assert [row.step for row in again.history] == [row.step for row in first.history]
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_run_of_epochs_is_repeated_by_their_number_and_a_timed_one_by_its_plan() -> None:
    short = {**SMALL, "crop": 32}
    by_epochs = FitSettings.checked(**short, epochs=2, patience=3)
    told = repeating(by_epochs, _train(by_epochs))
    assert told["epochs"] == 2 and told["patience"] == 3 and "schedule" not in told
    timed = FitSettings.checked(**short, max_minutes=1)
    fitted = _train(timed, _ticking(1.0))
    told = repeating(timed, fitted)
    assert (told["schedule"], told["max_steps"]) == (str(fitted.schedule), fitted.steps)
    assert "epochs" not in told


def test_what_the_command_cannot_say_is_said_beside_it() -> None:
    settings = FitSettings.checked(**SMALL, epochs=1, ema_decay=0.9)
    fitted = _train(settings)
    assert hidden_settings(settings) == {"ema_decay": 0.9}
    assert "gives other weights: `ema_decay=0.9`" in _card(settings, fitted)
    plain = FitSettings.checked(**SMALL, epochs=1)
    card = _card(plain, fitted, where="stain=a|b", groups="/somewhere/groups.csv", parent="2", model_name="my model")
    assert "gives other weights" not in card
    assert "-P 'where=stain=a|b'" in card and "-P parent=2 -P 'model_name=my model'" in card
    assert "-P groups=<groups.csv>" in card and "/somewhere" not in card


def test_code_that_was_not_committed_is_said(tmp_path: Path) -> None:
    settings = FitSettings.checked(**SMALL, epochs=1)
    fitted = _train(settings)
    assert "not committed" in _card(settings, fitted, working_tree="dirty")
    assert "not committed" not in _card(settings, fitted, working_tree="clean")
    assert working_tree(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    (tmp_path / "code.py").write_text("a = 1\n")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "code"]):
        subprocess.run([*git, *words], check=True)
    assert working_tree(tmp_path) == "clean"
    (tmp_path / "code.py").write_text("a = 2\n")
    assert working_tree(tmp_path) == "dirty"

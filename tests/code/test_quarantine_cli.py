"""`python -m monitoring quarantine` as it is typed: from labels to a release, and back."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from quarantine_scene import Scene
from records_rows import NOON
from typer.testing import CliRunner

from monitoring.cli import app
from monitoring.quarantine import custody
from records.quarantine import note_use

Typed = Callable[..., Result]


@pytest.fixture
def scene(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", url)
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(custody, "refusals_of", lambda *_: ())
    made = Scene(url, tmp_path)
    made.labelled("a-1", "a-2")
    return made


@pytest.fixture
def typed() -> Typed:
    return lambda *words: CliRunner().invoke(app, ["quarantine", *words], env={"COLUMNS": "200"})


@pytest.fixture
def batch(scene: Scene, typed: Typed) -> str:
    collected = typed("collect", "--window", "30d", "--until", "2026-03-02")
    assert collected.exit_code == 0, collected.output
    [name] = re.findall(r"\d{8}-[0-9a-f]{6}", collected.output)[:1]
    return name


def test_a_batch_is_collected_shown_released_and_taken_back(scene: Scene, typed: Typed, batch: str) -> None:
    assert batch in typed("list").output
    shown = typed("show", batch).output
    assert "2 of 2 images" in shown and "Dice of label and answer" in shown
    released = typed("release", batch, "--by", "ada", "--reason", "looked at each of them")
    assert released.exit_code == 0 and "released, 2 images" in released.output
    note_use(scene.engine, "8", "run", NOON, [batch], {})
    taken = typed("withdraw", batch, "--by", "bob", "--reason", "labels of another stain")
    assert taken.exit_code == 0, taken.output
    for words in (f"batch {batch}: withdrawn", "released by ada", "taken back by bob", "trained on by version 8"):
        assert words in taken.output
    assert scene.files("released") == []
    assert "no batch waits" in typed("list").output and batch in typed("list", "--all").output
    assert "withdrawn" in typed("show", batch).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("withdraw", "20260322-1a2b3c", "--reason", "why not"), "there is no batch '20260322-1a2b3c'"),
        (("withdraw", "../x", "--reason", "why not"), "there is no batch '../x'"),
        (("withdraw", "{batch}", "--reason", "why not"), "is quarantined: only a release can be taken back"),
        (("withdraw", "{batch}", "--reason", " "), "a decision has a name and a reason"),
        (("release", "{batch}", "--reason", "why not", "--by", " "), "a decision has a name and a reason"),
        (("collect", "--source", "nobody"), "'nobody' is no source of labels"),
        (("collect", "--group-by", "moon"), "--group-by 'moon': choose from"),
        (("collect", "--until", "9999-01-01"), "is in the future"),
    ],
)
def test_wrong_words_are_told_in_a_sentence(typed: Typed, batch: str, words: tuple[str, ...], said: str) -> None:
    answer = typed(*(word.format(batch=batch) for word in words))
    assert answer.exit_code != 0 and said in f"{answer.exception} {answer.output}"

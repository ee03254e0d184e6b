"""`python -m serving rollout`: what a person reads, and what is said to one who asks in the wrong way."""

import io

import pytest
from rich.console import Console
from rollout_scene import NOON, POLICY, begun, seen
from typer.testing import CliRunner

from resunet.errors import SettingsError
from serving.rollout.cli import app, in_words
from serving.rollout.policy import PolicyFile
from serving.rollout.state import RolloutError
from serving.rollout.status import status
from serving.rollout.transitions import abort

NOBODY = "http://127.0.0.1:9"


def shown(told: dict[str, object]) -> str:
    text = io.StringIO()
    for line in in_words(told):
        Console(file=text, width=200).print(line)
    return text.getvalue()


@pytest.mark.parametrize(
    ("words", "key", "error", "told"),
    [
        (["status", "--gateway", NOBODY], "", RolloutError, "python -m serving up"),
        (["status", "--gateway", "127.0.0.1:8000"], "", SettingsError, "is no address of a gateway"),
        (["start", "--gateway", "http://[::1"], "", SettingsError, "is no address of a gateway"),
        (["abort", "--gateway", NOBODY], "a key é", SettingsError, "RESUNET_KEY holds what no key has"),
        (["finish", "--gateway", NOBODY], "a\nb", SettingsError, "RESUNET_KEY holds what no key has"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, words: list[str], key: str, error: type[Exception], told: str
) -> None:
    monkeypatch.setenv("RESUNET_KEY", key)
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, error) and told in str(done.exception)


def test_a_rollout_is_read_with_what_was_seen_while_it_goes_on_and_afterwards() -> None:
    rollout, policy = begun(POLICY), PolicyFile(None)
    evidence = seen(rollout)
    going_on = shown(status(rollout, evidence, policy, NOON))
    assert "version 2 beside version 1: shadow" in going_on and "waits for" in going_on and "champion" in going_on
    ended = shown(status(abort(rollout, NOON, "odd masks").rollout, evidence, policy, NOON))
    assert "aborted" in ended and "odd masks" in ended and "champion" in ended and "waits for" not in ended
    assert "rollout start" in shown(status(None, None, policy, NOON))

"""How a command ends when something went wrong that nobody foresaw."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from records.console import TRACEBACK_FILE, run
from resunet.errors import SettingsError

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Ended":
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path))
    monkeypatch.delenv("RESUNET_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["command"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return Ended(capsys)


class Ended:
    """Runs a command that raises; gives its exit code and what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, error: BaseException) -> tuple[object, str]:
        app = typer.Typer()

        @app.command()
        def command() -> None:
            raise error

        with pytest.raises(SystemExit) as stopped:
            run(app)
        return stopped.value.code, self._capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "No space left on device: /data/x"),
        (KeyError("split"), "KeyError: 'split'"),
        (RuntimeError(), "RuntimeError. "),
        (ValueError("first\nsecond"), "ValueError: first. "),
    ],
)
def test_an_unforeseen_error_is_one_sentence_and_exit_code_2(
    ended: Ended, tmp_path: Path, error: Exception, words: str
) -> None:
    code, said = ended(error)
    assert code == 2
    (line,) = said.splitlines()
    assert line.startswith(f"error: this was not foreseen: {words}")
    kept = tmp_path / TRACEBACK_FILE
    assert f"is in {kept}" in line
    assert "in command\n    raise error" in kept.read_text()
    assert kept.stat().st_mode & 0o77 == 0


def test_debugging_shows_the_traceback_of_any_error(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_DEBUG", "1")
    for error in (RuntimeError("odd"), SettingsError("mend it")):
        code, said = ended(error)
        assert code == 2
        assert "Traceback (most recent call last)" in said
        assert said.splitlines()[-1].startswith("error: ")


def test_a_home_that_cannot_be_written_leaves_the_way_to_the_traceback(
    ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "nowhere"))
    code, said = ended(RuntimeError("odd"))
    assert (code, len(said.splitlines())) == (2, 1)
    assert "RESUNET_DEBUG=1 shows" in said
    assert not (tmp_path / "nowhere").exists()


def test_a_setting_that_makes_no_sense_does_not_hide_the_error(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_SPOOL_MAX_MB", "much")
    code, said = ended(RuntimeError("odd"))
    assert (code, len(said.splitlines())) == (2, 1)
    assert "RuntimeError: odd" in said


def test_a_password_in_a_message_is_neither_shown_nor_kept(ended: Ended, tmp_path: Path) -> None:
    _, said = ended(RuntimeError("cannot reach https://ada:s3cret@tracking.example/"))
    assert "//***@tracking.example" in said
    assert "s3cret" not in said + (tmp_path / TRACEBACK_FILE).read_text()


def test_an_end_that_was_asked_for_stays_as_it_is(ended: Ended) -> None:
    assert ended(typer.Exit(3)) == (3, "")
    assert ended(SystemExit(143)) == (143, "")
    code, said = ended(KeyboardInterrupt())
    assert code != 2
    assert "foreseen" not in said


def test_a_wrong_option_is_typers_to_tell() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "monitoring", "report", "--no-such-option"],
        cwd=PROJECT,
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert "No such option" in ran.stderr
    assert "foreseen" not in ran.stderr


def test_help_comes_without_what_takes_seconds_to_load() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from pipelines.console import app\n"
        "for words in sys.argv[1:]:\n"
        "    shown = CliRunner().invoke(app, [*words.split(), '--help'])\n"
        "    assert shown.exit_code == 0 and 'Usage:' in shown.output, (words, shown.output)\n"
        "    assert 'Exit code: 0' in shown.output or not words.startswith('monitoring'), words\n"
        "print(sorted({'mlflow', 'evidently', 'pandas', 'torch'} & set(sys.modules)))\n"
    )
    asked = ["", "pipelines train", "registry promote", "registry show", "registry audit list", "serving up"]
    asked += ["monitoring report", "monitoring schedule", "monitoring jobs", "records upgrade", "status"]
    done = subprocess.run([sys.executable, "-c", program, *asked], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr

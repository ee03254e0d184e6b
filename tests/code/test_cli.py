"""What a user meets who makes a mistake: one sentence, exit code 2, no traceback; and help without waiting."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from dataset_factory import add, group_in, make, picture, write
from mlflow.entities import Param, Run, RunData, RunInfo, RunTag

from pipelines.cli import app
from pipelines.data.data_step import PreparedData
from pipelines.runs.train import TrainOptions, _check_resumed
from pipelines.servers import free_port
from pipelines.training.checkpoint import claimed
from pipelines.version.export import WHOLE_SIDE_UNTILEABLE
from records.console import run
from resunet.errors import SettingsError

PROJECT = Path(__file__).resolve().parents[2]
Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `python -m pipelines …` in this process, against no server; its one sentence comes back."""
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'unused.db'}")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["pipelines", *words])
        with pytest.raises(SystemExit) as ended:
            run(app)
        printed = capsys.readouterr()
        assert ended.value.code == 2
        return _one_sentence(printed.err)

    return command


def _one_sentence(told: str) -> str:
    (line,) = told.strip().splitlines()
    assert line.startswith("error: ") and "Traceback" not in line and len(line) < 600
    return line.removeprefix("error: ")


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(make(tmp_path / "data"))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--architecture", "unet"), ("architecture", "resunetpp", "unet")),
        (("--crop", "100"), ("crop", "multiple of 8", "100")),
        (("--width", "0"), ("width", "greater than")),
        (("--folds", "1"), ("folds", "2 or more")),
        (("--folds", "-3"), ("folds", "2 or more")),
        (("--folds", "3", "--resume", "0123"), ("resume", "cross-validation")),
        (("--folds", "3", "--parent", "1"), ("parent", "cross-validation")),
        (("--folds", "3", "--patience", "2"), ("patience", "held-out")),
        (("--precision", "fp16"), ("precision", "bf16", "fp16")),
        (("--learning-rate", "0"), ("learning_rate", "greater than")),
        (("--epochs", "-1"), ("epochs", "greater than")),
        (("--max-minutes", "inf"), ("max_minutes", "finite")),
        (("--seed", "99999999999999999999999"), ("seed", "less than")),
        (("--schedule", "twice"), ("schedule", "0:0,100:0.09")),
        (("--model-name", "a/b"), ("model_name", "a/b")),
        (("--model-name", " "), ("model_name",)),
        (("--resume", "0123456789abcdef"), ("0123456789abcdef", "no checkpoint here", "RESUNET_HOME")),
    ],
)
def test_an_option_that_makes_no_sense_is_named_before_any_work(
    words: tuple[str, ...], names: tuple[str, ...], refused: Refused, tmp_path: Path
) -> None:
    told = refused("train", *words)
    assert all(name in told for name in names), told
    assert not (tmp_path / "home").exists() and not (tmp_path / "unused.db").exists()


def test_a_signing_key_that_is_not_there_is_missed_before_training(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESUNET_SIGNING_KEY", str(tmp_path / "key.pem"))
    assert "RESUNET_SIGNING_KEY" in refused("train")


def test_a_run_that_is_still_being_trained_is_not_resumed(refused: Refused, tmp_path: Path) -> None:
    checkpoint = tmp_path / "home" / "checkpoints" / "0123abcd.ckpt"
    with claimed(checkpoint):
        checkpoint.touch()
        told = refused("train", "--resume", "0123abcd")
    assert "0123abcd is being trained by another process" in told
    assert not (tmp_path / "unused.db").exists()


def test_images_that_the_architecture_could_not_be_measured_on_are_named_before_training(
    refused: Refused, data: str, tmp_path: Path
) -> None:
    """In training it sees crops: only what it would be measured on is refused."""
    groups = ["file,group"]
    for index, split in enumerate(("train", "validation", "test")):
        add(Path(data), f"large_{split}", picture(300 + index, 40, WHOLE_SIDE_UNTILEABLE + 1))
        groups.append(f"large_{split}.png,{group_in(split)}")
    write(Path(data) / "groups.csv", "\n".join(groups) + "\n")
    told = refused("train", "--data", data, "--architecture", "resunetpp")
    assert "large_validation.png" in told and "large_test.png" in told and "large_train" not in told
    assert str(WHOLE_SIDE_UNTILEABLE) in told and "--architecture resunet" in told
    folds = refused("train", "--data", data, "--architecture", "resunetpp", "--folds", "2")
    assert "large_train.png" in folds and "large_test" not in folds
    assert not (tmp_path / "unused.db").exists()


def test_more_folds_than_the_images_fill_are_refused_before_a_run_begins(
    refused: Refused, data: str, tmp_path: Path
) -> None:
    assert "do not fill 500 folds" in refused("train", "--data", data, "--folds", "500")
    assert not (tmp_path / "unused.db").exists()


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_a_data_folder_that_is_not_there_is_named(command: str, refused: Refused, tmp_path: Path) -> None:
    told = refused(command, "--data", str(tmp_path / "nowhere"))
    assert "nowhere" in told and "images/ and masks/" in told


@pytest.mark.parametrize("where", ["colour=red", "colour"])
def test_a_slice_filter_that_fits_nothing_is_refused(where: str, refused: Refused, data: str) -> None:
    told = refused("train", "--data", data, "--where", where)
    assert "where: " in told and "colour" in told


def test_a_tracking_server_that_does_not_answer_is_named(data: str, tmp_path: Path) -> None:
    port = free_port()
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines", "train", "--data", data],
        cwd=PROJECT,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
            "RESUNET_HOME": str(tmp_path / "home"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr[-2000:]
    told = _one_sentence(ran.stderr)
    assert "cannot log to the tracking server" in told and str(port) in told


def test_help_of_every_command_imports_no_torch() -> None:
    program = textwrap.dedent(
        """
        import sys
        import click
        from typer.main import get_command
        from pipelines.console import app

        def visit(command, path):
            assert len(command.help) > 20, path
            command.get_help(click.Context(command, info_name=path))
            for name, each in getattr(command, "commands", {}).items():
                visit(each, f"{path} {name}")
            print(path, file=sys.stderr)

        visit(get_command(app), "resunet")
        for heavy in ("torch", "lightning_fabric", "evidently", "onnx", "matplotlib"):
            assert heavy not in sys.modules, heavy
        """
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "--max-minutes" in ran.stdout and "--reason" in ran.stdout
    paths = ran.stderr.splitlines()
    assert {"resunet pipelines train", "resunet registry promote", "resunet monitoring report"} <= set(paths)
    assert len(paths) > 15


def test_help_says_what_an_option_is_for() -> None:
    command = [sys.executable, "-m", "pipelines", "train", "--help"]
    variables = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
    ran = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, check=True)
    for words in ("--max-minutes", "--batch-size", "Same seed, same machine", "modality=fluorescence"):
        assert words in ran.stdout
    assert "--max-time" not in ran.stdout


def test_prepare_keeps_its_report_and_says_where(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "home"))
    (Path(data) / "masks/p003.png").unlink()
    named = tmp_path / "named/report.json"
    for words in ((), ("--report", str(named))):
        monkeypatch.setattr(sys, "argv", ["pipelines", "prepare", "--data", data, *words])
        with pytest.raises(SystemExit) as ended:
            run(app)
        assert ended.value.code == 2
        (path,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("report: ")]
        assert json.loads(Path(path.removeprefix("report: ")).read_text("utf-8"))["refused"]
    assert named.exists() and len(list((tmp_path / "home/reports").iterdir())) == 1


def test_a_groups_file_or_slices_that_fit_nothing_are_named(refused: Refused, data: str, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.csv")
    assert absent in refused("prepare", "--data", data, "--groups", absent)
    assert absent in refused("train", "--data", data, "--groups", absent)
    assert "slices: " in refused("prepare", "--data", data, "--slices", "a,,b")


def test_evaluate_takes_slices() -> None:
    command = [sys.executable, "-m", "pipelines", "evaluate", "--help"]
    variables = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
    assert "--slices" in subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True).stdout


def test_a_run_is_resumed_as_a_version_of_its_own_model_alone(tmp_path: Path) -> None:
    began = Run(
        RunInfo("0123abcd", "1", "ada", "RUNNING", 0, None, "active"),
        RunData(
            params=[Param("model_name", "mine"), Param("parent", ""), Param("slices", "")],
            tags=[RunTag("dataset_fingerprint", "sha256:a")],
        ),
    )
    data = cast(PreparedData, SimpleNamespace(fingerprint="sha256:a", root=tmp_path))
    _check_resumed(began, TrainOptions(model_name="mine"), data)
    with pytest.raises(SettingsError, match="0123abcd trains a version of mine; give --model-name mine"):
        _check_resumed(began, TrainOptions(model_name="other"), data)


def test_a_training_that_is_told_to_end_leaves_through_its_own_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[bool] = []

    def told_to_end(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            cleared.append(True)

    monkeypatch.setattr("pipelines.runs.train.train", told_to_end)
    monkeypatch.setattr(sys, "argv", ["pipelines", "train"])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 128 + signal.SIGTERM and cleared
    assert signal.getsignal(signal.SIGTERM) == before


def test_two_that_begin_on_a_database_that_is_not_there_both_have_their_run(tmp_path: Path) -> None:
    begin = (
        "from pipelines.runs.tracked_run import tracked_run\n"
        "with tracked_run('experiment', name='run', lost=str) as run: print('began', run)\n"
    )
    own = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'new.db'}", "RESUNET_HOME": str(tmp_path / "home")}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", begin],
            cwd=PROJECT,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert len({out for out, _ in told}) == 2


def test_a_home_that_cannot_be_made_is_named_and_not_taken_for_the_database(
    refused: Refused, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("RESUNET_HOME", str(tmp_path / "a file" / "home"))
    told = refused("train", "--data", data)
    assert "locks cannot be written to" in told and "set RESUNET_HOME" in told

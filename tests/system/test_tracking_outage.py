"""A tracking server that goes away in the middle of a training takes nothing with it."""

import os
import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_server import free_port, tracking_server
from train_scene import DEADLINE_S, finished, make_scene
from waiting import until

from pipelines.runs.metric_log import MetricLog
from pipelines.servers import watched_tracking_server
from pipelines.training.schedule import Schedule

# Long enough that most of it happens without the server, however busy the machine is.
LONG = {"epochs": 60, "crop": 32}


def _steps(client: MlflowClient, run: str) -> list[int]:
    return [row.step for row in client.get_metric_history(run, "loss")]


def test_metrics_wait_for_a_server_and_arrive_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder, port, told = tmp_path / "server", free_port(), list[str]()
    client = MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
    with ExitStack() as server:
        server.enter_context(tracking_server(folder, port))
        run = client.create_run("0").info.run_id
        log = MetricLog(client, run, told.append, retry_seconds=0.2)
        log.__enter__()
        log.add(1, {"loss": 0.5})
        until(lambda: _steps(client, run) == [1])
    began = time.monotonic()
    log.add(2, {"loss": 0.4})
    log.add(3, {"loss": 0.3})
    assert time.monotonic() - began < 0.1, "training does not wait for the server"
    until(lambda: len(told) == 1)
    time.sleep(1)  # some more failures, which are not told of
    with tracking_server(folder, port):
        until(lambda: len(told) == 2)
        # As after a kill: the checkpoint knows a step that was never sent, and others that were.
        log.fill({step: {"loss": 1 / step} for step in (1, 2, 3)})
        with MetricLog(client, run, told.append) as resumed:
            resumed.fill({step: {"loss": 1 / step} for step in (1, 2, 3, 4)})
        log.__exit__(None, None, None)
        assert _steps(client, run) == [1, 2, 3, 4]
    assert "does not answer" in told[0] and "goes on" in told[0] and str(port) in told[0]
    assert "is back" in told[1] and len(told) == 2


def test_metrics_that_never_arrive_are_an_error_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told: list[str] = []
    client = MlflowClient(tracking_uri=f"http://ada:secret@127.0.0.1:{free_port()}")
    with pytest.raises(MlflowException), MetricLog(client, "0123", told.append) as log:
        log.add(1, {"loss": 0.5})
        until(lambda: len(told) == 1)
    assert "secret" not in told[0]


def test_what_is_filled_in_goes_out_in_the_order_of_its_steps() -> None:
    client, steps = MagicMock(get_metric_history=lambda run, name: []), range(25, 325, 25)
    with MetricLog(client, "0123", print) as log:
        log.fill({step: {"loss": 1 / step} for step in steps})
    sent = [row.step for call in client.log_batch.call_args_list for row in call.kwargs["metrics"]]
    assert sent == list(steps)


def test_two_kinds_of_rows_of_one_step_are_both_filled_in() -> None:
    client = MagicMock(get_metric_history=lambda run, name: [])
    with MetricLog(client, "0123", print) as log:
        log.add(50, {"dice": 0.8})
        log.fill({25: {"dice": 0.7}, 50: {"dice": 0.8}})
        log.fill({25: {"loss": 0.4}, 50: {"loss": 0.3}})
    sent = [(row.key, row.step) for call in client.log_batch.call_args_list for row in call.kwargs["metrics"]]
    assert sorted(sent) == [("dice", 25), ("dice", 50), ("loss", 25), ("loss", 50)]


@pytest.mark.timeout(500)
def test_a_training_outlives_its_tracking_server(tmp_path: Path) -> None:
    folder, port = tmp_path / "server", free_port()
    with watched_tracking_server(folder, port) as server:
        scene = make_scene(server.url, tmp_path / "a scene")
        process = scene.start(scene.train(**LONG), MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
        checkpoint = until(
            lambda: next((scene.home / "checkpoints").glob("*.ckpt"), None), seconds=DEADLINE_S, every=0.01
        )
        os.killpg(server.process.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 2, output[-3000:]
    assert output.count("does not answer") == 1 and "training goes on without it" in output
    assert len(re.findall(r"^step \d+ ", output, re.MULTILINE)) == 12
    last = output.strip().splitlines()[-1]
    assert last.startswith(f"error: the tracking server did not take run {checkpoint.stem} (")
    assert last.endswith(f"all that was learnt is in {checkpoint}: when the server is back, give the same command "
                         f"with --resume {checkpoint.stem}")  # fmt: skip
    assert "Traceback" not in output

    with tracking_server(folder, port):
        output = finished(scene.start(scene.train("--resume", checkpoint.stem, **LONG)))
        (version,) = scene.versions()
        run = scene.client.get_run(checkpoint.stem)
        assert version.run_id == checkpoint.stem and run.info.status == "FINISHED"
        assert re.findall(r"^step \d+ ", output, re.MULTILINE) == []
        history = scene.client.get_metric_history(checkpoint.stem, "validation_dice")
        planned = Schedule.parse(run.data.params["schedule_taken"])
        assert [row.step for row in history] == [knot.step for knot in planned.knots if knot.evaluated]
        epochs = [row.step for row in scene.client.get_metric_history(checkpoint.stem, "epoch_loss")]
        steps = int(run.data.params["steps_taken"])
        assert epochs == list(range(epochs[0], steps + 1, epochs[0]))
    assert not checkpoint.exists()

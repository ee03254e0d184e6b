"""A drift report that cannot be made: what is said, and what is left behind in MLflow."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
from drift_scene import UNTIL, Report, Scene, last_run, live, post, reference_frame, register

from monitoring.tracking import find_version, report_run
from resunet.errors import SettingsError, VersionError


def test_a_database_that_is_gone_leaves_a_failed_run(scene: Scene, report: Report) -> None:
    Path(scene.log.removeprefix("sqlite:///")).unlink()
    code, _, errors = report(*UNTIL)
    assert code == 2
    assert "does not exist" in errors and "RESUNET_INFERENCE_LOG" in errors
    entry = last_run(scene.client)
    assert entry.info.status == "FAILED"
    assert "does not exist" in entry.data.tags["error"]
    assert "verdict" not in entry.data.tags


def test_a_broken_database_leaves_a_failed_run(scene: Scene, report: Report) -> None:
    path = Path(scene.log.removeprefix("sqlite:///"))
    path.write_bytes(b"not a database " * 100)
    code, _, errors = report(*UNTIL)
    assert code == 2
    assert "cannot be used" in errors
    assert last_run(scene.client).info.status == "FAILED"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--stage", "Staging"), "no version of 'resunet' is in Staging: promote one with"),
        (("--stage", "Nowhere"), "MLflow does not accept this"),
        (("--version", "99"), "no registered model 'resunet' version 99"),
        (("--model", "nothing"), "no registered model 'nothing': train one with"),
        (("--window", "1 day"), "30m, 24h or 7d"),
        (("--until", "noon"), "not a date and time"),
        (("--route", "side"), "'side' is not a route"),
    ],
)
def test_what_cannot_be_answered_is_said_with_what_to_do(
    report: Report, arguments: tuple[str, ...], sentence: str
) -> None:
    code, _, errors = report(*arguments)
    assert code == 2
    assert sentence in errors.replace("\n", " ")


def test_a_folder_that_cannot_take_the_report_is_told_before_the_work(
    scene: Scene, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUNET_MONITORING_EXPERIMENT", "never begun")
    post(scene, live(10, 40), version="1")
    (tmp_path / "taken").write_text("a file in the way")
    out = tmp_path / "taken" / "below"
    code, printed, errors = report(*UNTIL, "--out", str(out))
    assert (code, printed) == (2, "")
    assert f"error: --out {out} cannot be written" in errors
    assert len(errors.splitlines()) == 1
    assert scene.client.get_experiment_by_name("never begun") is None


def test_a_disk_that_fills_up_leaves_a_failed_run_and_a_sentence(
    scene: Scene, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(scene, live(11, 40), version="1")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")

    # No disk can be filled here; the copy to --out is the last that writes.
    monkeypatch.setattr("shutil.copytree", full)
    code, _, errors = report(*UNTIL, "--out", str(tmp_path / "out"))
    assert code == 2
    assert errors.startswith("error: this was not foreseen: No space left on device: /somewhere.")
    assert "Traceback" not in errors
    assert last_run(scene.client).info.status == "FAILED"


def test_a_changed_reference_is_refused(scene: Scene, report: Report) -> None:
    version = register(scene.client, "changed", reference_frame(np.random.default_rng(8), 60))
    source = scene.client.get_model_version("changed", version).source
    assert source is not None
    path = Path(source.removeprefix("file://")) / "artifacts/version/reference.parquet"
    reference_frame(np.random.default_rng(9), 60).to_parquet(path)
    post(scene, live(9, 40), version=version, name="changed")
    code, _, errors = report(*UNTIL, "--model", "changed")
    assert code == 2
    assert "is not the one it was registered with" in errors
    assert last_run(scene.client).info.status == "FAILED"


def test_a_version_without_a_reference_is_refused(scene: Scene, report: Report) -> None:
    scene.client.create_registered_model("bare")
    version = scene.client.create_model_version("bare", str(scene.home))
    post(scene, live(9, 40), version=str(version.version), name="bare")
    code, _, errors = report(*UNTIL, "--model", "bare", "--version", str(version.version))
    assert code == 2
    assert "has no artifacts/version/reference.parquet" in errors


def test_of_several_versions_in_production_the_newest_is_watched(scene: Scene) -> None:
    register(scene.client, "several", reference_frame(np.random.default_rng(1), 30))
    second = register(scene.client, "several", reference_frame(np.random.default_rng(2), 30), "None")
    assert find_version(scene.client, "several").version == "1"
    scene.client.transition_model_version_stage("several", second, "Production")
    assert find_version(scene.client, "several").version == "2"
    assert find_version(scene.client, "several", version="1").version == "1"


def test_no_report_is_left_open_and_no_other_run_is_closed(scene: Scene) -> None:
    client = scene.client
    for error, status in (
        (SystemExit(143), "KILLED"),
        (VersionError("gone"), "FAILED"),
        (OSError(), "FAILED"),
    ):
        with pytest.raises(type(error)), report_run(client, "endings", "one", {}) as run_id:
            raise error
        assert client.get_run(run_id).info.status == status
    home = client.get_experiment_by_name("endings")
    assert home is not None
    training = client.create_run(home.experiment_id).info.run_id
    # As a `kill -9` leaves it.
    with report_run(client, "endings", "lost", {}) as lost:
        pass
    client.update_run(lost, status="RUNNING")
    with report_run(client, "endings", "soon after", {}):
        assert client.get_run(lost).info.status == "RUNNING"
    with report_run(client, "endings", "a day after", {}, now=time.time() + 86_400):
        assert client.get_run(lost).info.status == "KILLED"
        assert client.get_run(training).info.status == "RUNNING"


def test_a_deleted_experiment_is_said(scene: Scene) -> None:
    client = scene.client
    client.delete_experiment(client.create_experiment("deleted"))
    with pytest.raises(SettingsError, match="is deleted"), report_run(client, "deleted", "one", {}):
        pass

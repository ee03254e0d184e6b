"""What a drift report says: a real tracking store, a real inference log, Evidently, a real browser."""

import base64
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from browser import FLAGS, chromium
from drift_scene import NOON, UNTIL, Report, Scene, evaluated, last_run, live, post, reference_frame, register
from waiting import until

from monitoring.evidently_report import Page, Row, run_evidently
from monitoring.sheet import SHEET_FILE
from pipelines.servers import free_port
from records.log_database import open_log
from records.watch.reports import latest_reports
from resunet.descriptors import PREDICTION_DESCRIPTORS

DEADLINE_S = 120.0


def history(workspace: Path) -> list[tuple[str, datetime, list[str]]]:
    """What `evidently ui` has to show: project, time and tags of each report. Its files are read by its own server."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("evidently")), "ui", "--workspace", str(workspace)]
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    with workspace.with_name("ui.log").open("wb") as log:
        ui = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log, env=environment
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", trust_env=False, timeout=DEADLINE_S) as http:
            until(lambda: answers(http), seconds=DEADLINE_S)
            found = []
            for project in http.get("/projects").json():
                for report in http.get(f"/projects/{project['id']}/reports").json():
                    page = http.get(f"/projects/{project['id']}/{report['id']}/data").json()
                    assert page["widgets"]
                    # Its lines over time.
                    assert len(http.get(f"/v2/dashboards/{project['id']}").json()["panels"]) == 3
                    found.append((project["name"], datetime.fromisoformat(report["timestamp"]), report["tags"]))
            return found
    finally:
        ui.terminate()
        ui.wait(30)


def answers(http: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return http.get("/version").status_code == 200
    return False


def test_shifted_images_are_drift_with_what_moved_on_top(scene: Scene, report: Report, tmp_path: Path) -> None:
    post(scene, live(1, 150, brightness=1.5, sharpness=-1.0, confidence=-1.2), version="1")
    post(scene, live(2, 40), version="7")
    out = tmp_path / "a folder"
    code, printed, _ = report(*UNTIL, "--out", str(out))
    assert code == 3
    assert "drift: 3 of 22 descriptors moved, most of all brightness +11 %, " in printed
    assert "Left out: 40 rows of other versions." in printed
    assert "Looks like: brighter images: a longer exposure, more light; blurred: out of focus" in printed
    rows = [line for line in printed.splitlines() if "→ " in line and "SD" in line]
    assert ["brightness" in rows[0], "grey levels" in rows[0], "+1.6 SD" in rows[0]] == [True] * 3
    assert len(rows) == 3

    result = json.loads((out / "drift.json").read_text())
    assert (result["verdict"], result["rows"], result["model_version"]) == ("drift", 150, "1")
    assert [c["column"] for c in result["columns"] if c["moved"]] == ["brightness", "confidence", "sharpness"]
    assert result["columns"][0]["live_mean"] == pytest.approx(65.0, abs=1)
    assert result["rows_left_out"] == {"rows of other versions": 40}
    assert {c["reference_rows"] for c in result["columns"] if c["side"] == "input"} == {210}
    assert {c["reference_rows"] for c in result["columns"] if c["side"] == "prediction"} == {90}

    entry = last_run(scene.client)
    assert entry.info.status == "FINISHED"
    version = scene.client.get_model_version("resunet", "1")
    wanted = {
        "model_name": "resunet",
        "model_version": "1",
        "version_digest": version.tags["version_digest"],
        "window_start": (NOON - timedelta(days=1)).isoformat(),
        "window_end": NOON.isoformat(),
        "verdict": "drift",
    }
    assert {key: entry.data.tags.get(key) for key in wanted} == wanted
    assert "| brightness (grey levels) | moved |" in entry.data.tags["mlflow.note.content"]
    metrics = entry.data.metrics
    assert (metrics["rows"], metrics["rows_left_out"]) == (150, 40)
    assert metrics["share_drifted"] == pytest.approx(3 / 22)
    assert metrics["drift.effect.brightness"] == pytest.approx(result["columns"][0]["effect"])
    assert metrics["drift.p_value.brightness"] < 0.001 < 0.1 < metrics["drift.p_value.mean_r"]
    assert metrics["drift.p_value"] < 0.01
    assert {test["name"] for test in result["tests"]} == {"gaps", "shift", "strangers", "energy"}
    assert {file.path for file in scene.client.list_artifacts(entry.info.run_id)} == {
        "drift.json",
        "drift.png",
        "evidently.html",
        "evidently.json",
    }
    assert (out / "drift.png").read_bytes()[:4] == b"\x89PNG"

    assert history(scene.home / "evidently") == [("resunet", NOON, ["drift"])]
    drawn = json.loads((out / "evidently.json").read_text())["metrics"]
    (moved,) = [one["value"]["count"] for one in drawn if "DriftedColumnsCount" in one["config"]["type"]]
    assert moved == 3

    (row,) = latest_reports(open_log(scene.log), "resunet", kind="window by hand")
    assert (row.verdict, row.rows, row.window_end, row.run_id) == ("drift", 150, NOON, entry.info.run_id)
    assert row.moved == ("brightness", "confidence", "sharpness")
    assert row.p_value == pytest.approx(metrics["drift.p_value"])
    assert row.summary.startswith("drift: 3 of 22 descriptors moved, most of all brightness +11 %, ")


def test_images_like_the_training_images_are_no_drift(scene: Scene, report: Report) -> None:
    post(scene, live(3, 150), version="1")
    code, printed, _ = report(*UNTIL, "--brief")
    assert code == 0
    assert printed.startswith("no drift: none of 22 descriptors moved [resunet version 1, 2026-03-01 12:00")
    assert len(printed.splitlines()) == 1
    assert last_run(scene.client).data.tags["verdict"] == "no drift"


def test_embeddings_that_moved_are_drift_though_no_descriptor_did(scene: Scene, report: Report, tmp_path: Path) -> None:
    # Of 64 numbers each is off by a little, which tells in all of them together.
    post(scene, live(3, 150, embedding=0.4), version="1")
    code, printed, _ = report(*UNTIL, "--brief", "--out", str(tmp_path))
    assert code == 3
    assert printed.startswith("drift: embeddings of the predictions moved [resunet version 1")
    alarms = [test for test in json.loads((tmp_path / "drift.json").read_text())["tests"] if test["alarm"]]
    assert [(test["side"], test["name"]) for test in alarms] == [("prediction", "energy")]
    metrics = last_run(scene.client).data.metrics
    assert metrics["drift.test.prediction.energy"] == alarms[0]["p_value"] <= alarms[0]["level"]
    assert metrics["share_drifted"] == 0


@pytest.fixture(scope="module")
def scored(store: Scene) -> str:
    """A version of the model `scored` whose Dice is 0.1 below its confidence on 80 test images."""
    rng = np.random.default_rng(20)
    return register(store.client, "scored", reference_frame(rng, 300), scores=evaluated(rng, 80, too_sure=0.1))


def test_dice_is_estimated_of_images_like_the_tested_ones(
    scene: Scene, report: Report, scored: str, tmp_path: Path
) -> None:
    frame = live(3, 150)
    post(scene, frame, version=scored, name="scored")
    code, printed, _ = report(*UNTIL, "--model", "scored", "--out", str(tmp_path))
    assert code == 0
    metrics = last_run(scene.client).data.metrics
    dice, low, high = (metrics[f"dice.estimated{which}"] for which in ("", ".low", ".high"))
    # What the test images taught of the confidence is in it.
    assert dice == pytest.approx(frame["confidence"].mean() - 0.1, abs=0.01)
    assert dice - 0.03 < low < dice < high < dice + 0.03
    assert f"Estimated mean Dice, without labels: {dice:.3f} (90% interval {low:.3f} … {high:.3f})." in printed
    told = json.loads((tmp_path / "drift.json").read_text())
    assert [told[f"estimated_{which}"] for which in ("dice", "low", "high")] == [dice, low, high]
    assert told["estimate_declined"] is None
    (row,) = latest_reports(open_log(scene.log), "scored", kind="window by hand")
    assert (row.estimated_dice, row.estimated_low, row.estimated_high) == (dice, low, high)


def test_of_a_window_that_has_drifted_no_dice_is_estimated_though_its_masks_look_as_sure(
    scene: Scene, report: Report, scored: str, tmp_path: Path
) -> None:
    # As sure as ever, with embeddings as ever: nothing but the verdict tells that the estimate is not to be believed.
    post(scene, live(3, 150, brightness=1.5), version=scored, name="scored")
    code, printed, _ = report(*UNTIL, "--model", "scored", "--out", str(tmp_path))
    assert code == 3
    assert "Dice was not estimated: outside what can be estimated: the window has drifted" in " ".join(printed.split())
    assert not [name for name in last_run(scene.client).data.metrics if name.startswith("dice")]
    told = json.loads((tmp_path / "drift.json").read_text())
    assert [told[f"estimated_{which}"] for which in ("dice", "low", "high")] == [None] * 3
    assert told["estimate_declined"].startswith("outside what can be estimated")
    (row,) = latest_reports(open_log(scene.log), "scored", kind="window by hand")
    assert (row.estimated_dice, row.estimated_low, row.estimated_high) == (None, None, None)


def test_a_report_by_hand_counts_for_no_policy_and_leaves_the_schedule_s_where_it_is(
    scene: Scene, report: Report
) -> None:
    post(scene, live(2, 60, brightness=1.5), version="1")
    engine = open_log(scene.log)
    assert report(*UNTIL, "--brief", "--counts")[0] == 3
    (scheduled,) = latest_reports(engine, "resunet")
    # Whoever tries a limit of their own, on the very window.
    assert report(*UNTIL, "--brief", "--min-rows", "100")[0] == 2
    assert latest_reports(engine, "resunet") == [scheduled] and scheduled.verdict == "drift"
    assert [row.verdict for row in latest_reports(engine, "resunet", kind="window by hand")] == ["too few rows"]
    assert report(*UNTIL, "--brief", "--min-rows", "100", "--counts")[0] == 2
    (again,) = latest_reports(engine, "resunet")
    assert again.verdict == "too few rows"
    engine.dispose()


def test_too_few_rows_are_no_verdict(scene: Scene, report: Report) -> None:
    post(scene, live(4, 5), version="1")
    post(scene, live(4, 30), version="1", route="batch")
    code, printed, errors = report(*UNTIL)
    assert (code, printed) == (2, "")
    assert "holds 5 rows of resunet version 1 (left out: 30 rows on the route batch); at least 20" in errors
    entry = last_run(scene.client)
    assert (entry.info.status, entry.data.tags["verdict"]) == ("FINISHED", "too few rows")
    (row,) = latest_reports(open_log(scene.log), "resunet", kind="window by hand")
    assert (row.verdict, row.p_value, row.rows) == ("too few rows", None, 5)
    assert "share_drifted" not in entry.data.metrics
    assert report(*UNTIL, "--min-rows", "4", "--brief")[0] == 0
    assert report(*UNTIL, "--route", "batch", "--brief")[0] == 0


def test_an_empty_log_is_no_verdict(scene: Scene, report: Report) -> None:
    code, _, errors = report(*UNTIL)
    assert code == 2
    assert "holds 0 rows of resunet version 1; at least 20 are needed" in errors


def test_constant_and_missing_descriptors_do_not_break_a_report(scene: Scene, report: Report, tmp_path: Path) -> None:
    reference = reference_frame(np.random.default_rng(5), 60)
    reference["saturation"] = 0.0
    reference["hue_spread"] = np.nan
    reference = reference.drop(columns=["noise"])
    reference.loc[40:, list(PREDICTION_DESCRIPTORS)] = np.nan
    version = register(scene.client, "odd", reference)
    frame = live(6, 40)
    frame["saturation"] = 0.4
    frame["entropy"] = np.nan
    post(scene, frame, version=version, name="odd")
    code, printed, _ = report(*UNTIL, "--model", "odd", "--out", str(tmp_path))
    assert code == 3
    result = json.loads((tmp_path / "drift.json").read_text())
    assert [c["column"] for c in result["columns"] if c["moved"]] == ["saturation"]
    reasons = {left["column"]: left["reason"] for left in result["not_compared"]}
    assert set(reasons) == {"hue_spread", "noise", "entropy", *PREDICTION_DESCRIPTORS}
    assert reasons["entropy"] == "the window holds 0 values, 20 are needed"
    assert "hue_spread was not compared: the reference holds 0 values, 10 are needed." in printed


def test_no_kept_image_goes_to_mlflow_with_a_report(scene: Scene, report: Report, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 255, (30, 64, 64, 3), dtype=np.uint8)
    kept = [cv2.imencode(".png", one)[1].tobytes() for one in pixels]
    post(scene, live(9, 30, brightness=4.0), version="1", kept=kept)
    assert len(list((scene.home / "images").glob("*-*/*/*.image"))) == 30
    out = tmp_path / "out"
    assert report(*UNTIL, "--brief", "--out", str(out))[0] == 3
    # They are shown, to who asked for the folder.
    assert (out / SHEET_FILE).is_file()
    entry = last_run(scene.client)
    local = Path(scene.client.download_artifacts(entry.info.run_id, "", str(tmp_path / "artifacts")))
    files = {path.relative_to(local).as_posix(): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    assert files.keys() == {"drift.json", "drift.png", "evidently.html", "evidently.json"}
    everything = b"".join(files.values())
    for image in kept:
        # Neither as it was sent nor within a page.
        assert image not in everything and base64.b64encode(image[:300]) not in everything
    # Nor drawn anew, on the sheet.
    assert (out / SHEET_FILE).read_bytes() not in everything
    assert files["drift.png"] == (out / "drift.png").read_bytes() != (out / SHEET_FILE).read_bytes()
    tags = "".join(entry.data.tags.values()) + "".join(entry.data.params.values())
    answers = {path.name.partition(".")[0] for path in (scene.home / "images").rglob("*.image")}
    assert not any(answer in tags or answer.encode() in everything for answer in answers)


def test_a_large_window_is_sampled(
    scene: Scene, report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESUNET_MONITORING_SAMPLE_ROWS", "100")
    monkeypatch.setenv("RESUNET_MONITORING_EXPERIMENT", "elsewhere")
    frame = live(7, 400)
    post(scene, frame, version="1")
    code, printed, _ = report(*UNTIL, "--out", str(tmp_path))
    assert code == 0
    assert "A sample of 100 of the 400 rows was compared; the live means are of all." in printed
    result = json.loads((tmp_path / "drift.json").read_text())
    assert (result["rows"], result["rows_looked_at"]) == (400, 100)
    # A hundred were tested; the means are of all.
    assert {c["live_rows"] for c in result["columns"]} == {400}
    for column in result["columns"]:
        assert column["live_mean"] == pytest.approx(frame[column["column"]].mean()), column["column"]
    assert last_run(scene.client, "elsewhere").data.metrics["rows"] == 400


@pytest.mark.browser
def test_the_page_opens_without_a_network(tmp_path: Path) -> None:
    command = [chromium(), "--headless", *FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
    rng = np.random.default_rng(12)
    # Evidently's own test would find that "contrast" drifted, too; the page says what we say.
    values = {
        name: (rng.normal(size=100), rng.normal(shift, 1, 60))
        for name, shift in {"brightness": 0.0, "contrast": 1.0, "noise": 3.0}.items()
    }
    rows = {name: Row(0.004, name == "noise", 0.5, ("1", "2", "+1 SD")) for name in values}
    run_evidently(values, Page("resunet version 5", "Moved: …", "drift", rows), tmp_path, NOON)
    shown = subprocess.run(
        [*command, (tmp_path / "evidently.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    ).stdout
    # The page's data lies in a script: only what that drew counts.
    shown = re.sub(r"<script.*?</script>", "", shown, flags=re.DOTALL)
    assert "resunet version 5" in shown
    blocks = [shown.index(f"Drift in column '{name}'") for name in ("noise", "brightness", "contrast")]
    assert blocks == sorted(blocks)
    assert shown.count("Data drift detected") == 1
    assert shown.count("Data drift not detected") == 2
    assert "js-plotly-plot" in shown

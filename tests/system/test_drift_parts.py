"""What a report says of the slices and versions of its window: the real log of either database, a real browser."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import FLAGS, chromium
from drift_scene import UNTIL, Report, Scene, last_run, live, post, reference_frame, register

from records.log_database import open_log

HOSTILE = "<script>document.title='owned'</script>\n[red]|`x` ![](http://127.0.0.1:9/x)" + 10_000 * "x"
DEADLINE_S = 120.0


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(scene: Scene, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The scene with its log in either database."""
    if request.param == "sqlite":
        return scene
    url = str(request.getfixturevalue("postgres_url"))
    open_log(url).dispose()
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", url)
    return Scene(scene.uri, scene.home, url)


def two_sites(seed: int, a: int, b: int, **moved: float) -> tuple[pd.DataFrame, list[str | None]]:
    """Images of two sites in turn, of which the second's have moved."""
    frame = pd.concat([live(seed, a), live(seed + 1, b, **moved)], ignore_index=True)
    return frame, ["site=A"] * a + ["site=B"] * b


def one_line(printed: str) -> str:
    return " ".join(printed.split())


def test_the_slice_that_alone_has_drifted_is_named_with_what_moved(
    report: Report, anywhere: Scene, tmp_path: Path
) -> None:
    frame, slices = two_sites(1, 110, 40, brightness=5.0)
    post(anywhere, frame, version="1", slices=slices)
    code, printed, _ = report(*UNTIL, "--out", str(tmp_path))
    assert code == 3
    assert (
        "By slice: all of it is in slice site=B (27% of the images): without it none of the descriptors moved"
    ) in one_line(printed)
    found = json.loads((tmp_path / "drift.json").read_text())["slices"]
    assert found["blame"] | {"share": 0, "part": 0} == {
        "kind": "all", "names": ["site=B"], "rest": "no drift", "share": 0, "part": 0
    }  # fmt: skip
    b, a = found["shown"]
    assert (b["name"], b["rows"], a["name"], a["rows"]) == ("site=B", 40, "site=A", 110)
    assert b["part"] + a["part"] == pytest.approx(1)
    assert b["part"] > 0.8
    assert [move["column"] for move in b["moves"]] == ["brightness"]
    assert b["moves"][0]["effect"] > 0.9
    assert a["moves"] == []
    assert re.search(r"site=B *│ +40 │ +27% │ +\d+% │ brightness \+\d+ % \(\d+\.\d+ → \d+\.\d+ grey", printed)
    assert "verdict is that of all images together" in one_line(printed)
    assert "By slice: all of it is in slice site=B" in last_run(anywhere.client).data.tags["mlflow.note.content"]


def test_where_every_slice_has_drifted_none_is_blamed(scene: Scene, report: Report) -> None:
    post(scene, live(1, 120, brightness=2.0), version="1", slices=["site=A", "site=B", "site=C"] * 40)
    code, printed, _ = report(*UNTIL)
    assert code == 3
    assert "By slice: none stands out, each bears about its share of the drift." in one_line(printed)


def test_a_window_without_drift_says_nothing_of_its_slices(scene: Scene, report: Report) -> None:
    post(scene, live(3, 120), version="1", slices=["site=A", None, "site=C"] * 40)
    code, printed, _ = report(*UNTIL)
    assert code == 0
    assert "slice" not in printed


def test_other_versions_are_shown_beside_the_one_that_is_watched(
    report: Report, anywhere: Scene, tmp_path: Path
) -> None:
    frame = live(5, 60, confidence=-3.0)
    post(anywhere, frame, version="1", images="scan")
    post(anywhere, frame.assign(confidence=frame["confidence"] + 0.1), version="2", route="shadow", images="scan")
    code, printed, _ = report(*UNTIL, "--out", str(tmp_path))
    assert code == 3
    assert "Version 2 sees the same images otherwise (on 60 same images: confidence 0.8" in one_line(printed)
    (other,) = json.loads((tmp_path / "drift.json").read_text())["other_versions"]
    assert (other["version"], other["rows"], other["same_images"], other["images"]) == ("2", 60, 60, [])
    assert [one["column"] for one in other["predictions"] if one["differs"]] == ["confidence"]


def test_a_slice_that_the_version_was_trained_on_is_compared_with_its_own_images(
    scene: Scene, report: Report, tmp_path: Path
) -> None:
    reference = reference_frame(np.random.default_rng(9), 200)
    of_b = np.arange(len(reference)) % 4 == 0
    reference["brightness"] += np.where(of_b, 30.0, 0.0)
    manifest = pd.DataFrame(
        {"path": reference["path"], "group": None, "slice:site": np.where(of_b, "B", "A"), "slice:stain": None}
    )
    version = register(scene.client, "sites", reference, manifest=manifest)
    frame, slices = two_sites(11, 20, 60)
    frame["brightness"] += np.where(np.array(slices) == "site=B", 30.0, 0.0)
    post(scene, frame, version=version, name="sites", slices=slices)
    code, printed, _ = report(*UNTIL, "--model", "sites", "--out", str(tmp_path))
    assert code == 3
    b, a = json.loads((tmp_path / "drift.json").read_text())["slices"]["shown"]
    assert (b["name"], b["own"], b["moves"], a["own"], a["moves"]) == ("site=B", True, [], True, [])
    assert b["reference_share"] == pytest.approx(0.25)
    assert "75% (trained on 25%)" in one_line(printed)


@pytest.mark.browser
def test_hostile_names_of_slices_do_nothing_to_page_and_terminal(scene: Scene, report: Report, tmp_path: Path) -> None:
    frame, slices = two_sites(7, 60, 60, brightness=5.0)
    post(scene, frame, version="1", slices=[HOSTILE if name == "site=B" else "site=A" for name in slices])
    code, printed, _ = report(*UNTIL, "--out", str(tmp_path))
    assert code == 3
    name = "·script·document.title='owned'·/script·…"
    assert f"all of it is in slice {name} (50% of the images)" in one_line(printed)
    assert "\x1b" not in printed
    assert 1_000 * "x" not in printed
    for file in ("evidently.html", "evidently.json", "drift.json"):
        assert "<script>document.title" not in (tmp_path / file).read_text()
        assert 100 * "xx" not in (tmp_path / "drift.json").read_text()
    command = [chromium(), "--headless", *FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
    page = subprocess.run(
        [*command, (tmp_path / "evidently.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    ).stdout
    shown = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<title>owned" not in page
    assert name in shown
    assert "By slice. The verdict is that of all images together" in shown

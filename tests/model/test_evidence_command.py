"""`python -m pipelines evidence`: what goes wrong is one sentence, and what was found before is kept."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from audit_database import no_audit_database  # noqa: F401
from evidence_scene import NAME, QUIET, Scene, environment_without
from PIL import Image

from pipelines.evidence.command import EvidenceOptions, measure_evidence
from records import evidence as kept
from records.database import open_database
from resunet.errors import ResunetError, SettingsError

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("short_measurements")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (EvidenceOptions("nobody", "1"), "there is no registered model 'nobody'; there is: tiny"),
        (EvidenceOptions(NAME, "9"), "tiny has no version '9'; there is: 1, 2"),
        (EvidenceOptions(NAME, "one"), "tiny has no version 'one'"),
        (EvidenceOptions(NAME, "1", stage="Live"), "'Live' is not a stage to promote to"),
        (EvidenceOptions(NAME, "1", only="scores,speed"), "no evidence of a kind speed; there is dependencies, data"),
        (EvidenceOptions(NAME, "1", data="nowhere", only="data"), "the data set of version 1 is not at"),
        (EvidenceOptions(NAME, "1", where="stain=c", only="data"), "stain"),
        (EvidenceOptions(NAME, "1", groups="nowhere.csv", only="data"), "nowhere.csv"),
    ],
)
def test_wrong_input_is_one_sentence(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, options: EvidenceOptions, told: str
) -> None:
    scene.enter(monkeypatch)
    with pytest.raises(ResunetError, match=re.escape(told)) as refused:
        measure_evidence(options, QUIET)
    assert "\n" not in str(refused.value)


def _evidence(scene: Scene, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "evidence", *words],
        cwd=PROJECT,
        env={**environment_without(scene), **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_command_prints_that_sentence_and_exits_2(scene: Scene) -> None:
    ran = _evidence(scene, NAME, "9")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.strip() == "error: tiny has no version '9'; there is: 1, 2"


def test_a_changed_test_image_is_one_sentence_and_what_was_found_before_is_kept(scene: Scene, tmp_path: Path) -> None:
    data = Path(shutil.copytree(scene.data.root, tmp_path / "data"))
    path = scene.data.manifest.loc[scene.data.manifest["split"] == "test", "path"].iloc[0]
    Image.new("RGB", (64, 64)).save(data / path)
    home = tmp_path / "home"
    ran = _evidence(scene, NAME, "1", "--data", str(data), RESUNET_HOME=str(home))
    assert ran.returncode == 2 and "test images of version 1 are not in data as they were" in ran.stderr
    assert path in ran.stderr and "Traceback" not in ran.stderr
    found = kept.find(open_database(f"sqlite:///{home / 'records.db'}"), scene.version("1").digest)
    assert path in found["data"].content and "dependencies" in found and "robustness" not in found


def test_a_tracking_server_that_is_away_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    with pytest.raises(SettingsError, match=r"the tracking server http://127.0.0.1:1 says"):
        measure_evidence(EvidenceOptions(NAME, "1"), QUIET)


def test_where_nobody_noted_the_data_set_it_is_asked_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.enter(monkeypatch)
    name = "without a place"
    number = scene.register(name)
    scene.client.delete_tag(scene.client.get_model_version(name, number).run_id, "data_set")
    with pytest.raises(SettingsError, match=f"nobody noted where the data set of version {number}"):
        measure_evidence(EvidenceOptions(name, number, only="lineage"), QUIET)
    options = EvidenceOptions(name, number, only="lineage", data=str(scene.data.root))
    assert measure_evidence(options, QUIET) == ["lineage"]
    monkeypatch.setenv("RESUNET_DATA", str(scene.data.root))
    assert measure_evidence(EvidenceOptions(name, number, only="lineage"), QUIET) == ["lineage"]

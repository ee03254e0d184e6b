"""The stage drop-down of the real MLflow UI, in a real browser, on a guarded server."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest
from gate_evidence import overlap
from mlflow import MlflowClient
from promotion_desk import POLICY, ROOT, Desk
from ready_tables import with_tables
from small_versions import evaluation, lineage, scores
from version_factory import draw, encode, write_version

from pipelines.runs.register import log_version, register_version
from pipelines.servers import GUARDED, scoring_server, tracking_server
from records.database import open_database
from registry.evidence import Evaluation
from registry.settings import RegistrySettings
from serving.requirements import model_requirements

try:
    from playwright import sync_api
except ImportError:
    sync_api = None

DEADLINE_MS = 60_000


@pytest.fixture
def page(browser: "sync_api.Browser") -> Iterator["sync_api.Page"]:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(DEADLINE_MS)
    yield page
    page.close()


def use_stages(page: "sync_api.Page") -> None:
    """Switch to the pages that show stages, as the README tells."""
    switch = page.get_by_role("switch", name="New model registry UI")
    switch.wait_for()
    if switch.get_attribute("aria-checked") == "true":
        switch.click()
        page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    page.locator(".mlflow-stage-transition-dropdown").wait_for()


def choose(page: "sync_api.Page", stage: str) -> None:
    """Pick a stage and confirm."""
    dropdown = page.locator(".mlflow-stage-transition-dropdown")
    dropdown.click()
    page.get_by_role("menuitem").filter(has_text=stage).click()
    dialog = page.get_by_role("dialog").filter(has_text=re.compile("Stage transition", re.IGNORECASE))
    dialog.get_by_role("button", name="OK").click()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A model on a guarded server of its own."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "policy.yaml").write_text(POLICY)
    own = {"RESUNET_HOME": str(home), "RESUNET_POLICY": str(home / "policy.yaml"), "RESUNET_DATABASE": ""}
    with tracking_server(with_tables(tmp_path / "server"), app=GUARDED, environment=own) as url:
        yield Desk(
            MlflowClient(tracking_uri=url),
            open_database(f"sqlite:///{home / 'records.db'}"),
            "drop-down",
            tmp_path,
            RegistrySettings(home=home, policy=home / "policy.yaml"),
        )


def register_real(client: MlflowClient, name: str, folder: Path, measured: Evaluation) -> str:
    """Register a version that can be served, as a training does; its number."""
    write_version(folder)
    measured.write(folder)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        with mlflow.start_run() as run:
            logged = log_version(folder, model_requirements(ROOT / "pyproject.toml"))
    finally:
        mlflow.set_tracking_uri(before)
    return register_version(client, logged, name, run.info.run_id, {"version_digest": logged.digest})


@pytest.mark.browser
def test_the_drop_down_is_refused_with_the_gates_name_and_after_the_check_the_same_clicks_promote(
    page: "sync_api.Page", desk: Desk, tmp_path: Path
) -> None:
    client, name, url = desk.client, desk.name, desk.client.tracking_uri
    before = desk.version(0.90)
    assert desk.command("promote", name, before, "Production").returncode == 0
    measured = evaluation(scores(0.91), "sha256:a")
    version = register_real(client, name, tmp_path / "version", measured)
    page.goto(f"{url}/#/models/{name}/versions/{version}")
    use_stages(page)
    choose(page, "Production")
    toast = page.get_by_text(re.compile(r"not measured yet \(version \d+ is live\): .*floor")).first
    sync_api.expect(toast).to_be_visible(timeout=DEADLINE_MS)
    sync_api.expect(page.get_by_text(f"python -m registry check {name} {version}").first).to_be_visible()
    assert client.get_model_version(name, version).current_stage == "None"

    desk.plant(version, measured)
    desk.plant(version, lineage(measured))
    desk.plant(version, overlap(measured, desk.tested[before]), beside=before)
    checked = desk.command("check", name, version, "--stage", "Production")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    page.reload()
    use_stages(page)
    for stage in ("Staging", "Production"):
        choose(page, stage)
        shown = page.locator(".mlflow-stage-transition-dropdown")
        sync_api.expect(shown).to_contain_text(stage, timeout=DEADLINE_MS)
    # The dialog's box that archives what was there is off, as it comes.
    assert client.get_model_version(name, before).current_stage == "Archived"
    assert client.get_model_version_by_alias(name, "champion").version == version
    assert desk.rows()[-4:] == [
        ("refuse", version, "None", "Production"),
        ("promote", version, "None", "Staging"),
        ("displace", before, "Production", "Archived"),
        ("promote", version, "Staging", "Production"),
    ]
    image = base64.b64encode(encode(draw(48, 64))).decode()
    body = {"dataframe_split": {"columns": ["image"], "data": [[image]]}}
    with scoring_server(f"models:/{name}/Production", url, log=tmp_path / "serve.log") as scoring:
        answer = httpx.post(f"{scoring}/invocations", json=body, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["predictions"]
    assert (row["model_version"], row["width"], row["height"]) == (version, 64, 48)

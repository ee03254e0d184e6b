"""The stage drop-down of the real MLflow UI, in a real browser."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from small_versions import evaluation, register, scores

try:
    from playwright import sync_api
except ImportError:
    sync_api = None

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DEADLINE_MS = 60_000


@pytest.fixture(scope="module")
def page() -> Iterator["sync_api.Page"]:
    found = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if found is None or sync_api is None:
        missing = "Python package `playwright`" if sync_api is None else "system package `chromium`"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs a browser: install the {missing}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(DEADLINE_MS)
        yield page
        browser.close()


def use_stages(page: "sync_api.Page") -> None:
    """Switch to the pages that show stages, as the README tells."""
    switch = page.get_by_role("switch", name="New model registry UI")
    switch.wait_for()
    if switch.get_attribute("aria-checked") == "true":
        switch.click()
        page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    page.locator(".mlflow-stage-transition-dropdown").wait_for()


def choose(page: "sync_api.Page", stage: str) -> None:
    """Pick a stage, confirm, and wait until the page shows it."""
    dropdown = page.locator(".mlflow-stage-transition-dropdown")
    dropdown.click()
    page.get_by_role("menuitem").filter(has_text=stage).click()
    dialog = page.get_by_role("dialog").filter(has_text=re.compile("Stage transition", re.IGNORECASE))
    dialog.get_by_role("button", name="OK").click()
    sync_api.expect(dialog).to_be_hidden(timeout=DEADLINE_MS)
    sync_api.expect(dropdown).to_contain_text(stage, timeout=DEADLINE_MS)


@pytest.mark.browser
def test_the_stage_drop_down_moves_a_version_to_production(
    page: "sync_api.Page", tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(tracking_uri=tracking_uri)
    name = "drop-down"
    version = register(client, name, tmp_path / "model", evaluation(scores(0.9)))
    page.goto(f"{tracking_uri}/#/models/{name}/versions/{version}")
    use_stages(page)
    for stage in ("Staging", "Production"):
        choose(page, stage)
        assert client.get_model_version(name, version).current_stage == stage
    # Whoever loads by stage, as `mlflow models serve` does, has only the two URIs of its environment.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", tracking_uri)
    loaded = Path(download_artifacts(f"models:/{name}/Production", dst_path=str(tmp_path / "loaded")))
    assert f"model_version: '{version}'" in (loaded / "registered_model_meta").read_text()

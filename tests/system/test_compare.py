"""Reports on a plain server by the commands that people type, and the comparison's page in a real browser."""

import json
import re
from pathlib import Path

import pytest
from report_scene import ReportScene, make_home, make_scene

try:
    from playwright import sync_api
except ImportError:
    sync_api = None


@pytest.fixture(scope="module")
def made(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> ReportScene:
    folder = tmp_path_factory.mktemp("reports")
    return make_scene(tracking_uri, folder, "reported", make_home(folder))


@pytest.fixture(scope="module")
def page(made: ReportScene) -> Path:
    target = made.folder / "1-2.html"
    done = made.typed("compare", made.name, "1", "2", "--html", str(target), "--examples", "2")
    assert done.returncode == 0, done.stderr
    assert f"page: {target}" in done.stderr
    return target


def test_compare_prints_both_versions_and_what_differs(made: ReportScene) -> None:
    done = made.command("compare", made.name, "1", "2")
    assert done.returncode == 0, done.stderr
    for told in ("version 1 and version 2", "dice", "stain=a", "train", "width", "all files"):
        assert told in done.stdout, told
    found = json.loads(made.typed("compare", made.name, "1", "2", "--json").stdout)
    assert {row["name"]: (row["first"], row["second"]) for row in found["parameters"]}["width"] == ("4", "5")
    added = sum(len(part["added"]) for part in found["splits"])
    assert (added, sum(len(part["removed"]) for part in found["splits"])) == (12, 0)
    assert found["paired"]["images"]


def test_what_is_decided_is_shown_told_and_listed(made: ReportScene) -> None:
    """The last of the story: versions are measured, promoted and rolled back as people do it."""
    for version in ("1", "2"):
        for words in (("check",), ("promote", "Production", "--reason", f"try {version}", "--actor", "ada")):
            done = made.typed(words[0], made.name, version, *words[1:])
            assert done.returncode == 0, done.stderr
    assert made.typed("rollback", made.name, "--reason", "false positives", "--actor", "grace").returncode == 0
    told = made.typed("show", made.name, "2").stdout
    for words in ("Archived; version 1 is live", "pass: intact, floor", "by ada: try 2", "engine onnxruntime"):
        assert words in told, told
    told = made.typed("changelog", made.name).stdout
    assert "## Rolled back to version 1, in place of version 2" in told and "by grace: false positives" in told
    assert re.search(r"against version 1 on the same \d+ images: Dice [+-]0\.\d{4} \[", told), told
    assert "`width` 4 → 5" in told and "train 35 → " in told
    rows = json.loads(made.typed("audit", made.name, "--actor", "ada", "--action", "promote", "--json", "-").stdout)
    assert [(row["version"], row["reason"]) for row in rows] == [("1", "try 1"), ("2", "try 2")]
    assert made.typed("audit", "verify").returncode == 0


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (380, "dark")])
def test_the_page_shows_both_versions_and_the_images_and_asks_nobody(
    page: Path, browser: "sync_api.Browser", width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    opened = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.goto(page.as_uri())
    sync_api.expect(opened.get_by_role("heading", level=1)).to_have_text("reported: version 1 and version 2")
    for version in ("version 1", "version 2"):
        sync_api.expect(opened.locator("#scores th", has_text=re.compile(f"^{version}$"))).to_be_visible()
    images = opened.locator("#examples img")
    sync_api.expect(images).to_have_count(8)
    for place in range(8):
        image = images.nth(place)
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.complete && image.naturalWidth > 100 && image.clientWidth > 60")
    # Nothing is wider than the window: what does not fit scrolls in its own place.
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(level) for level in re.findall(r"\d+", ground)[:3]) > 380
    assert light == (scheme == "light")
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert said == []
    context.close()


def test_without_the_data_set_the_page_is_made_without_images(made: ReportScene) -> None:
    target = made.folder / "bare.html"
    done = made.typed("compare", made.name, "1", "2", "--html", str(target), "--data", str(made.folder / "gone"))
    assert done.returncode == 0, done.stderr
    assert "is not on this machine; --data names it" in done.stderr
    text = target.read_text(encoding="utf-8")
    assert "<img" not in text and "is not on this machine" in text


def test_a_page_that_cannot_be_written_is_refused_before_any_work(made: ReportScene) -> None:
    done = made.typed("compare", made.name, "1", "2", "--html", str(made.folder / "nowhere" / "x.html"))
    assert (done.returncode, "there is no folder" in done.stderr) == (2, True)

"""The pages in a real browser, before a real server with a real version: an image is dropped, its mask is seen."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from page_server import VERSION, page_server
from version_factory import draw, encode
from watched_page import PATIENCE, Watched, pixels, watch

from resunet.palette import CLASS_COLOURS, levels
from serving.access.keys import KeyStore
from serving.predictor import Predictor

try:
    from playwright import sync_api
except ImportError:
    sync_api = None

IMAGE = draw(120, 160, seed=5)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("versions")
    store = KeyStore(folder / "keys" / "keys.json")
    _, key = store.add("a person", {"predict"})
    with (
        page_server(folder / "spots") as spots,
        page_server(folder / "classes", classes=3) as classes,
        page_server(folder / "locked", store=store) as locked,
    ):
        yield {"spots": spots, "classes": classes, "locked": locked, "folder": str(folder), "key": key}


@pytest.fixture
def visit(browser: "sync_api.Browser") -> Iterator[Any]:
    contexts = []

    def opened(url: str, **settings: Any) -> Watched:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **settings})
        contexts.append(context)
        return watch(context, url)

    yield opened
    for context in contexts:
        context.close()


def elsewhere(watched: Watched, url: str) -> list[str]:
    return [asked for asked in watched.asked if not asked.startswith((url, f"blob:{url}", "data:"))]


def predicted(servers: dict[str, str], name: str, rgb: NDArray[np.uint8]) -> Any:
    return Predictor.load(Path(servers["folder"]) / name / "artifacts" / "version", "onnxruntime", threads=1).predict(
        rgb
    )


def inner(mask: NDArray[np.uint8], value: int) -> NDArray[np.bool_]:
    """Pixels of a class whose neighbours are of it too: no line runs there."""
    framed = np.pad(mask == value, 2, mode="edge")
    moved = [np.roll(framed, (y, x), (0, 1)) for y in range(-2, 3) for x in range(-2, 3)]
    return np.logical_and.reduce(moved)[2:-2, 2:-2]


@pytest.mark.browser
def test_a_dropped_image_is_shown_with_its_mask_its_confidence_and_the_version(
    servers: dict[str, str], visit: Any
) -> None:
    url, prediction = servers["spots"], predicted(servers, "spots", IMAGE)
    watched = visit(url)
    watched.drop(encode(IMAGE))
    watched.wait("result")
    assert watched.text("confidence") == f"{prediction.confidence:.2f}"
    assert (watched.text("version"), watched.text("size")) == (VERSION, "160 × 120")
    assert re.fullmatch(r"\d+ ms|\d+\.\d s", watched.text("time"))
    assert re.fullmatch("[0-9a-f]{32}", watched.text("request"))
    found = re.fullmatch(r"([\d.]+) % of the image", watched.text("found"))
    assert found and abs(float(found[1]) / 100 - prediction.foreground_fractions[0]) < 0.006
    inside, outside = inner(prediction.mask, 255), inner(prediction.mask, 0)
    assert inside.sum() > 100 and outside.sum() > 1000
    seen, colour = watched.seen(), np.array(levels(CLASS_COLOURS[0]))
    np.testing.assert_array_equal(seen[outside], IMAGE[outside])
    assert np.abs(seen[inside] - (0.45 * colour + 0.55 * IMAGE[inside])).max() <= 2
    # One request each for the page's three files and the image; nothing of others, and nothing to complain of.
    assert [asked.removeprefix(url) for asked in watched.asked if asked.startswith(url)] == [
        *("", "page/page.css", "page/page.js"),
        "segment?view=mask",
    ]
    assert elsewhere(watched, url) == [] and watched.said == []


@pytest.mark.browser
def test_opacity_and_outline_are_set_from_the_keyboard(servers: dict[str, str], visit: Any) -> None:
    watched = visit(servers["spots"])
    watched.drop(encode(IMAGE))
    watched.wait("result")
    mask, colour = predicted(servers, "spots", IMAGE).mask, np.array(levels(CLASS_COLOURS[0]))
    inside, ground = inner(mask, 255), mask == 0
    watched.page.locator("#opacity").focus()
    watched.page.keyboard.press("End")
    assert watched.text("percent") == "100 %"
    assert (watched.seen()[inside] == colour).all()
    # The line is thinner than a pixel of so small an image: it is seen between the middles of two.
    large, outside = np.kron(IMAGE, np.ones((3, 3, 1), np.uint8)), np.kron(ground, np.ones((3, 3), np.bool_))
    darker = (watched.seen(3) < large).any(axis=2) & outside
    assert darker.sum() > 500 and not darker[np.kron(inner(mask, 0), np.ones((3, 3), np.bool_))].any()
    watched.page.keyboard.press("Tab")
    watched.page.keyboard.press("Space")
    np.testing.assert_array_equal(watched.seen(3)[outside], large[outside])
    watched.page.locator("#opacity").focus()
    watched.page.keyboard.press("Home")
    np.testing.assert_array_equal(watched.seen(3), large)


@pytest.mark.browser
def test_a_file_is_chosen_by_keyboard_or_pasted_and_the_next_one_replaces_it(
    servers: dict[str, str], visit: Any
) -> None:
    watched = visit(servers["spots"])
    watched.page.keyboard.press("Tab")  # the link to the API
    watched.page.keyboard.press("Tab")
    with watched.page.expect_file_chooser() as choosing:
        watched.page.keyboard.press("Enter")
    choosing.value.set_files([{"name": "first.png", "mimeType": "image/png", "buffer": encode(IMAGE)}])
    watched.wait("result")
    first = watched.text("request")
    watched.paste(encode(draw(64, 96)), "second.png")
    sync_api.expect(watched.page.locator("#size")).to_have_text("96 × 64", timeout=PATIENCE)
    assert watched.text("caption") == "second.png" and watched.text("request") != first
    assert watched.said == []


@pytest.mark.browser
def test_an_answer_that_comes_after_the_next_image_is_not_shown(servers: dict[str, str], visit: Any) -> None:
    watched = visit(servers["spots"])
    held: list[sync_api.Route] = []
    ended: list[str] = []
    watched.page.on("requestfailed", lambda request: ended.append(request.url))

    def hold_the_first(route: "sync_api.Route") -> None:
        if held:
            route.continue_()
        held.append(route)

    watched.page.route("**/segment*", hold_the_first)
    with watched.page.expect_request("**/segment*"):
        watched.drop(encode(IMAGE), "first.png")
    watched.drop(encode(draw(64, 96)), "second.png")
    watched.wait("result")
    assert (watched.text("size"), watched.text("caption"), len(held)) == ("96 × 64", "second.png", 2)
    assert len(ended) == 1, "what nobody waits for is not waited for"
    assert not watched.page.locator("#problem").is_visible() and not watched.page.locator("#progress").is_visible()


@pytest.mark.browser
def test_classes_have_colours_of_their_own_and_a_legend(servers: dict[str, str], visit: Any) -> None:
    watched, prediction = visit(servers["classes"]), predicted(servers, "classes", IMAGE)
    watched.drop(encode(IMAGE))
    watched.wait("legend")
    assert [line.split("\n")[0] for line in watched.page.locator("#legend li").all_inner_texts()] == ["dim", "bright"]
    watched.page.locator("#opacity").fill("100")
    for value, colour in enumerate(CLASS_COLOURS[:2], 1):
        inside = prediction.mask == value
        assert inside.any() and (watched.seen()[inside] == levels(colour)).all()
    assert watched.said == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["cells.tif", "cells.TIFF"])
def test_a_tiff_is_shown_as_the_server_draws_it(servers: dict[str, str], visit: Any, name: str) -> None:
    watched = visit(servers["spots"])
    content = encode(IMAGE, "TIFF")
    watched.drop(content, name, "")
    watched.wait("result")
    answer = httpx.post(f"{servers['spots']}segment?format=json&view=overlay", files={"image": content}).json()
    np.testing.assert_array_equal(watched.seen(), pixels(answer["overlay"]))
    assert watched.page.locator("#pictured").is_visible() and not watched.page.locator("#opacity").is_visible()
    assert watched.said == []


@pytest.mark.browser
def test_what_the_server_refuses_is_told_in_its_own_sentence(servers: dict[str, str], visit: Any) -> None:
    watched = visit(servers["spots"])
    watched.drop(b"no image at all", "notes.txt", "text/plain")
    watched.wait("problem")
    assert watched.text("sentence").startswith("The file is not an image of an accepted format; send PNG")
    assert watched.page.get_by_role("alert").is_visible() and not watched.page.locator("#again").is_visible()
    watched.drop(encode(draw(8, 100)), "flat.png")
    sync_api.expect(watched.page.locator("#sentence")).to_have_text(
        re.compile("too small: it is 100 x 8"), timeout=PATIENCE
    )
    watched.drop(encode(IMAGE))
    watched.wait("result")
    assert not watched.page.locator("#problem").is_visible()
    assert all("status of 400" in said for said in watched.said), watched.said


@pytest.mark.browser
def test_a_key_is_asked_for_sent_and_not_remembered(servers: dict[str, str], visit: Any) -> None:
    watched = visit(servers["locked"])
    watched.drop(encode(IMAGE))
    watched.wait("problem")
    assert watched.text("sentence") == "This server asks for an API key, and the request brings none."
    assert watched.page.evaluate("document.activeElement.id") == "key"
    watched.page.keyboard.type("ключ")
    watched.page.keyboard.press("Enter")
    sync_api.expect(watched.page.locator("#sentence")).to_have_text(re.compile("no API key"), timeout=PATIENCE)
    watched.page.locator("#key").fill(servers["key"])
    watched.page.locator("#key").press("Enter")
    watched.wait("result")
    kept = "[localStorage.length, sessionStorage.length, document.cookie]"
    assert watched.page.evaluate(kept) == [0, 0, ""]
    watched.page.reload()
    assert watched.page.locator("#key").input_value() == ""


@pytest.mark.browser
def test_a_server_that_is_gone_is_told_and_asked_again(servers: dict[str, str], visit: Any) -> None:
    watched = visit(servers["spots"])
    watched.page.context.set_offline(True)
    watched.drop(encode(IMAGE))
    watched.wait("again")
    assert watched.text("sentence").startswith("The server cannot be reached.")
    watched.page.context.set_offline(False)
    watched.page.locator("#again").click()
    watched.wait("result")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_page_fits_its_window_and_follows_the_colour_scheme(
    servers: dict[str, str], visit: Any, width: int, scheme: str
) -> None:
    watched = visit(servers["spots"], viewport={"width": width, "height": 800}, color_scheme=scheme)
    for step in ("empty", "done"):
        if step == "done":
            watched.drop(encode(IMAGE), "a_name_without_any_place_to_break_it" * 5 + ".png")
            watched.wait("result")
        assert watched.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), step
        ground = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(level) for level in re.findall(r"\d+", ground)[:3]) > 380) == (scheme == "light")


@pytest.mark.browser
def test_the_api_is_documented_without_the_network_and_tried_from_there(servers: dict[str, str], visit: Any) -> None:
    url = servers["spots"]
    watched = visit(f"{url}docs")
    watched.page.get_by_text("Segment an image").click()
    watched.page.get_by_role("button", name="Try it out").click()
    sent = {"name": "a.png", "mimeType": "image/png", "buffer": encode(IMAGE)}
    watched.page.locator(".opblock-section-request-body input[type=file]").set_input_files(sent)
    watched.page.get_by_role("button", name="Execute").click()
    answer = watched.page.locator(".live-responses-table")
    sync_api.expect(answer).to_contain_text("x-model-version: 7", timeout=PATIENCE)
    assert elsewhere(watched, url) == []
    assert watched.said == []

"""The page of a comparison: it is HTML, it holds all it shows, and texts of others stay texts."""

import base64
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from small_versions import evaluation, with_digests

from registry.evidence import Evaluation, SliceResult
from registry.reports.compare import Comparison, Sizes
from registry.reports.differences import Differs, Speed, SplitChange
from registry.reports.examples import PICTURES, Drawn, Example
from registry.reports.page import render
from registry.reports.paired import compare_evaluations
from registry.reports.reader import Activity
from registry.reports.show import Shown

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\nnot really"
VOID = {"meta", "img"}


class Checked(HTMLParser):
    """Reads a page and notes what is wrong with it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str]] = []
        self.text = ""
        self.cells: list[int] = []
        self.rows: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if len(named) != len(attrs):
            self.wrong.append(f"an attribute of <{tag}> is there twice")
        if "id" in named:
            self.ids.append(named["id"])
        self.links += [value for name, value in named.items() if name in ("src", "href", "action", "data", "srcset")]
        if tag == "img":
            self.images.append(named)
        if tag in ("tr", "table"):
            self.cells.append(0)
        if tag in ("td", "th") and self.cells:
            self.cells[-1] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")
        if tag == "tr":
            self.rows.append(self.cells.pop())
        if tag == "table":
            if len(set(self.rows)) != 1:
                self.wrong.append(f"rows of {self.rows} cells")
            self.rows.clear()
            self.cells.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data


def read(page: str) -> Checked:
    found = Checked()
    found.feed(page)
    found.close()
    if found.open:
        found.wrong.append(f"never closed: {found.open}")
    return found


def measured(dice: float, seed: int) -> Evaluation:
    rng = np.random.default_rng(seed)
    found = with_digests(evaluation({f"images/{p}.png": float(dice + rng.normal(0, 0.03)) for p in range(12)}))
    images = [s.model_copy(update={"slices": ["stain=<a>" if p else "stain=b"]}) for p, s in enumerate(found.per_image)]
    parts = {
        name: SliceResult(images=sum(name in s.slices for s in images), metrics=found.overall)
        for name in ("stain=<a>", "stain=b")
    }
    return found.model_copy(update={"per_image": images, "slices": parts})


def shown(version: str) -> Shown:
    told = dict.fromkeys(("signature", "live", "parent", "commit", "working_tree"), "")
    nothing = dict.fromkeys(("pins", "verdicts", "approvals", "decisions", "notices"), ())
    return Shown(
        **told,
        **nothing,
        model="re<s>unet",
        version=version,
        stage="Production",
        aliases=["champion"],
        created=NOON,
        digest="sha256:1",
        tags={},
        run=None,
        fingerprint="sha256:2",
        precision="fp32",
        engine="onnxruntime",
        evaluation=None,
        activity=Activity(),
    )


@pytest.fixture
def comparison() -> Comparison:
    paired = compare_evaluations(measured(0.85, 1), measured(0.9, 2))
    return Comparison(
        model="re<s>unet",
        first=shown("6"),
        second=shown("7"),
        paired=paired,
        metrics=paired.metrics,
        slices=paired.slices,
        splits=[SplitChange("train", 2, 3, ["images/<new>.png"], [], [f"{p}.png" for p in range(500)])],
        parameters=[Differs("width", "8", "16"), Differs("where", '"><script>alert(1)</script>', "x" * 400)],
        requirements=[Differs("numpy", "==2.0", "")],
        sizes=Sizes(10_000_000, 20_000_000, 1, 2),
        speed=Speed(True, 10.0, 12.0, 100.0, None, "onnxruntime, 256 px, a machine"),
        notices=["something & <something>", "a bell \x07 and a \x00"],
    )


def drawn(*paths: str) -> Drawn:
    names = {kind: f"{kind}.png" for kind in PICTURES}
    examples = [
        Example(path=p, width=448, height=300, first=0.5, second=0.75, brighter=2.0, pictures=names) for p in paths
    ]
    return Drawn(examples, {name: PNG + name.encode() for name in names.values()}, ["images/9.png is not shown: lost"])


def test_the_page_is_html_that_holds_together(comparison: Comparison) -> None:
    page = render(comparison, drawn("images/1.png", "images/2.png"), NOON)
    found = read(page)
    assert page.startswith("<!DOCTYPE html>\n<html lang=")
    assert found.wrong == []
    assert len(set(found.ids)) == len(found.ids) > 5
    assert "{{" not in page and "{%" not in page


def test_the_page_asks_no_server(comparison: Comparison) -> None:
    page = render(comparison, drawn("images/1.png"), NOON)
    links = read(page).links
    assert len(links) == len(PICTURES)
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert re.search(r"url\(|@import|<script|<link|https?:", page) is None
    assert "default-src 'none'" in page


def test_both_versions_their_numbers_and_what_differs_are_on_the_page(comparison: Comparison) -> None:
    text = re.sub(r"\s+", " ", read(render(comparison, Drawn(), NOON)).text)
    assert "re<s>unet: version 6 and version 7" in text
    assert comparison.paired is not None
    row = comparison.paired.metrics["dice"]
    assert row.difference is not None
    for number in (row.first, row.second):
        assert number is not None and f"{number.mean:.4f} [{number.low:.4f}, {number.high:.4f}]" in text
    assert f"{row.difference.mean:+.4f} [{row.difference.low:+.4f}, {row.difference.high:+.4f}]" in text
    for told in ("stain=<a> 11 and 11 images", "width816", "numpy==2.0–", "10.0 ms12.0 ms1.20 ×", "train: 1 added"):
        assert told in text, told
    assert "Version 7 is shown to be better" in text
    assert "2026-03-01 12:00:00 UTC" in text


def test_each_example_shows_its_four_pictures(comparison: Comparison) -> None:
    found = read(render(comparison, drawn("images/1.png"), NOON))
    assert [base64.b64decode(i["src"].split(",")[1]) for i in found.images] == [
        PNG + f"{kind}.png".encode() for kind in PICTURES
    ]
    assert [image["alt"] for image in found.images] == [
        "images/1.png, image, shown brighter",
        "images/1.png, truth",
        "images/1.png, version 6: Dice 0.500",
        "images/1.png, version 7: Dice 0.750",
    ]
    assert all((image["width"], image["height"]) == ("448", "300") for image in found.images)
    assert "images/9.png is not shown: lost" in found.text


def test_texts_of_others_stay_texts(comparison: Comparison) -> None:
    page = render(comparison, Drawn(), NOON)
    assert "<script" not in page and "<new>" not in page and "\x00" not in page and "\x07" not in page
    assert '"><script>alert(1)</script>' in read(page).text
    assert "x" * 120 + "…" in page and "x" * 121 not in page
    assert "and 300 more" in page


def test_bars_lie_where_the_intervals_do(comparison: Comparison) -> None:
    page = render(comparison, Drawn(), NOON)
    bars = [(float(a), float(b)) for a, b in re.findall(r'class="bar" d="M([\d.]+) 8H([\d.]+)"', page)]
    assert len(bars) == 3  # Dice, and the two slices
    assert all(80 < low < high <= 154 for low, high in bars[:2])
    # One image says nothing: its interval fills the width, and the others are not drawn the smaller for it.
    assert bars[2] == (6.0, 154.0)


def test_what_is_not_known_leaves_no_empty_section(comparison: Comparison) -> None:
    bare = Comparison(
        comparison.model, comparison.first, comparison.second, None, {}, {}, [], [], [], Sizes(0, 0, 0, 0), None, []
    )
    found = read(render(bare, Drawn(), NOON))
    assert found.wrong == []
    assert found.ids == ["versions", "running"]

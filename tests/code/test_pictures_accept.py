"""Which form of an answer a client gets, by its Accept header and by the URL."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from resunet.errors import ResunetError, SettingsError
from serving.errors import NotAcceptableError, status_of
from serving.pictures.accept import OFFERS, Wanted, choose

MASK, JSON = Wanted("png"), Wanted("json")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def chosen(accept: str | None = None, url: str = "") -> Wanted:
    return choose(accept, QueryParams(url))


@pytest.mark.parametrize("accept", [None, "", "  ", "*/*", "image/*", "image/png", "IMAGE/PNG", BROWSER])
def test_who_says_nothing_else_gets_the_mask(accept: str | None) -> None:
    assert chosen(accept) == MASK


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("application/*", JSON),
        ("application/json;format=rle", Wanted("rle")),
        ("application/json;format=coco", Wanted("coco")),
        ("application/json; format=contours", Wanted("contours")),
        ("application/json;view=overlay", Wanted("json", "overlay")),
        ("image/png;view=mask", MASK),
        ("image/png;view=overlay", Wanted("png", "overlay")),
        ('image/png; view="overlay"', Wanted("png", "overlay")),
        ("image/png;view=probability", Wanted("png", "probability")),
        ("image/png;view=probability;depth=16;class=dim", Wanted("png", "probability", 16, "dim")),
    ],
)
def test_the_header_names_a_form(accept: str, wanted: Wanted) -> None:
    assert chosen(accept) == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("view=overlay", Wanted("png", "overlay")),
        ("view=probability&depth=16&class=2", Wanted("png", "probability", 16, "2")),
        ("format=png", MASK),
        ("format=json", JSON),
        ("format=json&view=overlay", Wanted("json", "overlay")),
        ("format=rle", Wanted("rle")),
        ("format=coco", Wanted("coco")),
        ("format=contours", Wanted("contours")),
        ("threshold=0.4", MASK),
    ],
)
def test_so_does_the_url_whatever_curl_accepts(url: str, wanted: Wanted) -> None:
    assert chosen("*/*", url) == wanted


def test_every_form_there_is_can_be_asked_for_by_either() -> None:
    for offer in OFFERS:
        view = f"view={offer.view}" if offer.form in ("png", "json") else ""
        assert chosen(None, f"format={offer.form}&{view}") == offer
        assert chosen(f"{offer.media_type};format={offer.form};{view}") == offer


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("image/png;q=0.5, application/json", JSON),
        ("application/json;q=0.5, image/png", MASK),
        ("application/json, image/png", MASK),
        ("image/png;q=0.2, application/json;format=coco;q=0.9, application/json;q=0.3", Wanted("coco")),
        ("image/png;view=mask;q=0, image/png", Wanted("png", "overlay")),
        ("image/png, image/png;view=mask;q=0", Wanted("png", "overlay")),
        ("image/png;q=0, */*;q=0.1", JSON),
        ("application/json;q=0, image/png;q=0.001", MASK),
        ("*/*, application/json;q=0.4", MASK),
        ("image/*;q=0.3, */*;q=0.6", JSON),
        ("image/png;q=nan, application/json", JSON),
        ("image/png;q=much, application/json;q=0.1", JSON),
        (",;,;=, application/json", JSON),
    ],
)
def test_what_is_liked_best_is_sent_and_the_exactest_word_counts(accept: str, wanted: Wanted) -> None:
    assert chosen(accept) == wanted


def test_the_url_leaves_fewer_forms_and_the_header_chooses_among_them() -> None:
    assert chosen("application/json", "view=overlay") == Wanted("json", "overlay")
    assert chosen("image/png, application/json;q=0.9", "format=coco") == Wanted("coco")
    assert chosen("image/png;depth=16;view=probability", "view=probability&depth=8").depth == 8
    with pytest.raises(NotAcceptableError):
        chosen("application/json", "format=png")
    with pytest.raises(NotAcceptableError):
        chosen("image/png", "format=rle")


@pytest.mark.parametrize(
    "accept", ["text/html", "image/jpeg", "image/png;q=0", "*/*;q=0", "image/png;view=map", "nonsense", "image/png;q=2"]
)
def test_what_cannot_be_sent_is_refused_with_all_that_can(accept: str) -> None:
    with pytest.raises(
        NotAcceptableError, match=r"image/png .*overlay.*application/json .*coco or contours"
    ) as refused:
        chosen(accept)
    assert status_of(refused.value) == 406


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("view=map", "view must be mask, overlay or probability"),
        ("format=xml", "format must be png, json, rle, coco or contours"),
        ("format=rle&view=overlay", "format=rle describes the mask"),
        ("depth=16", "depth goes with view=probability"),
        ("view=mask&class=dim", "class goes with view=probability"),
        ("view=probability&depth=12", "depth must be 8 or 16"),
        ("view=probability&class=", "class must be the name"),
        ("view=probability&class=" + "a" * 201, "class must be the name"),
    ],
)
def test_words_of_the_url_that_are_not_understood_are_refused(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        chosen(None, url)
    assert status_of(refused.value) == 400


def test_only_a_view_of_probabilities_shows_them() -> None:
    assert {offer.view for offer in OFFERS if offer.probabilities} == {"probability"}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet='image/png,;=q.0123456789*view overlay"\x00é', max_size=200), st.text(max_size=10))
def test_any_header_and_word_is_answered_or_refused(accept: str, word: str) -> None:
    for query in ({}, {"view": word}, {"format": word}, {"view": "probability", "class": word, "depth": "8"}):
        try:
            assert replaced(choose(accept, query)) in OFFERS
        except ResunetError as error:
            assert status_of(error) in (400, 406)


def replaced(wanted: Wanted) -> Wanted:
    return Wanted(wanted.form, wanted.view)

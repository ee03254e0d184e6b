"""Forms are read as they are sent, and none takes long."""

import pytest

from resunet.errors import ImageError
from serving.gateway import forms
from serving.gateway.forms import read_form

KIND = "multipart/form-data; boundary=x"
FILE = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'


def form(*parts: bytes, boundary: bytes = b"x") -> bytes:
    return b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts) + b"--%s--\r\n" % boundary


def text(name: str, value: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % (name.encode(), value)


@pytest.mark.parametrize("image", [b"\x89PNG\r\n\x1a\n", b"", b"\r\n", b"\r\n--", b"--x", bytes(range(256)) * 300])
def test_the_image_and_the_texts_are_those_that_were_sent(image: bytes) -> None:
    read = read_form(KIND, form(text("threshold", b"0.4"), FILE + image, text("client", "Zürich".encode())))
    assert read.image == image
    assert read.texts == {"threshold": "0.4", "client": "Zürich"}


def test_a_text_of_another_encoding_is_read_too() -> None:
    assert read_form(KIND, form(text("client", "Zürich".encode("latin-1")))).texts == {"client": "Zürich"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (KIND, b""),
        (KIND, form(FILE + b"a")[:-9]),
        (KIND, form(text("image", b"a"))),
        (KIND, form(FILE.replace(b'"image"', b'"picture"') + b"a")),
    ],
    ids=["empty", "cut", "text", "other"],
)
def test_what_has_no_whole_file_image_has_none(kind: str, body: bytes) -> None:
    assert read_form(kind, body).image is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", form(FILE + b"a")),
        ("multipart/form-data; boundary=" + "x" * 300, form(FILE + b"a", boundary=b"x" * 300)),
        (KIND, b"no form"),
        (KIND, form(FILE + b"a", FILE + b"b")),
        (KIND, form(b"Content-Disposition: form-data\r\n\r\na")),
        (KIND, form(b"Content-Type: image/png\r\n\r\na")),
        (KIND, form(b"a: b\r\n" * 100 + FILE + b"a")),
        (KIND, form(b"a" * 100_000)),
        (KIND, form(text("client", b"a" * 100_000))),
        (KIND, form(*[text("client", b"a")] * 100)),
    ],
    ids=["none", "boundary", "no form", "files", "nameless", "headless", "headers", "header", "text", "texts"],
)
def test_what_is_no_form_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(ImageError, match="the form cannot be read"):
        read_form(kind, body)


@pytest.mark.parametrize("again", [b"\r\n--xA", b"\r\n--x\r\n", b"\r\n--x-"])
def test_a_form_made_of_boundaries_never_reaches_the_parser(again: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "MultipartParser", None)
    with pytest.raises(ImageError, match="the form cannot be read"):
        read_form(KIND, form(FILE + again * 100_000))


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_blanks_behind_a_boundary_never_reach_the_parser(blank: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "MultipartParser", None)
    with pytest.raises(ImageError, match="the form cannot be read"):
        read_form(KIND, form(FILE + b"a\r\n--x" + blank * 1_000_000))

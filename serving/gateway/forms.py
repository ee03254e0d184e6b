"""The parts of a form, found where they lie in its body.

    form = read_form(request.headers["content-type"], body)
    form.image, form.texts["threshold"]

Reading takes a thread's time, some milliseconds for each MB, and belongs on no event loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from resunet.errors import ImageError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# An image and three texts have five. The parser stops at each, and no part may hold any (RFC 2046, section 5.1.1): a
# body that is made of them would take half a second for each MB.
_MOST_BOUNDARIES: Final = 64
_MOST_TEXT_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Form:
    """The bytes of the file `image`, None where there is none, and the parts that are text."""

    image: bytes | None
    texts: Mapping[str, str]


def read_form(content_type: str, body: bytes) -> Form:
    """Read a form of one file and some texts.

    Args:
        content_type: the request's header; it has the boundary.
        body: the request's, whole.

    Raises:
        ImageError: it is no such form.
    """
    try:
        _, options = parse_options_header(content_type)
        parts = _Parts(body)
        boundary = options[b"boundary"]
        _check_boundaries(body, b"\r\n--" + boundary)
        MultipartParser(boundary, parts.callbacks).write(body)
        return parts.form()
    except (FormParserError, KeyError, ValueError):
        raise ImageError("the form cannot be read: send one file, as the part image, and nothing after it") from None


def _check_boundaries(body: bytes, boundary: bytes) -> None:
    """See that the parser has little to look at; blanks behind a boundary it would read one by one."""
    count, at = 0, body.find(boundary)
    while at >= 0:
        count, after = count + 1, at + len(boundary)
        if count > _MOST_BOUNDARIES or body[after : after + 1] in (b" ", b"\t"):
            raise ValueError("a body that takes long to read")
        at = body.find(boundary, after)


@dataclass
class _Part:
    """Where a part's content lies, and what its head says."""

    disposition: bytes = b""
    name: str = ""
    is_file: bool = False
    start: int = 0
    end: int = 0


@dataclass
class _Parts:
    """What the parser tells; all of the body is given to it at once, so that its places are those in the body."""

    body: bytes
    found: list[_Part] = field(default_factory=list)
    part: _Part = field(default_factory=_Part)
    header: bytes = b""

    @property
    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_headers_finished": self._head_ends,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }

    def form(self) -> Form:
        images = [part for part in self.found if part.is_file and part.name == "image"]
        texts = {part.name: self._text(part) for part in self.found if not part.is_file}
        return Form(self.body[images[0].start : images[0].end] if images else None, texts)

    def _begin(self) -> None:
        self.part = _Part()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self.header = data[start:end].lower()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        if self.header == b"content-disposition":
            self.part.disposition = data[start:end]

    def _head_ends(self) -> None:
        _, options = parse_options_header(self.part.disposition)
        self.part.name = _decoded(options[b"name"])
        self.part.is_file = b"filename" in options

    def _data(self, _data: bytes, start: int, end: int) -> None:
        self.part.start, self.part.end = start, end

    def _end(self) -> None:
        if self.part.is_file and any(part.is_file for part in self.found):
            raise ValueError("more than one file")
        self.found.append(self.part)

    def _text(self, part: _Part) -> str:
        if part.end - part.start > _MOST_TEXT_BYTES:
            raise ValueError("a text that is too long")
        return _decoded(self.body[part.start : part.end])


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")

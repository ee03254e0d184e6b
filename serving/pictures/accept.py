"""Which form of an answer a client wants: by its Accept header, by words in the URL, or by both.

    wanted = choose(request.headers.get("accept"), request.query_params)
    wanted.form, wanted.view                            # "png", "mask"

With curl, `FILE` being `--data-binary @a.png -H 'Content-Type: image/png'`:

    curl $FILE …/segment -o mask.png                    # nothing said: the mask as PNG
    curl $FILE …/segment?view=overlay -o overlay.png
    curl $FILE …/segment?format=coco                    # JSON
    curl $FILE …/segment -H 'Accept: application/json'  # JSON with the mask's PNG in base64
    curl $FILE …/segment -H 'Accept: image/png;view=probability;depth=16' -o p.png

`format` is png, json, rle, coco or contours, all but the first of them JSON; `view` is what a picture shows: mask,
overlay or probability. `depth` (8 or 16 bits) and `class` (a name, or its number in the mask) belong to
`view=probability`. What the URL says leaves fewer forms, among which the header chooses (RFC 9110, section 12.5.1);
where it likes several equally, the first of `OFFERS` is sent. Parameters of the header that are none of these are
ignored, and so is a part of it that cannot be read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, cast, get_args

from resunet.errors import SettingsError
from serving.errors import NotAcceptableError

Form = Literal["png", "json", "rle", "coco", "contours"]
View = Literal["mask", "overlay", "probability"]
Depth = Literal[8, 16]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
VIEWS: Final[tuple[View, ...]] = get_args(View)
PICTURES: Final = ("png", "json")
THERE_IS: Final = (
    "there is image/png (view=mask, overlay or probability) and application/json (format=json, rle, coco or contours): "
    "say so in the Accept header, such as image/png;view=overlay, or in the URL, such as ?format=coco"
)
_MOST_RANGES: Final = 100
_MOST_NAME: Final = 200


@dataclass(frozen=True)
class Wanted:
    """One form of an answer.

    Attributes:
        form: PNG, or which JSON.
        view: what the picture shows; of `rle`, `coco` and `contours` always the mask.
        depth: bits of a probability.
        category: the class whose probability is shown, by name or number; None: any foreground.
    """

    form: Form
    view: View = "mask"
    depth: Depth = 8
    category: str | None = None

    @property
    def media_type(self) -> str:
        return "image/png" if self.form == "png" else "application/json"

    @property
    def probabilities(self) -> bool:
        """Whether the network's probabilities are shown, which not every key may see."""
        return self.view == "probability"


OFFERS: Final = (
    Wanted("png"),
    *(Wanted(form) for form in FORMS[1:]),
    *(Wanted(form, view) for view in VIEWS[1:] for form in ("png", "json")),
)


@dataclass(frozen=True)
class _Range:
    """One part of an Accept header: what it fits, how well it is liked, 0 to 1, and what else it says."""

    media_type: str
    parameters: Mapping[str, str]
    quality: float

    def fits(self, offer: Wanted) -> int:
        """How exactly an offer is meant: 0 not at all; any word said of it counts more than none."""
        whole, kind = offer.media_type, offer.media_type.partition("/")[0]
        exactness = {whole: 3, f"{kind}/*": 2, "*/*": 1}.get(self.media_type, 0)
        words = {name: self.parameters[name] for name in ("view", "format") if name in self.parameters}
        meant = {"view": offer.view if offer.form in PICTURES else None, "format": offer.form}
        if any(meant[name] != word for name, word in words.items()):
            return 0
        return exactness and exactness + 3 * len(words)


def choose(accept: str | None, query: Mapping[str, str]) -> Wanted:
    """Choose the form of an answer.

    Args:
        accept: the Accept header; several of them joined by commas; None or empty takes anything.
        query: the URL's parameters, of which `view`, `format`, `depth` and `class` are read.

    Raises:
        SettingsError: the URL's words are unknown, or do not go together.
        NotAcceptableError: the header takes nothing of what there is.
    """
    offers = _asked(query)
    ranges = list(_ranges(accept)) if accept and accept.strip() else [_Range("*/*", {}, 1.0)]
    best, liked = None, 0.0
    for offer in offers:
        fitting = [(part.fits(offer), part) for part in ranges]
        exactness, part = max(fitting, key=lambda fit: fit[0], default=(0, None))
        if part is not None and exactness and part.quality > liked:
            best, liked = (offer, part), part.quality
    if best is None:
        raise NotAcceptableError(f"the Accept header takes nothing of what can be sent; {THERE_IS}")
    return _detailed(best[0], best[1].parameters, query)


def _asked(query: Mapping[str, str]) -> list[Wanted]:
    """The offers that the URL's words leave."""
    view, form = query.get("view"), query.get("format")
    if view is not None and view not in VIEWS:
        raise SettingsError(f"view must be {_either(VIEWS)}")
    if form is not None and form not in FORMS:
        raise SettingsError(f"format must be {_either(FORMS)}")
    if view is not None and form is not None and form not in PICTURES:
        raise SettingsError(f"format={form} describes the mask and has no view: leave view out, or take format=json")
    return [
        offer
        for offer in OFFERS
        if (view is None or (offer.view == view and offer.form in PICTURES)) and (form is None or offer.form == form)
    ]


def _detailed(offer: Wanted, parameters: Mapping[str, str], query: Mapping[str, str]) -> Wanted:
    """An offer with its depth and class; the URL's words before the header's."""
    details = {name: source[name] for source in (parameters, query) for name in ("depth", "class") if name in source}
    if not offer.probabilities:
        if unfit := [name for name in ("depth", "class") if name in query]:
            raise SettingsError(f"{unfit[0]} goes with view=probability alone: leave it out, or ask for that view")
        return offer
    depth, category = details.get("depth", "8"), details.get("class")
    if depth not in ("8", "16"):
        raise SettingsError("depth must be 8 or 16, bits of a probability")
    if category is not None and not 0 < len(category) <= _MOST_NAME:
        raise SettingsError("class must be the name of a class, or its number in the mask")
    return replace(offer, depth=cast(Depth, int(depth)), category=category)


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"


def _ranges(accept: str) -> Iterable[_Range]:
    """The parts of a header that can be read, of the first hundred."""
    for text in accept.split(",")[:_MOST_RANGES]:
        media_type, *rest = (part.strip() for part in text.split(";"))
        pairs = [part.partition("=") for part in rest]
        parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if 0 <= quality <= 1:
            yield _Range(media_type.lower(), parameters, quality)

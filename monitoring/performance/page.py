"""The page of measured performance: one HTML file that needs no other.

write_page(folder / PAGE_FILE, headline, measured, weighing, {"3": folder / "confusion_3.png"}, shown)
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
from jinja2 import Environment, StrictUndefined

from monitoring.performance.window import Measured, Weighing
from monitoring.performance.words import SHOWN, method_text, notes, part_text, score_text
from monitoring.performance.worst import Shown

PAGE_FILE: Final = "performance.html"
TEMPLATE: Final = Path(__file__).with_name("page.html")


def write_page(
    path: Path,
    headline: str,
    rows: Sequence[Measured],
    weighing: Weighing,
    matrices: Mapping[str, Path],
    shown: Sequence[Shown],
) -> None:
    """Write the page.

    Args:
        matrices: pictures of the confusion matrices, by version.
        shown: the images with the lowest Dice.
    """
    # What clients call their requests is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        headline=headline,
        rows=[_row(one) for one in rows],
        method=method_text(rows),
        notes=notes(weighing),
        matrices={version: _embedded(picture.read_bytes()) for version, picture in matrices.items()},
        worst=[_shown(one) for one in shown],
    )
    path.write_text(text, encoding="utf-8")


def _row(one: Measured) -> dict[str, Any]:
    return {
        "version": one.version,
        "part": part_text(one),
        "whole": one.slice is None and one.route is None,
        "images": f"{one.images:,}",
        "cells": [score_text(getattr(one, name), "|").split("|") for name in SHOWN],
    }


def _shown(one: Shown) -> dict[str, Any]:
    row, picture = one.row, None
    if one.picture is not None:
        picture = _embedded(cv2.imencode(".png", one.picture[..., ::-1])[1].tobytes())
    return {
        "picture": picture,
        "image_kept": one.image_kept,
        "dice": f"{row.dice:.3f}",
        "confidence": "" if row.confidence is None else f"{row.confidence:.2f}",
        "version": row.model_version,
        "route": row.route,
        "slice": row.slice,
        "source": row.source,
        "time": f"{row.event_time:%Y-%m-%d %H:%M} UTC",
        "request_id": row.request_id,
    }


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"

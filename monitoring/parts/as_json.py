"""The parts of a window as `drift.json` has them.

json.dumps(as_json(found), allow_nan=False)
"""

import math
from dataclasses import asdict
from typing import Any

from monitoring.parts.blame import Blame
from monitoring.parts.breakdown import Breakdown
from monitoring.parts.names import shown
from monitoring.parts.slices import SliceDrift
from monitoring.parts.versions import OtherVersion


def as_json(found: Breakdown) -> dict[str, Any]:
    """`slices` and `other_versions`; names as they may be shown, the images without one under null."""
    slices = found.slices
    return {
        "slices": {
            "shown": [_slice(one) for one in slices.shown],
            "more": slices.more,
            "more_rows": slices.more_rows,
            "small": slices.small,
            "columns": list(slices.columns),
            "blame": None if found.blame is None else _blame(found.blame),
        },
        "other_versions": [_version(one) for one in found.versions],
    }


def _slice(one: SliceDrift) -> dict[str, Any]:
    return asdict(one) | {"name": _named(one.name)}


def _blame(one: Blame) -> dict[str, Any]:
    return asdict(one) | {"names": [_named(name) for name in one.names]}


def _version(one: OtherVersion) -> dict[str, Any]:
    def known(beside: dict[str, Any]) -> dict[str, Any]:
        return {name: None if isinstance(it, float) and math.isnan(it) else it for name, it in beside.items()}

    made = asdict(one)
    return (
        made
        | {"images": [known(each) for each in made["images"]]}
        | {"predictions": [known(each) for each in made["predictions"]]}
    )


def _named(name: str | None) -> str | None:
    return None if name is None else shown(name)

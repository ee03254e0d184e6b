"""The parts of a window as `drift.json` has them.

json.dumps(as_json(found), allow_nan=False)
"""

from dataclasses import asdict
from typing import Any

from monitoring.parts.blame import Blame
from monitoring.parts.breakdown import Breakdown
from monitoring.parts.names import shown
from monitoring.parts.slices import SliceDrift


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
        "other_versions": [asdict(one) for one in found.versions],
    }


def _slice(one: SliceDrift) -> dict[str, Any]:
    return asdict(one) | {"name": _named(one.name)}


def _blame(one: Blame) -> dict[str, Any]:
    return asdict(one) | {"names": [_named(name) for name in one.names]}


def _named(name: str | None) -> str | None:
    return None if name is None else shown(name)

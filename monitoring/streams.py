"""Exact statistics of a window of any length, from the sketches that are kept up as rows arrive.

    stream = read_stream(engine, "resunet", window)
    stream.counts(version, LIVE_ROUTES)                             # RowCounts: what is compared, what is left out
    live = stream.of(version, LIVE_ROUTES)                          # Summary: rows and columns
    live["brightness"].mean, live["brightness"].quantile(0.5), live["brightness"].gap(reference)
    stream.by("slice", version, LIVE_ROUTES)                        # {"modality=histology": Summary, None: Summary}

Hours that lie in the window as a whole come from their sketches, its ragged ends from the rows. Neither time nor memory
depends on how many rows the whole hours hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Engine

from monitoring.live import RowCounts, why_not_compared
from monitoring.summary import Summary
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.sketch import Sketch
from records.sketch_hours import read_sketches
from records.sketches import OTHER_SLICES, Key

By = Literal["model_version", "route", "slice"]
# What `Stream.by("slice")` calls the rows of those slices that were too many to be told apart.
OTHERS: Final = "(others)"


@dataclass(frozen=True)
class Stream:
    """A window, summed up by version, digest, route, status and slice."""

    groups: Mapping[Key, Sketch]

    def counts(self, version: WatchedVersion, routes: Sequence[str]) -> RowCounts:
        """Count a version's rows on some routes apart from all others of the model."""
        compared, left_out = 0, dict[str, int]()
        for key, sketch in self.groups.items():
            reason = _why_not(key, version, routes)
            if reason is None:
                compared += sketch.rows
            else:
                left_out[reason] = left_out.get(reason, 0) + sketch.rows
        return RowCounts(compared, dict(sorted(left_out.items())))

    def of(self, version: WatchedVersion, routes: Sequence[str]) -> Summary:
        """What the rows that `counts` calls compared look like."""
        return Summary(Sketch.merged(self.groups[key] for key in self._compared(version, routes)))

    def by(self, name: By, version: WatchedVersion | None, routes: Sequence[str]) -> dict[str | None, Summary]:
        """The same, apart by version, route or slice, those with most rows first.

        Args:
            version: None for all versions of the model, by their numbers.

        Returns:
            a summary each. A slice is None where clients gave none; see `read_stream` for OTHERS.
        """
        found: dict[str | None, Sketch] = {}
        for key in self._compared(version, routes):
            called = OTHERS if name == "slice" and key.part == OTHER_SLICES else getattr(key, name)
            found[called] = found.get(called, Sketch.empty()).merge(self.groups[key])
        ranked = sorted(found.items(), key=lambda item: (-item[1].rows, item[0] or ""))
        return {called: Summary(sketch) for called, sketch in ranked}

    def _compared(self, version: WatchedVersion | None, routes: Sequence[str]) -> list[Key]:
        if version is None:
            return [key for key in self.groups if key.status == "ok" and key.route in routes]
        return [key for key in self.groups if _why_not(key, version, routes) is None]


def read_stream(engine: Engine, model_name: str, window: Window, *, all_slices: bool = False) -> Stream:
    """Sum a window up; what of it was logged without sketches is summed up for good on the way.

    Args:
        all_slices: tell every slice apart, however many clients named: each takes memory. Else, where an hour or the
            window has more than `records.sketches.MOST_SLICES` of them, the least ones are under OTHERS together, which
            is as exact for all that is not by slice, and faster.

    Raises:
        RecordsError: the database does not answer.
    """
    found = read_sketches(engine, model_name, window.start, window.end, all_slices=all_slices, mend=True)
    return Stream(found)


def _why_not(key: Key, version: WatchedVersion, routes: Sequence[str]) -> str | None:
    return why_not_compared(version, routes, key.model_version, key.model_digest, key.route, key.status)

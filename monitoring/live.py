"""Which rows of a window a report compares, and why it leaves the others out.

`monitoring.streams` counts and sums those up that are compared, `monitoring.sampling` draws from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from monitoring.tracking import WatchedVersion
from records import log_database
from records.engines import describe, make_engine
from records.schema import LIVE_ROUTES as LIVE_ROUTES
from records.schema import ROUTES
from records.settings import RecordsSettings
from resunet.errors import RecordsError, SettingsError

REFUSED = "refused images"
OTHER_VERSIONS = "rows of other versions"


@dataclass(frozen=True)
class RowCounts:
    """`compared`: rows that count; `left_out`: how many others of the model the window holds, by reason."""

    compared: int
    left_out: dict[str, int] = field(default_factory=dict)


def routes_of(given: Sequence[str] | None) -> tuple[str, ...]:
    """The routes that a command is to look at; of none that are given, all that are live.

    Raises:
        SettingsError: one is no route.
    """
    wrong = [name for name in given or () if name not in ROUTES]
    if wrong:
        raise SettingsError(f"{wrong[0]!r} is not a route: choose from {', '.join(ROUTES)}")
    return tuple(given) if given else LIVE_ROUTES


def open_log(settings: RecordsSettings) -> Engine:
    """Open the database that predictions are logged to, `RESUNET_INFERENCE_LOG` or else `RESUNET_DATABASE`.

    Raises:
        RecordsError: it does not answer, or there is none: making an empty one here would hide that.
    """
    url = settings.inference_log or settings.database_url
    engine = make_engine(url)
    if engine.url.get_backend_name() == "sqlite" and not Path(str(engine.url.database)).is_file():
        raise RecordsError(
            f"{describe(engine)} does not exist, so there are no predictions to look at: set "
            "RESUNET_INFERENCE_LOG to the database that the server logs to, here and where it serves"
        )
    engine.dispose()
    return log_database.open_log(url)


def why_not_compared(
    version: WatchedVersion, routes: Sequence[str], number: str, digest: str, route: str, status: str
) -> str | None:
    """Why a row is not among those that are compared; None where it is."""
    if number != version.version:
        return OTHER_VERSIONS
    if _is_foreign(version, digest):
        return "rows of other bytes under the same version number"
    if route not in routes:
        return f"rows on the route {route}"
    return None if status == "ok" else REFUSED


def _is_foreign(version: WatchedVersion, digest: str) -> bool:
    return bool(version.digest and digest and digest != version.digest)

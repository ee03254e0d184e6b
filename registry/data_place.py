"""Where the data set of a version is, as the run that made the version noted it.

client.set_tags({DATA_TAG: DataPlace("/data/nuclei", where="stain=a").to_tag()})
place = find_data(run.data.tags, settings.data, "version 7 of resunet")

It is a hint, not evidence: what is measured there is compared with the digests in the version's manifest.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from resunet.errors import SettingsError

DATA_TAG: Final = "data_set"


@dataclass(frozen=True)
class DataPlace:
    """A data set as it is given to `pipelines`: folder, slice filter, place of `groups.csv`, slice columns."""

    data: str
    where: str = ""
    groups: str = ""
    slices: str = ""

    def to_tag(self) -> str:
        """JSON, for a run's tag."""
        return TypeAdapter(DataPlace).dump_json(self).decode()

    def options(self) -> list[str]:
        """The same as options of a command; joined, so that no value can pass for an option."""
        return [f"--{name}={value}" for name, value in asdict(self).items() if value]


def find_data(tags: Mapping[str, str], override: Path | None, what: str) -> DataPlace:
    """What a run noted, in the folder that a setting names instead if there is one.

    Args:
        tags: of the run.
        override: RESUNET_DATA.
        what: the version, for the message.

    Raises:
        SettingsError: the run noted nothing, and no setting does.
    """
    try:
        noted = TypeAdapter(DataPlace).validate_json(tags.get(DATA_TAG, ""))
    except ValidationError:
        noted = DataPlace("")
    place = noted if override is None else replace(noted, data=str(override))
    if not place.data:
        raise SettingsError(
            f"nobody noted where the data set of {what} is: set RESUNET_DATA where it is measured, or run "
            "`python -m pipelines evidence` with --data"
        )
    return place
